"""Matching default boxes to objects: section 2.2, "Matching strategy".

1. Every object gets a default box of its own: the pair with the greatest overlap first, then the greatest among what
   is left, and so on. No object loses its box to a neighbour; most ports differ from the original here.
2. Every other default box with a best overlap of at least the threshold is matched to that object.

Ties go to the lower object, then to the lower default box. Nothing here waits for a CUDA device.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssd.boxes import area, intersection, iou
from ssd.multibox.greedy import match_greedily, neighbours
from ssd.multibox.sort_keys import sort_keys
from ssd.settings import LossRules
from ssd.structures import Targets
from ssd.system.device import on_cpu

# Overlaps held at once off the CPU, where few large launches are best: 128 MiB a temporary.
_OVERLAPS_AT_ONCE = 2**25
# Up to this many objects, all their overlaps with all default boxes stay in the cache.
_FEW_OBJECTS = 64


@dataclass(frozen=True)
class Matches:
    """The object of every default box of a batch."""

    object_index: Int[Tensor, "B K"]  # the row in `Targets`, -1 for none
    ignored: Bool[Tensor, "B K"]  # neither object nor background: nearly matched, or on a crowd region
    missed_best_box: Int[Tensor, ""]  # number of objects that were not matched to their best default box


def match(default_boxes: Float[Tensor, "K 4"], targets: Targets, rules: LossRules) -> Matches:
    """Match every default box of every image to an object or to none.

    An unmatched default box with a best overlap of at least `negative_iou` is `ignored`. A `negative_iou` of
    `match_iou` or more ignores none, as in the paper: `neg_overlap` of the original is the threshold itself
    (bbox_util.cpp:838-847).

    By the threshold an overlap of 0 never matches, whatever `match_iou` is; an object that overlaps no default box
    still gets one of its own. Crowd regions are never matched. An unmatched default box is `ignored` if its part inside
    the image lies half in one of them, or overlaps it as much as would be `ignored` or matched beside an object. An
    image may have no objects. If it has more objects than there are default boxes, those with the least overlap stay
    unmatched.
    """
    default_boxes = default_boxes.float()
    is_object = targets.valid & ~targets.crowd
    if is_object.shape[1] == 0:
        unmatched = targets.labels.new_full((len(is_object), len(default_boxes)), -1)
        return Matches(unmatched, unmatched >= 0, unmatched.new_zeros(()))
    # An empty box overlaps nothing: padding and crowds stay below every threshold.
    boxes = targets.boxes.float().masked_fill(~is_object[..., None], 0)
    low = min(rules.match_iou, rules.negative_iou)
    best_overlap, best_object, favourite = _best(boxes, default_boxes, low)
    reached = (best_overlap >= rules.match_iou) & (best_overlap > 0)
    object_index = torch.where(reached, best_object, -1)

    own_box = _own_boxes(boxes, default_boxes, is_object, (best_overlap, best_object, favourite), low)
    # Objects without a default box of their own write into a column that is cut off again.
    rows = torch.arange(own_box.shape[1], device=own_box.device).expand_as(own_box)
    object_index = F.pad(object_index, (0, 1)).scatter(1, own_box, rows)[:, :-1]
    nearly = (best_overlap >= rules.negative_iou) & (best_overlap > 0)
    return Matches(
        object_index=object_index,
        ignored=(_on_crowd(default_boxes, targets, low) | nearly) & (object_index < 0),
        missed_best_box=(is_object & (own_box != favourite)).sum(),
    )


def _parts(boxes: Float[Tensor, "B N 4"], num_boxes: int) -> list[slice]:
    """The images whose overlaps are computed together; one at a time on the CPU."""
    step = 1 if on_cpu(boxes) else max(1, _OVERLAPS_AT_ONCE // (boxes.shape[1] * num_boxes))
    return [slice(start, start + step) for start in range(0, len(boxes), step)]


def _best(
    boxes: Float[Tensor, "B N 4"], default_boxes: Float[Tensor, "K 4"], low: float
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"], Int[Tensor, "B N"]]:
    """The best overlap and object of every default box, and the best default box of every object.

    Of a default box whose best overlap is below `low`, both may be less, and the object another.
    """
    if on_cpu(boxes):
        return _best_on_cpu(boxes, default_boxes, low)
    overlaps, objects, favourites = [], [], []
    for part in _parts(boxes, len(default_boxes)):
        overlap = iou(boxes[part], default_boxes)
        best_overlap, best_object = overlap.max(dim=1)
        overlaps.append(best_overlap)
        objects.append(best_object)
        favourites.append(overlap.argmax(dim=2))
    return torch.cat(overlaps), torch.cat(objects), torch.cat(favourites)


def _best_on_cpu(
    boxes: Float[Tensor, "B N 4"], default_boxes: Float[Tensor, "K 4"], low: float
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"], Int[Tensor, "B N"]]:
    """`_best` without trailing padding; many objects are compared only with the default boxes near them."""
    images, num_boxes = len(boxes), len(default_boxes)
    best_overlap = boxes.new_zeros(images, num_boxes)
    best_object = torch.zeros(images, num_boxes, dtype=torch.long)
    favourite = torch.zeros(boxes.shape[:2], dtype=torch.long)
    for image, used in enumerate(_used_rows(boxes)):
        if used <= _FEW_OBJECTS:
            overlap = iou(boxes[image, :used], default_boxes)
            best_overlap[image], best_object[image] = overlap.max(dim=0)
            favourite[image, :used] = overlap.argmax(dim=1)
            continue
        best_overlap[image], best_object[image], favourite[image, :used] = _best_of_many(
            boxes[image, :used], default_boxes, low
        )
    return best_overlap, best_object, favourite


def _best_of_many(
    boxes: Float[Tensor, "N 4"], default_boxes: Float[Tensor, "K 4"], low: float
) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"], Int[Tensor, "N"]]:
    """`_best` of one image, from the greater overlaps where they are enough."""
    best_overlap = boxes.new_zeros(len(default_boxes))
    best_object = torch.zeros(len(default_boxes), dtype=torch.long)
    favourite = torch.zeros(len(boxes), dtype=torch.long)
    open_rows = torch.arange(len(boxes))  # objects whose best default box is not found yet
    for least in (low, low / 8, 0.0):
        is_open = torch.ones(len(open_rows), dtype=torch.bool)
        for some, near, overlap in neighbours(boxes[open_rows], default_boxes, least):
            rows = open_rows[some]
            greatest, column = overlap.max(dim=1)
            found = (greatest >= least) & (greatest > 0)
            favourite[rows[found]] = near[column[found]]
            is_open[some[found]] = False
            if least == low:
                greatest, row = overlap.max(dim=0)
                best, holder = best_overlap[near], best_object[near]
                better = (greatest > best) | ((greatest == best) & (rows[row] < holder))
                best_object[near] = torch.where(better, rows[row], holder)
                best_overlap[near] = torch.maximum(greatest, best)
        open_rows = open_rows[is_open]
        if not len(open_rows):
            break
    return best_overlap, best_object, favourite


def _used_rows(boxes: Float[Tensor, "B N 4"]) -> list[int]:
    """Number of rows up to the last object of each image, at least one. Waits for the device."""
    rows = torch.arange(1, boxes.shape[1] + 1)
    used: list[int] = (boxes.any(dim=2) * rows).amax(dim=1).clamp(min=1).tolist()
    return used


def _own_boxes(
    boxes: Float[Tensor, "B N 4"],
    default_boxes: Float[Tensor, "K 4"],
    is_object: Bool[Tensor, "B N"],
    best: tuple[Float[Tensor, "B K"], Int[Tensor, "B K"], Int[Tensor, "B N"]],
    low: float,
) -> Int[Tensor, "B N"]:
    """Give each object its own default box, greatest overlap first; K stands for none. `best` is that of `_best`."""
    if not on_cpu(boxes):
        parts = _parts(boxes, len(default_boxes))
        return torch.cat([_greedy(iou(boxes[part], default_boxes), is_object[part]) for part in parts])
    best_overlap, best_object, favourite = best
    # An object and a default box that are each other's best are a pair in any greedy order.
    is_mutual = best_object.gather(1, favourite) == torch.arange(is_object.shape[1])
    is_mutual &= best_overlap.gather(1, favourite) >= low
    own_box = torch.where(is_object, favourite, len(default_boxes))
    for image, wanted in enumerate(own_box.tolist()):
        # Where no two objects have the same best default box, each is matched to it.
        wanted = [box for box in wanted if box < len(default_boxes)]
        if len(set(wanted)) < len(wanted):
            rows = is_object[image].nonzero()[:, 0]
            mutual = is_mutual[image, rows]
            taken = own_box[image, rows[mutual]]
            own_box[image, rows[~mutual]] = match_greedily(boxes[image, rows[~mutual]], default_boxes, taken)
    return own_box


def _greedy(overlap: Float[Tensor, "B N K"], is_object: Bool[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """Match the free object and the free default box with the greatest overlap, repeatedly.

    At most N - 1 default boxes are taken before an object is matched, so its N best candidates are enough.
    """
    images, objects, num_boxes = overlap.shape
    count = min(objects, num_boxes)
    candidates = _best_first(overlap, count)
    value = overlap.gather(2, candidates).masked_fill_(~is_object[..., None], -1)
    own_box = candidates.new_full((images, objects), num_boxes)
    rows = torch.arange(objects, device=overlap.device)
    for _ in range(objects):
        # `argmax` takes the first of equal maxima: rows are objects in order, tied columns are default boxes in order.
        greatest, place = value.flatten(1).max(dim=1, keepdim=True)
        row, box = place // count, candidates.flatten(1).gather(1, place)
        own_box.scatter_(1, row, torch.where(greatest >= 0, box, own_box.gather(1, row)))
        value.masked_fill_((candidates == box[..., None]) | (rows == row)[..., None], -1)
    return own_box


def _best_first(overlap: Float[Tensor, "B N K"], count: int) -> Int[Tensor, "B N count"]:
    """Indices of each object's `count` best default boxes, the lower index first where overlaps tie."""
    indices = torch.arange(overlap.shape[2], device=overlap.device)
    return sort_keys(overlap, indices).topk(count, dim=2).indices


def _on_crowd(default_boxes: Float[Tensor, "K 4"], targets: Targets, low: float) -> Bool[Tensor, "B K"]:
    """Which default boxes, cut to the image, lie half inside a crowd region, or overlap one by `low` or more.

    They are cut because an object that a tile cuts is a crowd region that ends there, as the image does.
    """
    crowd = targets.valid & targets.crowd
    seen = default_boxes.clamp(0, 1)
    half = area(seen) / 2
    found = []
    for part in _parts(targets.boxes, len(default_boxes)):
        if on_cpu(crowd) and not crowd[part].any():
            found.append(crowd.new_zeros(1, len(default_boxes)))
            continue
        boxes = targets.boxes[part].float()
        shared = intersection(boxes, seen)
        on = (shared >= half) | (iou(boxes, seen) >= low)
        found.append((on & (shared > 0) & crowd[part, :, None]).any(dim=1))
    return torch.cat(found)
