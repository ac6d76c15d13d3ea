"""The multibox loss: equation 1 of the paper, with hard negative mining.

Default boxes that answer for an object learn its offsets (smooth L1) and its class (softmax cross entropy); of the
others only the worst few learn that they are background, three for each positive of their image.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ssd.multibox.coder import Variances, encode
from ssd.multibox.matcher import Matches
from ssd.settings import LossRules
from ssd.structures import Predictions, Targets
from ssd.system.device import on_cpu

# Rows of logits that go through the softmax at once on the CPU: 0.75 MB of 91 columns.
_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class LossParts:
    """The loss and its parts, divided by `divisor`, or by 1 where it is less.

    `auxiliary` is the loss of heads that exist only in training, already multiplied by its weight.
    """

    box: Float[Tensor, ""]
    confidence: Float[Tensor, ""]
    positives: Int[Tensor, ""]  # matched default boxes of this batch
    divisor: Shaped[Tensor, ""]
    auxiliary: Float[Tensor, ""] | float = 0.0

    @property
    def total(self) -> Float[Tensor, ""]:
        """The sum of the parts, from which gradients are computed."""
        return self.box + self.confidence + self.auxiliary


def multibox_loss(
    predictions: Predictions,
    targets: Targets,
    matches: Matches,
    default_boxes: Float[Tensor, "K 4"],
    rules: LossRules,
    variances: Variances,
    *,
    positives: Tensor | None = None,
    class_weights: Float[Tensor, "C"] | None = None,
) -> LossParts:
    """Compare a batch's predictions with the objects that its default boxes are matched to.

    Both parts are sums over the batch, divided by the number of matched default boxes, or by `positives` where it is
    given (the mean number over all processes); at least by 1. An image without objects contributes
    `negatives_per_empty_image` negatives; with 0, as in the paper, it contributes nothing. Sums are in float32,
    whatever the dtype of the predictions. A batch that contributes nothing gives a zero with a gradient.

    Where `targets.complete` is given, objects of other classes may be in an image without an annotation: these classes
    leave the softmax of its negatives, which are ranked without them too, and get no gradient there. Positives keep the
    full softmax.

    `class_weights` (background first) multiply the cross entropy of each default box, smoothed or not, by the weight of
    its class; the divisor stays the number of boxes.

    Every valid row must have a finite box with an area and a label from 0 to C - 2:
    `ssd.data.loading.batches.load_checked` ensures it while the image can still be named.
    """
    matched = matches.object_index >= 0
    count = matched.sum()
    with torch.autocast(predictions.logits.device.type, enabled=False):
        wanted = _negatives_wanted(targets, matched, rules)
        hidden = None if targets.complete is None else ~matched[..., None] & ~targets.complete[:, None]
        ranked = _without(predictions.logits.detach(), hidden)
        negatives = hard_negatives(ranked, ~matched & ~matches.ignored, wanted)
        box = _box_loss(predictions.offsets, targets, matches, default_boxes, variances)
        classes = _classes(targets, matches)
        confidence = _confidence_loss(
            predictions.logits, hidden, classes, matched | negatives, rules.label_smoothing, class_weights
        )
        divisor = count if positives is None else positives
        at_least_1 = divisor.clamp(min=1)
        return LossParts(box / at_least_1, confidence / at_least_1, count, divisor)


def hard_negatives(
    logits: Float[Tensor, "B K C"], candidates: Bool[Tensor, "B K"], wanted: Int[Tensor, "B"]
) -> Bool[Tensor, "B K"]:
    """Mark the `wanted` candidates of each image with the highest loss; ties go to the lower index."""
    # NaN counts as the highest: it must reach the sum, where the training loop sees it.
    loss = _background_loss(logits).nan_to_num(nan=torch.inf, posinf=torch.inf).masked_fill_(~candidates, -torch.inf)
    # Off the CPU everything is ranked, so that the host need not wait for `wanted`.
    most = int(wanted.max().clamp(max=loss.shape[1])) if on_cpu(loss) else loss.shape[1]
    if most == 0:
        return torch.zeros_like(candidates)
    ranked = loss.topk(most, dim=1).values
    last = ranked.gather(1, (wanted - 1).clamp(0, most - 1)[:, None])
    worse = loss > last
    equal = loss == last
    room = wanted[:, None] - worse.sum(dim=1, keepdim=True)
    return candidates & (worse | (equal & (equal.cumsum(dim=1) <= room)))


def _without(logits: Float[Tensor, "*rows C"], hidden: Bool[Tensor, "*rows C"] | None) -> Float[Tensor, "*rows C"]:
    return logits if hidden is None else logits.masked_fill(hidden, -torch.inf)


def _negatives_wanted(targets: Targets, matched: Bool[Tensor, "B K"], rules: LossRules) -> Int[Tensor, "B"]:
    has_objects = (targets.valid & ~targets.crowd).any(dim=1)
    return torch.where(has_objects, rules.negative_ratio * matched.sum(dim=1), rules.negatives_per_empty_image)


@torch.no_grad()
def _background_loss(logits: Float[Tensor, "B K C"]) -> Float[Tensor, "B K"]:
    """Cross entropy of every default box with background as its class."""
    if not on_cpu(logits):
        return -logits.float().log_softmax(dim=-1)[..., 0]
    # A few rows at a time stay in the cache; the softmax of the whole batch would go through memory.
    pieces = torch.split(logits.flatten(0, 1), _ROWS_AT_ONCE)
    return torch.cat([-piece.float().log_softmax(dim=-1)[:, 0] for piece in pieces]).view(logits.shape[:2])


def _classes(targets: Targets, matches: Matches) -> Int[Tensor, "B K"]:
    """The correct column of the logits for each default box: 0 for background, else label + 1."""
    # The appended column is background, for index -1 and for a batch without any object.
    columns = F.pad(targets.labels + 1, (0, 1))
    index = matches.object_index
    return columns.gather(1, torch.where(index >= 0, index, columns.shape[1] - 1))


def _confidence_loss(
    logits: Float[Tensor, "B K C"],
    hidden: Bool[Tensor, "B K C"] | None,
    classes: Int[Tensor, "B K"],
    chosen: Bool[Tensor, "B K"],
    label_smoothing: float,
    weights: Float[Tensor, "C"] | None,
) -> Float[Tensor, ""]:
    logits, classes, chosen = logits.flatten(0, 1), classes.flatten(), chosen.flatten()
    hidden = None if hidden is None else hidden.flatten(0, 1)
    if on_cpu(logits):  # only a small share of the rows is needed
        rows = chosen.nonzero()[:, 0]
        hidden = None if hidden is None else hidden[rows]
        loss = _cross_entropy(logits.index_select(0, rows).float(), hidden, classes[rows], label_smoothing, weights)
        return loss.sum()
    return torch.where(chosen, _cross_entropy(logits.float(), hidden, classes, label_smoothing, weights), 0).sum()


def _cross_entropy(
    logits: Float[Tensor, "R C"],
    hidden: Bool[Tensor, "R C"] | None,
    classes: Int[Tensor, "R"],
    label_smoothing: float,
    weights: Float[Tensor, "C"] | None,
) -> Float[Tensor, "R"]:
    """The cross entropy of each row, times the weight of its class."""
    if hidden is None:
        loss = F.cross_entropy(logits, classes, reduction="none", label_smoothing=label_smoothing)
    else:
        loss = _masked_cross_entropy(logits, hidden, classes, label_smoothing)
    return loss if weights is None else loss * weights[classes]


def _masked_cross_entropy(
    logits: Float[Tensor, "R C"], hidden: Bool[Tensor, "R C"], classes: Int[Tensor, "R"], label_smoothing: float
) -> Float[Tensor, "R"]:
    """The cross entropy of each row over its columns that are not hidden; smoothing is spread over these alone."""
    log_probabilities = _without(logits, hidden).log_softmax(dim=-1)
    loss = F.nll_loss(log_probabilities, classes, reduction="none")
    if not label_smoothing:
        return loss
    seen = log_probabilities.masked_fill(hidden, 0.0)  # -inf times a weight of 0 would be NaN
    return (1 - label_smoothing) * loss - label_smoothing * seen.sum(dim=-1) / (~hidden).sum(dim=-1)


def _box_loss(
    offsets: Float[Tensor, "B K 4"],
    targets: Targets,
    matches: Matches,
    default_boxes: Float[Tensor, "K 4"],
    variances: Variances,
) -> Float[Tensor, ""]:
    index, boxes = matches.object_index, targets.boxes.float()
    default_boxes = default_boxes.float()
    if on_cpu(offsets):
        images, columns = (index >= 0).nonzero().unbind(dim=1)
        rows = images * index.shape[1] + columns
        wanted = encode(boxes[images, index[images, columns]], default_boxes[columns], variances)
        return F.smooth_l1_loss(offsets.flatten(0, 1).index_select(0, rows).float(), wanted, reduction="sum")
    # Unmatched default boxes are encoded relative to themselves, which is finite, and then left out of the sum.
    boxes = F.pad(boxes, (0, 0, 0, 1))
    matched = (index >= 0)[..., None]
    chosen = boxes.gather(1, torch.where(index >= 0, index, 0)[..., None].expand(-1, -1, 4))
    wanted = encode(torch.where(matched, chosen, default_boxes), default_boxes, variances)
    loss = F.smooth_l1_loss(offsets.float(), wanted, reduction="none")
    return torch.where(matched, loss, 0).sum()
