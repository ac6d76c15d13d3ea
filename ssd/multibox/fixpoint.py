"""Non-maximum suppression for all images and classes at once, in operations of fixed shape.

Greedy suppression keeps a candidate if no kept candidate before it (better, of its class and image) overlaps it too
much. That is one equation for the whole batch: kept = accepted and not (kept @ overlaps). Iterating it from `accepted`
converges: after round r every candidate with a chain of at most r better neighbours has its final answer, since the
first of a chain depends on no other. When two rounds in a row agree, the equation holds for all, and its solution is
unique. Nothing here is read on the host, and no library operator is needed, so the graph of it can be captured.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ssd.boxes import REACH, iou
from ssd.multibox.candidates import Candidates

ROUNDS = 12
"""Dense images of one class converged after 9 rounds at most; images that do not are marked."""


def suppress_by_fixpoint(
    candidates: Candidates, iou_threshold: float, rounds: int = ROUNDS
) -> tuple[Bool[Tensor, "B P"], Bool[Tensor, "B"]]:
    """Mark the candidates that greedy suppression keeps, and the images for which `rounds` sufficed.

    Overlaps are computed in double precision, as in `postprocess.suppress`, so that both keep the same candidates.
    """
    rivals = _rivals(candidates, iou_threshold)
    kept = before = candidates.accepted
    for _ in range(rounds):
        before = kept
        fallen = torch.bmm(before[:, None].to(rivals.dtype), rivals)[:, 0] > 0
        kept = candidates.accepted & ~fallen
    return kept, (kept == before).all(dim=1)


def _rivals(candidates: Candidates, iou_threshold: float) -> Float[Tensor, "B P P"]:
    """1 where the candidate of the row, if kept, suppresses that of the column."""
    boxes, labels = candidates.boxes.double().clamp(-REACH, REACH), candidates.labels
    too_close = (iou(boxes, boxes) > iou_threshold) & (labels[:, :, None] == labels[:, None])
    # Sums of zeros and ones are exact in every format that a matrix product may be rounded to.
    return too_close.triu(diagonal=1).float()
