"""The loss of a network that learns the answers of another one, its teacher, for the same default boxes.

Soft class targets with a temperature (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015,
section 2) and the teacher's offsets where it sees an object, as Chen et al. do ("Learning efficient object detection
models with knowledge distillation", 2017, section 3.2 and 3.3); without their hints and without the bound on offsets.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ssd.multibox.loss import hard_negatives
from ssd.settings import LossRules
from ssd.structures import Predictions
from ssd.system.device import on_cpu

TEMPERATURE = 2.0


def sees_object(answers: Predictions) -> Bool[Tensor, "B K"]:
    """The default boxes in which the teacher is surer of an object than of background."""
    return answers.logits.float().softmax(dim=-1)[..., 0] < 0.5


def teacher_loss(
    predictions: Predictions, answers: Predictions, rules: LossRules, *, positives: Tensor | None = None
) -> Float[Tensor, ""]:
    """Compare a batch's predictions with the answers of its teacher; both are for the same default boxes.

    Default boxes in which the teacher sees an object learn its offsets (smooth L1) and its distribution over the
    classes; of the others those that the network itself is least sure of learn the distribution, `negative_ratio` for
    each object box of the image and `negatives_per_empty_image` at least. Distributions are compared by the
    Kullback-Leibler divergence at `TEMPERATURE`, times its square. The sum is divided by the number of boxes with an
    object, or by `positives` where it is given; at least by 1. Annotations have no part in it.
    """
    with torch.autocast(predictions.logits.device.type, enabled=False):
        seen = sees_object(answers)
        wanted = (rules.negative_ratio * seen.sum(dim=1)).clamp(min=rules.negatives_per_empty_image)
        negatives = hard_negatives(predictions.logits.detach(), ~seen, wanted)
        classes = _sum(_divergence, predictions.logits, answers.logits, seen | negatives)
        boxes = _sum(_distance, predictions.offsets, answers.offsets, seen)
        normaliser = (seen.sum() if positives is None else positives).clamp(min=1)
        return (classes + boxes) / normaliser


def _divergence(logits: Float[Tensor, "R C"], answers: Float[Tensor, "R C"]) -> Float[Tensor, "R"]:
    mine, theirs = ((each / TEMPERATURE).log_softmax(dim=-1) for each in (logits, answers))
    return TEMPERATURE**2 * F.kl_div(mine, theirs, reduction="none", log_target=True).sum(dim=-1)


def _distance(offsets: Float[Tensor, "R 4"], answers: Float[Tensor, "R 4"]) -> Float[Tensor, "R"]:
    return F.smooth_l1_loss(offsets, answers, reduction="none").sum(dim=-1)


def _sum(
    loss: Callable[[Tensor, Tensor], Tensor],
    mine: Float[Tensor, "B K c"],
    theirs: Float[Tensor, "B K c"],
    chosen: Bool[Tensor, "B K"],
) -> Float[Tensor, ""]:
    """The sum over the chosen default boxes; off the CPU the host does not wait for their number."""
    mine, theirs, chosen = mine.flatten(0, 1), theirs.flatten(0, 1), chosen.flatten()
    if on_cpu(mine):
        rows = chosen.nonzero()[:, 0]
        return loss(mine.index_select(0, rows).float(), theirs.index_select(0, rows).float()).sum()
    return torch.where(chosen, loss(mine.float(), theirs.float()), 0).sum()
