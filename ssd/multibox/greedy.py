"""Greedy one-to-one matching of many objects to default boxes on the CPU, through the few overlaps that decide it.

Objects in a crowd compete for the same default boxes. Going over all overlaps once for each object takes minutes; here
a few hundred default boxes are matched together, those with the greatest overlaps among the ones that are still free.
Objects alike in place and size share bounds of their overlaps, so most overlaps are never computed.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssd.boxes import area, intersection, iou

_OBJECTS_IN_GROUP = 32  # more in a large crowd
_BOXES_AT_ONCE = 256  # default boxes matched together, at first
_SAMPLE = 16  # objects from whose overlaps the number of all is estimated
_LEAST = float(np.nextafter(np.float32(0), np.float32(1)))
_OVERLAPS_AT_ONCE = 65_536  # stay in the cache
_PAIRS_AT_ONCE = 512  # after so many the free objects and default boxes are looked up again
_MOST_PAIRS = 2_000_000  # sorted at once: 16 MB of keys
_PLACE_BITS = 33  # low bits of a key, for the object and the default box; the 30 bits of the overlap are above them


def neighbours(
    boxes: Float[Tensor, "N 4"], default_boxes: Float[Tensor, "K 4"], low: float = 0.0
) -> Iterator[tuple[Int[Tensor, "n"], Int[Tensor, "k"], Float[Tensor, "n k"]]]:
    """Yield for a few objects at a time their rows, the default boxes near them (both ascending), and the overlaps.

    All other default boxes have an overlap of 0, or below `low`, with each of these objects.
    """
    groups = _groups(boxes)
    greatest = _upper_bounds(boxes[groups], default_boxes)
    yield from _overlaps(boxes, default_boxes, groups, (greatest > 0) & (greatest >= low))


def _overlaps(
    boxes: Float[Tensor, "N 4"],
    default_boxes: Float[Tensor, "K 4"],
    groups: Int[Tensor, "g n"],
    is_near: Bool[Tensor, "g K"],
) -> Iterator[tuple[Int[Tensor, "n"], Int[Tensor, "k"], Float[Tensor, "n k"]]]:
    for group, near in zip(groups, is_near, strict=True):
        columns = near.nonzero()[:, 0]
        if len(columns):
            there = default_boxes[columns]
            for rows in group.split(max(1, _OVERLAPS_AT_ONCE // len(columns))):
                yield rows, columns, iou(boxes[rows], there)


def _upper_bounds(members: Float[Tensor, "g n 4"], default_boxes: Float[Tensor, "K 4"]) -> Float[Tensor, "g K"]:
    """An overlap that no object of a group exceeds.

    Rounding keeps the order of sums, differences, products and quotients, so this bounds the rounded overlaps.
    """
    areas = area(members)
    hull = torch.cat([members[..., :2].amin(dim=1), members[..., 2:].amax(dim=1)], dim=1)
    shared = torch.minimum(intersection(hull, default_boxes), areas.amax(dim=1)[:, None])
    return _quotient(shared, areas.amin(dim=1)[:, None] + area(default_boxes) - shared)


def _lower_bounds(members: Float[Tensor, "g n 4"], default_boxes: Float[Tensor, "K 4"]) -> Float[Tensor, "g K"]:
    """An overlap that every object of a group reaches."""
    core = torch.cat([members[..., :2].amax(dim=1), members[..., 2:].amin(dim=1)], dim=1)
    shared = intersection(core, default_boxes)
    return _quotient(shared, area(members).amax(dim=1)[:, None] + area(default_boxes) - shared)


def _quotient(shared: Float[Tensor, "g K"], union: Float[Tensor, "g K"]) -> Float[Tensor, "g K"]:
    return shared / union.clamp_(min=torch.finfo(union.dtype).tiny)


def _groups(boxes: Float[Tensor, "N 4"]) -> Int[Tensor, "g n"]:
    """Rows of objects alike in place and size, ascending in each group; the last object fills up the groups.

    All groups have one size. They are halved where their corners differ most, and ordered by their last rows.
    """
    size = max(_OBJECTS_IN_GROUP, round(2 * len(boxes) ** 0.5))
    halvings = max(0, (-(-len(boxes) // size) - 1).bit_length())
    size = -(-len(boxes) // 2**halvings)
    groups = torch.arange(size * 2**halvings).clamp(max=len(boxes) - 1)[None]
    for _ in range(halvings):
        corners = boxes[groups]
        widest = (corners.amax(dim=1) - corners.amin(dim=1)).argmax(dim=1)
        order = corners.gather(2, widest[:, None, None].expand(-1, groups.shape[1], 1))[..., 0].argsort(stable=True)
        groups = groups.gather(1, order).view(2 * len(groups), -1)
    groups = groups.sort(dim=1).values
    return groups[groups[:, -1].argsort(stable=True)]


def match_greedily(
    boxes: Float[Tensor, "N 4"], default_boxes: Float[Tensor, "K 4"], taken: Int[Tensor, "T"]
) -> Int[Tensor, "N"]:
    """The default box of each object, matched in order of decreasing overlap without the `taken` ones; K is none.

    Ties go to the lower object, then to the lower default box.
    """
    own_box = np.full(len(boxes), len(default_boxes))
    is_free = np.ones(len(default_boxes), dtype=bool)
    is_free[taken.numpy()] = False
    at_once = _BOXES_AT_ONCE
    while True:
        objects, free = (own_box == len(default_boxes)).nonzero()[0], is_free.nonzero()[0]
        if not len(objects) or not len(free):
            break
        keys = _first_pairs(boxes[objects], default_boxes[free], at_once)
        _take(keys, objects, free, own_box, is_free)
        matched = len(free) - np.count_nonzero(is_free)
        if not matched and at_once >= len(free):
            break
        if matched < at_once // 4:
            at_once *= 2
    # Objects that overlap no free default box take the free ones in order.
    count = min(len(objects), len(free))
    own_box[objects[:count]] = free[:count]
    return torch.from_numpy(own_box)


def _first_pairs(
    boxes: Float[Tensor, "n 4"], default_boxes: Float[Tensor, "k 4"], at_once: int
) -> Int[np.ndarray, "P"]:
    """Keys of the pairs that come first, in the order of matching; a pair that is missing among them takes no part.

    Each of the default boxes among them is matched to one of as many objects as there are such boxes, since the others
    take at most one object each.
    """
    groups = _groups(boxes)
    greatest = _upper_bounds(boxes[groups], default_boxes)
    low = _estimated_low(boxes, default_boxes, at_once)
    columns = (greatest >= low).any(dim=0).nonzero()[:, 0]
    if len(columns) > 2 * at_once and greatest.amax() == low:
        columns = columns[:at_once]  # with equal overlaps, the lower default boxes come first
    greatest, there = greatest[:, columns], default_boxes[columns]
    is_near = greatest >= low
    repeated = groups.numel() - len(boxes)
    enough = -(-(len(columns) + repeated) // groups.shape[1])
    if 0 < enough < len(groups):
        # The objects of the first groups come before those of a group with a lower bound, or with equal ones behind.
        least, order = _lower_bounds(boxes[groups], there).sort(dim=0, descending=True, stable=True)
        floor, last = least[enough - 1], groups[order[:enough], -1].amax(dim=0)
        is_near &= (greatest > floor) | ((greatest == floor) & (groups[:, :1] <= last))
    return _sorted_keys(_overlaps(boxes, there, groups, is_near), low, columns, len(default_boxes))


def _estimated_low(boxes: Float[Tensor, "n 4"], default_boxes: Float[Tensor, "k 4"], at_once: int) -> float:
    """An overlap that about `at_once` default boxes reach, and as many for each of a thousand objects."""
    if at_once >= len(default_boxes):
        return _LEAST
    sample = iou(boxes[:: -(-len(boxes) // _SAMPLE)], default_boxes)
    of_boxes = sample.amax(dim=0).topk(at_once).values[-1]
    wanted = at_once * min(len(boxes), 1000) * sample.numel() // (len(boxes) * len(default_boxes))
    of_pairs = sample.flatten().topk(min(wanted + 1, sample.numel())).values[-1]
    return max(float(torch.minimum(of_boxes, of_pairs)), _LEAST)


def _sorted_keys(
    overlaps: Iterator[tuple[Int[Tensor, "n"], Int[Tensor, "c"], Float[Tensor, "n c"]]],
    low: float,
    columns: Int[Tensor, "k"],
    num_boxes: int,
) -> Int[np.ndarray, "P"]:
    """Keys of the overlaps of at least `low`, ordered by the overlap, then the lower object, then the lower box."""
    parts: list[Int[np.ndarray, p]] = [np.empty(0, dtype=np.int64)]
    count, lowest = 0, 0
    for rows, near, overlap in overlaps:
        reached = (overlap >= low).numpy()
        places = np.flatnonzero(reached)
        row = np.repeat(np.arange(len(rows)), np.count_nonzero(reached, axis=1))
        place = rows.numpy()[row] * num_boxes + columns[near].numpy()[places - row * len(near)]
        # Floats that are not negative have the same order as their bits.
        bits = overlap.numpy().ravel()[places].view(np.int32).astype(np.int64)
        parts.append((bits << _PLACE_BITS) + (2**_PLACE_BITS - 1 - place))
        count += len(place)
        if count > 2 * _MOST_PAIRS:
            parts = [np.partition(np.concatenate(parts), -_MOST_PAIRS)[-_MOST_PAIRS:]]
            count, lowest = _MOST_PAIRS, int(parts[0].min())
    keys = np.concatenate(parts)
    keys = keys[keys >= lowest]
    keys.sort()
    return keys[::-1]


def _take(
    keys: Int[np.ndarray, "P"],
    objects: Int[np.ndarray, "n"],
    free: Int[np.ndarray, "k"],
    own_box: Int[np.ndarray, "N"],
    is_free: Bool[np.ndarray, "K"],
) -> None:
    """Match, in place, each of the sorted pairs in which both the object and the default box are free."""
    for start in range(0, len(keys), _PAIRS_AT_ONCE):
        places = 2**_PLACE_BITS - 1 - (keys[start : start + _PAIRS_AT_ONCE] & (2**_PLACE_BITS - 1))
        rows, columns = np.divmod(places, len(free))
        rows, columns = objects[rows], free[columns]
        both_free = (own_box[rows] == len(is_free)) & is_free[columns]
        used_objects, used_boxes = set(), set()
        for row, box in zip(rows[both_free].tolist(), columns[both_free].tolist(), strict=True):
            if row not in used_objects and box not in used_boxes:
                used_objects.add(row)
                used_boxes.add(box)
                own_box[row], is_free[box] = box, False
