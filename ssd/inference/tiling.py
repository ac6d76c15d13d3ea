"""Small objects in a large image: it is cut into overlapping tiles, and what is found in them is put together.

`ssd.tiles` has the tiles. The whole image is searched too: that is where large objects come from.

An object on the border between two tiles is seen cut by one of them. The tiles overlap, so the other one sees it whole
unless it is larger than the overlap; then the whole image has to show it.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8

from ssd.boxes import intersection_of_arrays
from ssd.multibox.candidates import Candidates
from ssd.multibox.postprocess import suppress
from ssd.multibox.voting import vote
from ssd.settings import Postprocessing
from ssd.structures import ImageDetections
from ssd.tiles import Window

_NEAR = 0.02  # of a tile's side: a box that ends this close to the tile's border may be cut by it
_HELD = 0.7  # of a cut box: so much of it inside another box of its class makes it a part of that
_SURE_ENOUGH = 0.5  # of the cut box's score: what the other box needs for that
Find = Callable[[Sequence[UInt8[np.ndarray, "_ _ 3"]]], Sequence[ImageDetections]]


def search(
    find: Find,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    plans: Sequence[Sequence[Window]],
    batch_size: int,
    rules: Postprocessing,
) -> Iterator[ImageDetections]:
    """Search every window of every image, `batch_size` of them at a time, and put each image's together."""
    views = [(image, window) for image, plan in zip(images, plans, strict=True) for window in plan]
    found: list[ImageDetections] = []
    for start in range(0, len(views), batch_size):
        part = views[start : start + batch_size]
        found += find([image[w.top : w.bottom, w.left : w.right] for image, w in part])
    for plan in plans:
        ours, found = found[: len(plan)], found[len(plan) :]
        yield merge(plan, ours, rules) if len(plan) > 1 else ours[0]


def merge(plan: Sequence[Window], found: Sequence[ImageDetections], rules: Postprocessing) -> ImageDetections:
    """Merge the detections of the windows, as fractions of the first window, which is the whole image.

    Boxes cut by a tile's border go where a neighbour or a larger box has the whole object; the others meet in the
    suppression that follows every search. With `box_voting` each detection that is left is averaged with those of
    its class from the other windows, cut ones apart; within its window it was before.
    """
    whole, size = plan[0], np.array([plan[0].right, plan[0].bottom] * 2, np.float32)
    boxes = np.concatenate([_to_image(window, part.boxes) for window, part in zip(plan, found, strict=True)])
    scores = np.concatenate([part.scores for part in found])
    labels = np.concatenate([part.labels for part in found])
    marks = [_cut(window, part, plan, whole) for window, part in zip(plan, _split(boxes, found), strict=True)]
    cut, seen_elsewhere = (np.concatenate(column) for column in zip(*marks, strict=True))
    keep = ~seen_elsewhere & ~_held(boxes, scores, labels, cut)
    order = np.flatnonzero(keep)[np.argsort(-scores[keep], kind="stable")]
    boxes, scores, labels = (boxes / size)[order], scores[order], labels[order]
    best = _suppressed(boxes, scores, labels, rules.iou_threshold)[: rules.max_detections]
    chosen = ImageDetections(boxes[best], scores[best], labels[best])
    if not rules.box_voting or not len(best):
        return chosen
    return _voted(chosen, ImageDetections(boxes, scores, labels).subset(~cut[order]), rules)


def _voted(chosen: ImageDetections, voters: ImageDetections, rules: Postprocessing) -> ImageDetections:
    """Average each box with the voters' boxes."""
    ours, theirs = (
        [torch.from_numpy(column)[None] for column in (some.boxes, some.scores, some.labels)]
        for some in (chosen, voters)
    )
    moved = vote(ours[0], ours[1], ours[2], theirs[0], theirs[1], theirs[2], rules)
    return ImageDetections(moved[0].numpy(), chosen.scores, chosen.labels)


def _to_image(window: Window, boxes: Float32[np.ndarray, "N 4"]) -> Float32[np.ndarray, "N 4"]:
    left, top, right, bottom = window
    sides = np.array([right - left, bottom - top] * 2, np.float32)
    pixels: np.ndarray = boxes * sides + np.array([left, top] * 2, np.float32)
    return pixels


def _split(boxes: Float32[np.ndarray, "N 4"], like: Sequence[ImageDetections]) -> list[np.ndarray]:
    return np.split(boxes, np.cumsum([len(part.scores) for part in like])[:-1])


def _cut(
    window: Window, boxes: Float32[np.ndarray, "N 4"], plan: Sequence[Window], whole: Window
) -> tuple[Bool[np.ndarray, "N"], Bool[np.ndarray, "N"]]:
    """Which boxes end at a border inside the image, and which of those lie inside the neighbour there, all of them.

    A box that ends at two such borders is whole in the tile diagonally across, so each border is asked by itself.
    """
    cut, elsewhere = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    for axis in (0, 1):
        low, high = window[axis], window[axis + 2]
        near = _NEAR * (high - low)
        starts = sorted({w[axis] for w in plan[1:]} - {low})
        ends = sorted({w[axis + 2] for w in plan[1:]} - {high})
        if low > whole[axis]:
            at_border = boxes[:, axis] < low + near
            neighbour_ends = max(end for end in ends if end < high)
            cut, elsewhere = cut | at_border, elsewhere & (~at_border | (boxes[:, axis + 2] <= neighbour_ends - near))
        if high < whole[axis + 2]:
            at_border = boxes[:, axis + 2] > high - near
            neighbour_starts = min(start for start in starts if start > low)
            cut, elsewhere = cut | at_border, elsewhere & (~at_border | (boxes[:, axis] >= neighbour_starts + near))
    return cut, cut & elsewhere


def _held(
    boxes: Float32[np.ndarray, "N 4"],
    scores: Float32[np.ndarray, "N"],
    labels: Int64[np.ndarray, "N"],
    cut: Bool[np.ndarray, "N"],
) -> Bool[np.ndarray, "N"]:
    """Which cut boxes lie mostly in an uncut one of their class that is about as sure of itself."""
    held = np.zeros(len(boxes), bool)
    whole_boxes, whole_scores, whole_labels = boxes[~cut], scores[~cut], labels[~cut]
    for index, shared in zip(np.flatnonzero(cut), intersection_of_arrays(boxes[cut], whole_boxes), strict=True):
        box = boxes[index]
        rivals = (whole_labels == labels[index]) & (whole_scores >= _SURE_ENOUGH * scores[index])
        held[index] = bool((rivals & (shared > _HELD * (box[2:] - box[:2]).prod())).any())
    return held


def _suppressed(
    boxes: Float32[np.ndarray, "N 4"],
    scores: Float32[np.ndarray, "N"],
    labels: Int64[np.ndarray, "N"],
    iou_threshold: float,
) -> Int64[np.ndarray, "kept"]:
    """The places of the boxes that are left by the same suppression as within one image."""
    if not len(boxes):
        return np.zeros(0, np.int64)
    candidates = Candidates(
        boxes=torch.from_numpy(boxes)[None],
        scores=torch.from_numpy(scores)[None],
        labels=torch.from_numpy(labels)[None],
        accepted=torch.ones(1, len(boxes), dtype=torch.bool),
        more=torch.zeros(1, dtype=torch.bool),
    )
    return np.flatnonzero(suppress(candidates, iou_threshold)[0].numpy())
