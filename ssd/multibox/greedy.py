"""Greedy one-to-one matching of many objects to default boxes on the CPU, through the few overlaps that decide it.

Objects in a crowd compete for the same default boxes. Going over all overlaps once for each object takes minutes;
here overlaps are taken from high to low, one interval at a time, among objects and default boxes that are still free.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssd.boxes import iou

_LEVELS = (2.0, 0.4, 0.2, 0.05, 0.0)  # overlaps between two of them are sorted together, in halves where they are many
_OBJECTS_AT_ONCE = 32  # their overlaps with the default boxes near them stay in the cache
_PAIRS_AT_ONCE = 2048  # after so many the free objects and default boxes are looked up again
_MOST_PAIRS = 2_000_000  # sorted at once: 16 MB of keys
_PLACE_BITS = 33  # low bits of a key, for the object and the default box; the 30 bits of the overlap are above them


def neighbours(
    boxes: Float[Tensor, "N 4"], default_boxes: Float[Tensor, "K 4"]
) -> Iterator[tuple[Int[Tensor, "n"], Int[Tensor, "k"], Float[Tensor, "n k"]]]:
    """Yield for a few objects at a time their rows, the default boxes near them (both ascending), and the overlaps.

    The other default boxes overlap none of these objects.
    """
    for rows in _groups(boxes):
        here = boxes[rows]
        left, top = here[:, :2].amin(dim=0)
        right, bottom = here[:, 2:].amax(dim=0)
        x1, y1, x2, y2 = default_boxes.unbind(dim=1)
        near = ((x1 < right) & (x2 > left) & (y1 < bottom) & (y2 > top)).nonzero()[:, 0]
        yield rows, near, iou(here, default_boxes[near])


def _groups(boxes: Float[Tensor, "N 4"]) -> Iterator[Int[Tensor, "n"]]:
    """Yield rows of objects that lie close together: stripes across the image, top to bottom."""
    stripes = max(1, round((len(boxes) / _OBJECTS_AT_ONCE) ** 0.5))
    centre_x, centre_y = (boxes[:, :2] + boxes[:, 2:]).clamp(0, 2).unbind(dim=1)
    order = ((centre_x * stripes / 2).floor() * 4 + centre_y).argsort(stable=True)
    for rows in order.split(_OBJECTS_AT_ONCE):
        yield rows.sort().values


def match_greedily(
    boxes: Float[Tensor, "N 4"], default_boxes: Float[Tensor, "K 4"], taken: Int[Tensor, "T"]
) -> Int[Tensor, "N"]:
    """The default box of each object, matched in order of decreasing overlap without the `taken` ones; K is none.

    Ties go to the lower object, then to the lower default box.
    """
    own_box = np.full(len(boxes), len(default_boxes))
    is_free = np.ones(len(default_boxes), dtype=bool)
    is_free[taken.numpy()] = False
    intervals = [(np.float32(low), np.float32(high)) for high, low in pairwise(_LEVELS)][::-1]
    while intervals:
        low, high = intervals.pop()
        objects = torch.from_numpy((own_box == len(default_boxes)).nonzero()[0])
        free = torch.from_numpy(is_free.nonzero()[0])
        if not len(objects) or not len(free):
            break
        middle = np.float32((low + high) / 2)
        most = _MOST_PAIRS if low < middle < high else None
        keys = _sorted_pairs(boxes, default_boxes, objects, free, (float(low), float(high)), most)
        if keys is None:
            intervals += [(low, middle), (middle, high)]
        else:
            _take(keys, own_box, is_free)
    # Objects that overlap no free default box take the free ones in order.
    left, free_boxes = (own_box == len(default_boxes)).nonzero()[0], is_free.nonzero()[0]
    count = min(len(left), len(free_boxes))
    own_box[left[:count]] = free_boxes[:count]
    return torch.from_numpy(own_box)


def _sorted_pairs(
    boxes: Float[Tensor, "N 4"],
    default_boxes: Float[Tensor, "K 4"],
    objects: Int[Tensor, "n"],
    free: Int[Tensor, "k"],
    interval: tuple[float, float],
    most: int | None,
) -> Int[np.ndarray, "P"] | None:
    """Keys of the pairs with an overlap in [low, high) above 0, in the order of matching; None if more than `most`."""
    low, high = interval
    parts: list[Int[Tensor, p]] = []
    count = 0
    for rows, columns, overlap in neighbours(boxes[objects], default_boxes[free]):
        row, column = ((overlap >= low) & (overlap < high) & (overlap > 0)).nonzero(as_tuple=True)
        place = objects[rows[row]] * len(default_boxes) + free[columns[column]]
        # Floats that are not negative have the same order as their bits.
        bits = overlap[row, column].view(torch.int32).long()
        parts.append((bits << _PLACE_BITS) + (2**_PLACE_BITS - 1 - place))
        count += len(place)
        if most is not None and count > most:
            return None
    keys = torch.cat(parts).numpy()
    keys.sort()
    return keys[::-1]


def _take(keys: Int[np.ndarray, "P"], own_box: Int[np.ndarray, "N"], is_free: Bool[np.ndarray, "K"]) -> None:
    """Match, in place, each of the sorted pairs in which both the object and the default box are free."""
    num_boxes = len(is_free)
    places = 2**_PLACE_BITS - 1 - (keys & (2**_PLACE_BITS - 1))
    for start in range(0, len(places), _PAIRS_AT_ONCE):
        objects, boxes = np.divmod(places[start : start + _PAIRS_AT_ONCE], num_boxes)
        both_free = (own_box[objects] == num_boxes) & is_free[boxes]
        used_objects, used_boxes = set(), set()
        for row, box in zip(objects[both_free].tolist(), boxes[both_free].tolist(), strict=True):
            if row not in used_objects and box not in used_boxes:
                used_objects.add(row)
                used_boxes.add(box)
                own_box[row], is_free[box] = box, False
