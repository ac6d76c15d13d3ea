"""The multibox loss: equation 1 of the paper, with hard negative mining.

Default boxes that answer for an object learn its offsets (smooth L1) and its class (softmax cross entropy); of the
others only the worst few learn that they are background, three for each positive of their image.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssd.multibox.coder import Variances, encode
from ssd.multibox.matcher import Matches
from ssd.settings import LossRules
from ssd.structures import Predictions, Targets
from ssd.system.device import on_cpu

# Rows of logits softened at once on the CPU: 0.75 MB of 91 columns.
_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class LossParts:
    """The loss and what it is made of. Both parts are normalised.

    `auxiliary` is what heads that only train add, already multiplied by their weight.
    """

    box: Float[Tensor, ""]
    confidence: Float[Tensor, ""]
    positives: Int[Tensor, ""]  # matched default boxes of this batch
    auxiliary: Float[Tensor, ""] | float = 0.0

    @property
    def total(self) -> Float[Tensor, ""]:
        """What backward starts from."""
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
) -> LossParts:
    """Compare a batch's predictions with what its default boxes answer for.

    Both parts are sums over the batch, divided by the matched default boxes of the batch, or by `positives` where it is
    given (matched boxes of all processes over their number); at least by 1. An image without objects teaches background
    through `negatives_per_empty_image` boxes; 0 is the paper, where it teaches nothing. Sums are made in float32,
    whatever the predictions are. Without anything to learn the loss is a zero that is still connected to the network.

    It relies on finite boxes with an area and on labels from 0 to C - 2 in every valid row: whatever reads annotations
    checks that (`ssd.data.loading.batches.load_checked`), where the image can still be named.
    """
    matched = matches.object_index >= 0
    count = matched.sum()
    with torch.autocast(predictions.logits.device.type, enabled=False):
        wanted = _negatives_wanted(targets, matched, rules)
        negatives = hard_negatives(predictions.logits, ~matched & ~matches.ignored, wanted)
        box = _box_loss(predictions.offsets, targets, matches, default_boxes, variances)
        classes = _classes(targets, matches)
        confidence = _confidence_loss(predictions.logits, classes, matched | negatives, rules.label_smoothing)
        normaliser = (count if positives is None else positives).clamp(min=1)
        return LossParts(box / normaliser, confidence / normaliser, count)


def hard_negatives(
    logits: Float[Tensor, "B K C"], candidates: Bool[Tensor, "B K"], wanted: Int[Tensor, "B"]
) -> Bool[Tensor, "B K"]:
    """Mark the `wanted` candidates of each image that are least sure to be background; ties go to the lower index."""
    # A loss that is not a number counts as the worst: it must reach the sum, where the training loop sees it.
    loss = _background_loss(logits).nan_to_num(nan=torch.inf, posinf=torch.inf).masked_fill_(~candidates, -torch.inf)
    # Off the CPU nobody waits for `wanted`: everything is ranked.
    most = int(wanted.max().clamp(max=loss.shape[1])) if on_cpu(loss) else loss.shape[1]
    if most == 0:
        return torch.zeros_like(candidates)
    ranked = loss.topk(most, dim=1).values
    last = ranked.gather(1, (wanted - 1).clamp(0, most - 1)[:, None])
    worse = loss > last
    equal = loss == last
    room = wanted[:, None] - worse.sum(dim=1, keepdim=True)
    return candidates & (worse | (equal & (equal.cumsum(dim=1) <= room)))


def _negatives_wanted(targets: Targets, matched: Bool[Tensor, "B K"], rules: LossRules) -> Int[Tensor, "B"]:
    has_objects = (targets.valid & ~targets.crowd).any(dim=1)
    return torch.where(has_objects, rules.negative_ratio * matched.sum(dim=1), rules.negatives_per_empty_image)


@torch.no_grad()
def _background_loss(logits: Float[Tensor, "B K C"]) -> Float[Tensor, "B K"]:
    """Cross entropy of every default box if it were background."""
    if not on_cpu(logits):
        return -logits.float().log_softmax(dim=-1)[..., 0]
    # Piece by piece, for the cache: the batch at once would be written to memory to be read for one column of it.
    pieces = torch.split(logits.flatten(0, 1), _ROWS_AT_ONCE)
    return torch.cat([-piece.float().log_softmax(dim=-1)[:, 0] for piece in pieces]).view(logits.shape[:2])


def _classes(targets: Targets, matches: Matches) -> Int[Tensor, "B K"]:
    """The column of the logits that is right for each default box: 0 for background, else label + 1."""
    # One more column, so that index -1 and a batch without any object find something: background.
    columns = F.pad(targets.labels + 1, (0, 1))
    index = matches.object_index
    return columns.gather(1, torch.where(index >= 0, index, columns.shape[1] - 1))


def _confidence_loss(
    logits: Float[Tensor, "B K C"], classes: Int[Tensor, "B K"], chosen: Bool[Tensor, "B K"], label_smoothing: float
) -> Float[Tensor, ""]:
    logits, classes, chosen = logits.flatten(0, 1), classes.flatten(), chosen.flatten()
    if on_cpu(logits):  # a small share of the rows: worth looking up which
        rows = chosen.nonzero()[:, 0]
        logits, classes = logits.index_select(0, rows), classes[rows]
        return F.cross_entropy(logits.float(), classes, reduction="sum", label_smoothing=label_smoothing)
    loss = F.cross_entropy(logits.float(), classes, reduction="none", label_smoothing=label_smoothing)
    return torch.where(chosen, loss, 0).sum()


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
    # Unmatched default boxes stand in for their own object: a finite offset, then left out of the sum.
    boxes = F.pad(boxes, (0, 0, 0, 1))
    matched = (index >= 0)[..., None]
    chosen = boxes.gather(1, torch.where(index >= 0, index, 0)[..., None].expand(-1, -1, 4))
    wanted = encode(torch.where(matched, chosen, default_boxes), default_boxes, variances)
    loss = F.smooth_l1_loss(offsets.float(), wanted, reduction="none")
    return torch.where(matched, loss, 0).sum()
