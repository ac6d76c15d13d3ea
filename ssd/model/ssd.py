"""The network: a backbone, extra layers, a head. What it says is the same in training and in evaluation."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from ssd.structures import Predictions


class SSD(nn.Module):
    """Single Shot MultiBox Detector, figure 2 of the paper.

    `backbone` gives levels, fine first; `first_norm` touches the first level on its way to the head alone, while the
    backbone goes on from the un-normalised one; `extras` go on from the last level; `head` sees those of them all
    whose places are in `seen`, from 0.
    """

    def __init__(
        self, backbone: nn.Module, first_norm: nn.Module, extras: nn.Module, head: nn.Module, seen: Sequence[int]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.first_norm = first_norm
        self.extras = extras
        self.head = head
        self.seen = tuple(seen)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Predictions:
        """Offsets and logits for every default box."""
        first, *others = self.backbone(images)
        levels = [self.first_norm(first), *others, *self.extras(others[-1])]
        predictions: Predictions = self.head([levels[place] for place in self.seen])
        return predictions
