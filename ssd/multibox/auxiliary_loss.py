"""The loss of GoogLeNet's auxiliary heads, which learn here which classes are in the image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssd.structures import Targets


def presence_loss(logits: Sequence[Float[Tensor, "B n"]], targets: Targets) -> Float[Tensor, ""]:
    """Binary cross entropy, mean over images and classes, summed over the heads.

    GoogLeNet's heads (Szegedy et al., "Going deeper with convolutions", section 5) learn the one class of an image;
    an image to detect in has many, so each class is a binary decision. A crowd region counts as its class. A class
    that may be in an image without an annotation (`targets.complete`) is no decision there if none of it is annotated.
    """
    loss = targets.boxes.new_zeros(())
    for head in logits:
        wanted = present(targets, head.shape[1])
        known = None if targets.complete is None else wanted.maximum(targets.complete[:, 1:].float())
        loss = loss + F.binary_cross_entropy_with_logits(head.float(), wanted, known)
    return loss


def present(targets: Targets, num_classes: int) -> Float[Tensor, "B n"]:
    """1 for each class of which an image has an object, else 0."""
    wanted = targets.boxes.new_zeros(len(targets.labels), num_classes + 1, dtype=torch.float32)
    # Padding goes to a column of its own, which is dropped.
    wanted.scatter_(1, torch.where(targets.valid, targets.labels, num_classes), 1.0)
    return wanted[:, :num_classes]
