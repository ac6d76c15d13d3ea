"""Box voting: suppression picks the boxes, those around them say where they end.

Several default boxes answer for an object, and each has its own guess of where it lies. Suppression takes the guess of
the one that is surest of the class, and that is not the one that is surest of the place. The mean of them all is nearer
(Gidaris and Komodakis 2015, "Object detection via a multi-region & semantic segmentation-aware CNN model"), most of
all if those in nearly the same place count most (He et al. 2019, "Bounding Box Regression with Uncertainty"; there a
learned variance weighs too, here the score).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssd.boxes import REACH, iou
from ssd.settings import Postprocessing

VOTERS = 400
"""Pairs of default box and class that vote in an image: its best."""
LEAST_SCORE = 0.25
"""Of a detection's score: what a voter needs. It keeps a detection's box apart from any threshold on scores."""


def vote(
    boxes: Float[Tensor, "B D 4"],
    scores: Float[Tensor, "B D"],
    labels: Int[Tensor, "B D"],
    voter_boxes: Float[Tensor, "B V 4"],
    voter_scores: Float[Tensor, "B V"],
    voter_labels: Int[Tensor, "B V"],
    rules: Postprocessing,
) -> Float[Tensor, "B D 4"]:
    """Move each detection's box to the mean of its voters' boxes.

    Voters are of the detection's class, overlap it by more than `iou_threshold` and have `LEAST_SCORE` of its score.
    A vote weighs the voter's score times exp(-(1 - IoU)^2 / box_voting); all together weigh as much as the detection's
    score at least, so that a detection which is not among its voters still counts. One without voters keeps its box.
    """
    overlap = iou(boxes.clamp(-REACH, REACH), voter_boxes.clamp(-REACH, REACH))
    can = (labels[:, :, None] == voter_labels[:, None]) & (overlap > rules.iou_threshold)
    can = can & (voter_scores[:, None] >= LEAST_SCORE * scores[:, :, None])
    votes = voter_scores[:, None] * torch.exp((1 - overlap).square() / -rules.box_voting)
    weights = torch.where(can, votes, 0.0)
    whole = torch.maximum(weights.sum(dim=2), scores).clamp(min=torch.finfo(weights.dtype).tiny)
    weights = weights / whole[:, :, None]
    # The mean of differences, side by side: no product of matrices, which some devices round to ten bits.
    sides = [
        side + torch.where(can, weights * (theirs[:, None] - side[:, :, None]), 0.0).sum(dim=2)
        for side, theirs in zip(boxes.unbind(-1), voter_boxes.unbind(-1), strict=True)
    ]
    return torch.stack(sides, dim=-1)
