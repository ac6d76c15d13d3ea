"""Box voting: average the box of each detection with its neighbours.

Several default boxes predict the same object. Suppression keeps the box with the highest score, which is not always the
most precise one. The mean of all of them is more precise (Gidaris and Komodakis 2015, "Object detection via a
multi-region & semantic segmentation-aware CNN model"), above all with larger weights for closer boxes (He et al. 2019,
"Bounding Box Regression with Uncertainty"; a learned variance is part of the weight there, the score here).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssd.boxes import REACH, iou
from ssd.settings import Postprocessing

VOTERS = 400
"""So many of the best pairs of default box and class vote in an image."""
LEAST_SCORE = 0.25
"""The least score of a voter, as a share of the detection's: boxes do not depend on the score threshold."""


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

    Voters have the detection's class, an IoU with it above `iou_threshold`, and at least `LEAST_SCORE` of its score.
    The weight of a vote is the voter's score times exp(-(1 - IoU)^2 / box_voting). Where the weights sum to less than
    the detection's score, its own box has the rest, so a detection without voters keeps its box.
    """
    overlap = iou(boxes.clamp(-REACH, REACH), voter_boxes.clamp(-REACH, REACH))
    can = (labels[:, :, None] == voter_labels[:, None]) & (overlap > rules.iou_threshold)
    can = can & (voter_scores[:, None] >= LEAST_SCORE * scores[:, :, None])
    votes = voter_scores[:, None] * torch.exp((1 - overlap).square() / -rules.box_voting)
    weights = torch.where(can, votes, 0.0)
    whole = torch.maximum(weights.sum(dim=2), scores).clamp(min=torch.finfo(weights.dtype).tiny)
    weights = weights / whole[:, :, None]
    # Not a matrix product, which some devices compute with ten bits of precision.
    sides = [
        side + torch.where(can, weights * (theirs[:, None] - side[:, :, None]), 0.0).sum(dim=2)
        for side, theirs in zip(boxes.unbind(-1), voter_boxes.unbind(-1), strict=True)
    ]
    return torch.stack(sides, dim=-1)
