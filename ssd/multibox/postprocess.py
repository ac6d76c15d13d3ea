"""From predictions to detections: threshold, per-class candidates, non-maximum suppression, the best of each image.

Box voting (`multibox.voting`) follows where the settings of the weights turn it on.

All classes, and off the CPU all images, are processed in a few kernel launches. Whether a box is kept depends only on
boxes with a higher score, so the best few hundred candidates of an image decide its first detections exactly; more are
examined only if these do not yield `max_detections`. The order is total: score, then class, then default box.
"""

import dataclasses
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import nms

from ssd.boxes import REACH
from ssd.multibox.candidates import Candidates
from ssd.multibox.coder import Variances, decode
from ssd.multibox.fixpoint import suppress_by_fixpoint
from ssd.multibox.sort_keys import sort_keys
from ssd.multibox.voting import LEAST_SCORE, VOTERS, vote
from ssd.settings import Postprocessing
from ssd.structures import BatchDetections, Predictions
from ssd.system.device import on_cpu

# Boxes suppressed in one launch: the bit mask of all pairs has 50 MB.
_BOXES_AT_ONCE = 20_000
# Rows of logits worked on at once on the CPU: 3 MB of 91 columns stay in the cache.
_ROWS_AT_ONCE = 9_000


def postprocess(
    predictions: Predictions,
    default_boxes: Float[Tensor, "K 4"],
    rules: Postprocessing,
    variances: Variances,
) -> BatchDetections:
    """Turn a batch of predictions into at most `max_detections` boxes an image, in fractions of the image.

    A pair of default box and class is a candidate if its score is above `score_threshold` and among the `top_k` best
    of its class; a better box of its class with an IoU above `iou_threshold` suppresses it. `clip` cuts boxes to the
    image before suppression (torchvision) or after it (the original). `box_voting` is the sigma of `voting.vote`;
    0 leaves boxes as predicted (the original). A NaN score is above no threshold: check `predictions` for it first.

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
        for scores, offsets, boxes in _likely_parts(predictions, default_boxes, least_score)
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


_Part = tuple[Float[Tensor, "B k foreground"], Float[Tensor, "B k 4"], Float[Tensor, "B k 4"]]


def _likely_parts(
    predictions: Predictions, default_boxes: Float[Tensor, "K 4"], score_threshold: float
) -> Iterator[_Part]:
    """Yield scores, offsets and default boxes of as many images as stay in the CPU's cache.

    Default boxes that are certainly background are left out.
    """
    offsets, logits = predictions.offsets, predictions.logits
    possible = _possible(logits, score_threshold)
    for part, most in _groups(possible.sum(dim=1).tolist()):
        rows, real = _left_aligned(possible[part], most)
        images, columns = torch.arange(part.start, part.stop)[:, None], logits.shape[2]
        flat = (images * logits.shape[1] + rows).flatten()
        kept = logits.reshape(-1, columns).index_select(0, flat).view(*rows.shape, columns)
        scores = kept.float().softmax(dim=-1)[..., 1:].masked_fill_(~real[..., None], 0)
        kept_offsets = offsets.reshape(-1, 4).index_select(0, flat).view(*rows.shape, 4)
        yield scores, kept_offsets, default_boxes[rows]


def _possible(logits: Float[Tensor, "B K C"], score_threshold: float) -> Bool[Tensor, "B K"]:
    """The default boxes that may have a score above the threshold.

    The score of a class is at most the sigmoid of its logit minus that of background; further classes only lower it.
    A margin of one percent allows for rounding. Default boxes with NaN are kept.
    """
    least = 0.99 * score_threshold
    distance = logits[..., 1:].amax(dim=2).float() - logits[..., 0].float()
    return ~(distance < (math.log(least / (1 - least)) if least > 0 else -math.inf))


def _groups(counts: list[int]) -> Iterator[tuple[slice, int]]:
    """Yield slices of images with at most `_ROWS_AT_ONCE` rows when padded to the longest, and that longest length."""
    start, most = 0, 1
    for image, count in enumerate(counts):
        if image > start and max(most, count) * (image + 1 - start) > _ROWS_AT_ONCE:
            yield slice(start, image), most
            start, most = image, 1
        most = max(most, count)
    if counts:
        yield slice(start, len(counts)), most


def _left_aligned(chosen: Bool[Tensor, "B K"], most: int) -> tuple[Int[Tensor, "B most"], Bool[Tensor, "B most"]]:
    """The chosen columns of each row in order, padded with column 0; and which are not padding."""
    rows, columns = chosen.nonzero().unbind(dim=1)
    counts = chosen.sum(dim=1)
    places = torch.arange(len(rows)) - (counts.cumsum(dim=0) - counts)[rows]
    aligned = columns.new_zeros(len(chosen), most)
    aligned[rows, places] = columns
    return aligned, torch.arange(most) < counts[:, None]


def best_candidates(
    scores: Float[Tensor, "B K foreground"],
    offsets: Float[Tensor, "B K 4"],
    default_boxes: Float[Tensor, "*B K 4"],
    rules: Postprocessing,
    variances: Variances,
    limit: int,
) -> Candidates:
    """Pick and decode the `limit` best pairs of each image. Nothing here waits for a CUDA device.

    The default boxes are the same for all images (K, 4), or different in each (B, K, 4).
    """
    num_boxes, num_classes = scores.shape[1:]
    if num_boxes > 4 * limit:
        rows = _best_rows(scores, limit)
        scores = scores.gather(1, rows[..., None].expand(-1, -1, num_classes))
    else:  # so few are not worth a first selection
        rows = torch.arange(num_boxes, device=scores.device).expand(len(scores), -1)
    classes = torch.arange(num_classes, device=scores.device)
    keys = sort_keys(scores, classes * num_boxes + rows[..., None]).flatten(1)
    pairs = keys.topk(min(limit, keys.shape[1]), dim=1).indices

    scores, labels = scores.flatten(1).gather(1, pairs), pairs % num_classes
    chosen = rows.gather(1, pairs // num_classes)
    corners = chosen[..., None].expand(-1, -1, 4)
    offsets, default_boxes = offsets.gather(1, corners), default_boxes.expand_as(offsets).gather(1, corners)
    above = scores > rules.score_threshold
    accepted = above if limit <= rules.top_k else above & (_rank_in_class(labels) < rules.top_k)
    boxes = decode(offsets, default_boxes, variances)
    return Candidates(boxes, scores, labels, accepted, more=above[:, -1])


def _best_rows(scores: Float[Tensor, "B K foreground"], count: int) -> Int[Tensor, "B rows"]:
    """The `count` default boxes with the highest best score, which contain the `count` best pairs.

    The others are never sorted by class.
    """
    if on_cpu(scores) and len(scores) == 1:
        # Selecting by score alone is twice as fast; ties with the last one, and NaN, are included.
        best = scores[0].amax(dim=1)
        last = best.topk(count).values[-1]
        return (~(best < last)).nonzero().T
    best, label = scores.max(dim=2)
    places = label * scores.shape[1] + torch.arange(scores.shape[1], device=scores.device)
    return sort_keys(best, places).topk(count, dim=1).indices


def _rank_in_class(labels: Int[Tensor, "B P"]) -> Int[Tensor, "B P"]:
    """How many earlier pairs of the image have the same class."""
    ordered, order = labels.sort(dim=1, stable=True)
    place = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    is_first = ordered != F.pad(ordered, (1, 0), value=-1)[:, :-1]
    first = torch.where(is_first, place, 0).cummax(dim=1).values
    return torch.empty_like(place).scatter(1, order, place - first)


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
