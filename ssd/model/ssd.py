"""The network: a backbone, extra layers and a head, with the same outputs in training and in evaluation."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from ssd.structures import Predictions


class SSD(nn.Module):
    """Single Shot MultiBox Detector, figure 2 of the paper.

    `backbone` returns levels, fine first; `first_norm` normalises the first level for the head only, the backbone
    continues from the un-normalised one; `extras` continue from the last level; `head` gets the levels with the indices
    in `seen`.
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
