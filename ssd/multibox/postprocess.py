"""From predictions to detections: threshold, per-class candidates, non-maximum suppression, the best of each image.

Box voting (`multibox.voting`) follows where the settings of the weights turn it on.

All classes, and off the CPU all images, are processed in a few kernel launches. Whether a box is kept depends only on
boxes with a higher score, so the best few hundred candidates of an image decide its first detections exactly; more are
examined only if these do not yield `max_detections`. The order is total: score, then class, then default box.
"""

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssd.boxes import REACH
from ssd.multibox.candidates import Candidates, best_candidates, likely_parts
from ssd.multibox.coder import Variances
from ssd.multibox.fixpoint import suppress_by_fixpoint
from ssd.multibox.nms import nms
from ssd.multibox.voting import LEAST_SCORE, VOTERS, vote
from ssd.settings import Postprocessing
from ssd.structures import BatchDetections, Predictions
from ssd.system.device import on_cpu

# Boxes suppressed in one launch: the bit mask of all pairs has 50 MB.
_BOXES_AT_ONCE = 20_000


def postprocess(
    predictions: Predictions,
    default_boxes: Float[Tensor, "K 4"],
    rules: Postprocessing,
    variances: Variances,
) -> BatchDetections:
    """Turn a batch of predictions into at most `max_detections` boxes an image, in fractions of the image.

    A pair of default box and class is a candidate if its score is above `score_threshold` and that of its class in
    `class_thresholds`, and among the `top_k` best of its class; a better box of its class with an IoU above
    `iou_threshold` suppresses it. `clip` cuts boxes to the image before suppression (torchvision) or after it (the
    original). `box_voting` is the sigma of `voting.vote`; 0 leaves boxes as predicted (the original). A NaN score is
    above no threshold: check `predictions` for it first.

    Off the CPU this waits for the device once, to learn which images `postprocess_without_waiting` left unfinished.
    """
    default_boxes, limit = default_boxes.float(), _limit(rules)
    if not on_cpu(predictions.logits):
        found, unfinished = postprocess_without_waiting(predictions, default_boxes, rules, variances)
        again = unfinished.nonzero()[:, 0]
        return finish(found, again, predictions, default_boxes, rules, variances) if len(again) else found
    least_score = rules.score_threshold * (LEAST_SCORE if rules.box_voting else 1)
    parts = [
        _first_detections(scores, offsets.float(), boxes, rules, variances, limit)
        for scores, offsets, boxes in likely_parts(predictions, default_boxes, least_score)
    ]
    return _joined(parts)


def postprocess_without_waiting(
    predictions: Predictions,
    default_boxes: Float[Tensor, "K 4"],
    rules: Postprocessing,
    variances: Variances,
) -> tuple[BatchDetections, Bool[Tensor, "B"]]:
    """`postprocess` for a device that the host should not wait for: fixed shapes, no number read on the host.

    The second value marks images with unfinished detections: the best few hundred candidates did not yield
    `max_detections`, or suppression among them did not converge within `fixpoint.ROUNDS`. `finish` completes these.
    """
    default_boxes, limit = default_boxes.float(), _limit(rules)
    parts, unfinished = [], []
    step = max(1, _BOXES_AT_ONCE // limit)
    for part in (slice(start, start + step) for start in range(0, len(predictions.logits), step)):
        scores = predictions.logits[part].float().softmax(dim=-1)[..., 1:]
        best = best_candidates(scores, predictions.offsets[part].float(), default_boxes, rules, variances, limit)
        best = _clipped(best, rules)
        kept, settled = suppress_by_fixpoint(best, rules.iou_threshold)
        found = _first(best, kept, rules.max_detections)
        short = best.more & (found.counts < rules.max_detections) & (limit < scores[0].numel())
        parts.append(_voted(found, best, rules) if rules.box_voting else found)
        unfinished.append(short | ~settled)
    return _joined(parts), torch.cat(unfinished)


def finish(
    found: BatchDetections,
    images: Int[Tensor, "some"],
    predictions: Predictions,
    default_boxes: Float[Tensor, "K 4"],
    rules: Postprocessing,
    variances: Variances,
) -> BatchDetections:
    """Compute the detections of `images` again from as many candidates as needed. Waits for the device.

    `found` and `images` are on one device or on the host, the predictions and default boxes on the device.
    """
    there = images.to(predictions.logits.device)
    scores = predictions.logits[there].float().softmax(dim=-1)[..., 1:]
    boxes = default_boxes.float().expand(len(scores), -1, -1)
    final = _joined(
        [_first_detections(scores, predictions.offsets[there].float(), boxes, rules, variances, _limit(rules))]
    )
    columns = {
        field.name: getattr(found, field.name).index_copy(0, images, getattr(final, field.name).to(images.device))
        for field in dataclasses.fields(BatchDetections)
    }
    return BatchDetections(**columns)


def _limit(rules: Postprocessing) -> int:
    """How many candidates of an image are examined first."""
    return max(2 * rules.max_detections, VOTERS if rules.box_voting else 1)


def _joined(parts: list[BatchDetections]) -> BatchDetections:
    return BatchDetections(
        boxes=torch.cat([part.boxes for part in parts]).clamp(0, 1),
        scores=torch.cat([part.scores for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        counts=torch.cat([part.counts for part in parts]),
    )


def _clipped(best: Candidates, rules: Postprocessing) -> Candidates:
    return dataclasses.replace(best, boxes=best.boxes.clamp(0, 1)) if rules.clip == "before" else best


def _first_detections(
    scores: Float[Tensor, "B k foreground"],
    offsets: Float[Tensor, "B k 4"],
    default_boxes: Float[Tensor, "B k 4"],
    rules: Postprocessing,
    variances: Variances,
    limit: int,
) -> BatchDetections:
    """Suppress among the `limit` best pairs of each image, and among twice as many where they do not suffice."""
    best = _clipped(best_candidates(scores, offsets, default_boxes, rules, variances, limit), rules)
    found = _first(best, suppress(best, rules.iou_threshold), rules.max_detections)
    if rules.box_voting:
        found = _voted(found, best, rules)
    if limit >= scores[0].numel():
        return found
    again = (best.more & (found.counts < rules.max_detections)).nonzero()[:, 0]
    if len(again) > 0:
        further = _first_detections(scores[again], offsets[again], default_boxes[again], rules, variances, 2 * limit)
        for field in dataclasses.fields(BatchDetections):
            getattr(found, field.name).index_copy_(0, again, getattr(further, field.name))
    return found


def _voted(found: BatchDetections, best: Candidates, rules: Postprocessing) -> BatchDetections:
    """Apply box voting among the best candidates; scores, labels and their order stay."""
    used = found.boxes.shape[1]
    if on_cpu(found.counts):  # on other devices reading the counts would wait, and padding rows do no harm
        used = int(found.counts.max()) if len(found.counts) else 0
    moved = vote(
        found.boxes[:, :used],
        found.scores[:, :used],
        found.labels[:, :used],
        best.boxes[:, :VOTERS],
        best.scores[:, :VOTERS],
        best.labels[:, :VOTERS],
        rules,
    )
    return dataclasses.replace(found, boxes=torch.cat([moved, found.boxes[:, used:]], dim=1))


def suppress(candidates: Candidates, iou_threshold: float) -> Bool[Tensor, "B P"]:
    """Mark the accepted candidates that non-maximum suppression keeps, per image and class.

    All go through one call: classes are shifted sideways and images downwards, so that they never overlap. In double
    precision the shift moves no edge by more than 3e-11 of the image (100 classes), far below float32's resolution.
    """
    images, places = candidates.scores.shape
    right = candidates.labels * (2 * REACH)
    down = torch.arange(images, device=right.device)[:, None].expand_as(right) * (2 * REACH)
    plane = candidates.boxes.double().clamp(-REACH, REACH) + torch.stack([right, down, right, down], dim=-1)
    kept = torch.zeros_like(candidates.accepted)
    # The work grows with the square of the boxes: the host takes one image at a time, a GPU as many as fit a launch.
    step = 1 if on_cpu(plane) else max(1, _BOXES_AT_ONCE // places)
    for part in (slice(start, start + step) for start in range(0, images, step)):
        chosen = candidates.accepted[part].flatten().nonzero()[:, 0]
        scores = candidates.scores[part].flatten()[chosen].double()
        best = nms(plane[part].flatten(0, 1)[chosen], scores, iou_threshold)
        kept[part].view(-1).index_fill_(0, chosen[best], True)
    return kept


def _first(candidates: Candidates, kept: Bool[Tensor, "B P"], count: int) -> BatchDetections:
    """Move the first `count` kept candidates of each image to the front and clear the rest."""
    rank = kept.cumsum(dim=1)
    # All others write into one extra column, which is cut off again.
    slots = torch.where(kept & (rank <= count), rank - 1, count)
    images = len(slots)
    scores = candidates.scores.new_zeros(images, count + 1).scatter(1, slots, candidates.scores)
    labels = candidates.labels.new_zeros(images, count + 1).scatter(1, slots, candidates.labels)
    where = slots[..., None].expand(-1, -1, 4)
    boxes = candidates.boxes.new_zeros(images, count + 1, 4).scatter(1, where, candidates.boxes)
    return BatchDetections(boxes[:, :count], scores[:, :count], labels[:, :count], kept.sum(dim=1).clamp(max=count))
