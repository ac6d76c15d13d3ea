"""The candidates among which suppression chooses: the best pairs of default box and class of each image."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssd.multibox.coder import Variances, decode
from ssd.multibox.sort_keys import sort_keys
from ssd.settings import Postprocessing
from ssd.structures import Predictions
from ssd.system.device import on_cpu

# Rows of logits worked on at once on the CPU: 3 MB of 91 columns stay in the cache.
_ROWS_AT_ONCE = 9_000


@dataclass(frozen=True)
class Candidates:
    """The best P pairs of default box and class of each image, best first."""

    boxes: Float[Tensor, "B P 4"]
    scores: Float[Tensor, "B P"]
    labels: Int[Tensor, "B P"]  # from 0, without background
    accepted: Bool[Tensor, "B P"]  # above the thresholds, and among the `top_k` of their class
    more: Bool[Tensor, "B"]  # whether the last pair is above the threshold, so that the next one may be too


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
    if rules.class_thresholds:  # filled on the device, since copying numbers there would wait
        least = torch.cat([scores.new_full((1,), threshold) for threshold in rules.class_thresholds])
        accepted = accepted & (scores > least[labels])
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


_Part = tuple[Float[Tensor, "B k foreground"], Float[Tensor, "B k 4"], Float[Tensor, "B k 4"]]


def likely_parts(
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
