"""From boxes and scores of all default boxes to the detections of one image, in NumPy.

The same rules, in the same total order (score, then class, then default box), as `ssd.multibox.postprocess`.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from ssd.rules import Postprocessing

# Those of `ssd.multibox.voting` and `ssd.boxes`, which import PyTorch.
VOTERS, LEAST_SCORE, REACH = 400, 0.25, 1024

Found = tuple[Float[np.ndarray, "D 4"], Float[np.ndarray, "D"], Int[np.ndarray, "D"]]


def select(boxes: Float[np.ndarray, "K 4"], scores: Float[np.ndarray, "K C"], rules: Postprocessing) -> Found:
    """Boxes (fractions of the image, inside it), scores and labels (from 0) of the detections, best first.

    `boxes` are decoded and may leave the image; column 0 of `scores` is background.
    """
    if rules.clip == "before":
        boxes = boxes.clip(0, 1)
    best = _best_pairs(scores, rules)
    rows, labels, values = best
    limit, kept = max(2 * rules.max_detections, VOTERS), np.zeros(0, dtype=bool)
    # Boxes with a higher score alone decide whether one is kept, so the first few hundred candidates mostly suffice.
    while True:
        part = slice(0, limit)
        kept = _suppressed(boxes[rows[part]], labels[part], rules.iou_threshold)
        if kept.sum() >= rules.max_detections or limit >= len(rows):
            break
        limit *= 2
    chosen = np.flatnonzero(kept)[: rules.max_detections]
    found = boxes[rows[chosen]]
    if rules.box_voting and len(found):
        found = _voted(found, values[chosen], labels[chosen], boxes, scores, rules)
    return found.clip(0, 1), values[chosen], labels[chosen]


def _best_pairs(
    scores: Float[np.ndarray, "K C"], rules: Postprocessing
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"], Float[np.ndarray, "P"]]:
    """Default box, class and score of each candidate, best first: above the thresholds, `top_k` of a class at most."""
    by_label = scores[:, 1:].T
    labels, rows = np.nonzero(by_label > rules.score_threshold)
    values = scores[rows, labels + 1]
    order = np.lexsort((rows, labels, -values))
    rows, labels, values = rows[order], labels[order], values[order]
    by_class = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[by_class], prepend=-1))
    lengths = np.diff(starts, append=len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(starts, lengths)
    accepted = rank < rules.top_k
    if rules.class_thresholds:
        accepted &= values > np.array(rules.class_thresholds, np.float32)[labels]
    return rows[accepted], labels[accepted], values[accepted]


def _suppressed(
    boxes: Float[np.ndarray, "P 4"], labels: Int[np.ndarray, "P"], iou_threshold: float
) -> Bool[np.ndarray, "P"]:
    """Which candidates are kept: no better one of their class that is kept overlaps them by more than the threshold."""
    kept = np.ones(len(boxes), dtype=bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        over = _iou(*(boxes[places].astype(np.float64).clip(-REACH, REACH),) * 2) > iou_threshold
        alive = np.ones(len(places), dtype=bool)
        for place in range(len(places)):
            if alive[place]:
                alive[place + 1 :] &= ~over[place, place + 1 :]
        kept[places] = alive
    return kept


def _voted(
    found: Float[np.ndarray, "D 4"],
    values: Float[np.ndarray, "D"],
    labels: Int[np.ndarray, "D"],
    boxes: Float[np.ndarray, "K 4"],
    scores: Float[np.ndarray, "K C"],
    rules: Postprocessing,
) -> Float[np.ndarray, "D 4"]:
    """Average each box with its neighbours among the best pairs; see `ssd.multibox.voting.vote`."""
    flat = scores[:, 1:].T.ravel()  # by class, then by default box: ties go to the lower one
    best = np.argsort(-flat, kind="stable")[:VOTERS] if len(flat) <= VOTERS else _largest(flat, VOTERS)
    voter_labels, rows = np.divmod(best, len(boxes))
    voters, votes = boxes[rows], flat[best]
    overlap = _iou(found.clip(-REACH, REACH), voters.clip(-REACH, REACH))
    can = (labels[:, None] == voter_labels) & (overlap > rules.iou_threshold)
    can &= votes >= LEAST_SCORE * values[:, None]
    weights = np.where(can, votes * np.exp((1 - overlap) ** 2 / -rules.box_voting), 0.0)
    weights /= np.maximum(weights.sum(axis=1), values).clip(np.finfo(np.float32).tiny)[:, None]
    moved = found + (weights[..., None] * (voters - found[:, None])).sum(axis=1)
    averaged: np.ndarray = moved.astype(found.dtype)
    return averaged


def _largest(values: Float[np.ndarray, "N"], count: int) -> Int[np.ndarray, "{count}"]:
    """Places of the largest values; among equal ones the first."""
    last = np.partition(values, -count)[-count]
    near = np.flatnonzero(values >= last)
    largest: np.ndarray = near[np.argsort(-values[near], kind="stable")[:count]]
    return largest


def _iou(boxes: Float[np.ndarray, "N 4"], others: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    sides = (np.minimum(boxes[:, None, 2:], others[:, 2:]) - low).clip(0)
    shared = sides[..., 0] * sides[..., 1]
    one, other = ((side[:, 2] - side[:, 0]).clip(0) * (side[:, 3] - side[:, 1]).clip(0) for side in (boxes, others))
    overlaps: np.ndarray = shared / (one[:, None] + other - shared).clip(np.finfo(shared.dtype).tiny)
    return overlaps
