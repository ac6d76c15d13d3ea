"""The prediction head: four offsets and the class logits of every default box, from the cell of its level."""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssd.model.predictor import Predictor
from ssd.structures import Predictions

# From the channels of each level and the outputs of each cell to one predictor for each level.
Predictors = Callable[[Sequence[int], Sequence[int]], Iterable[nn.Module]]


def convolutions(in_channels: Sequence[int], outputs: Sequence[int]) -> Iterable[nn.Module]:
    """One 3x3 convolution for each level (section 2.1, "Convolutional predictors")."""
    return (Predictor(c, n) for c, n in zip(in_channels, outputs, strict=True))


class MultiBoxHead(nn.Module):
    """Two predictors for each level: offsets and logits; `predictors` makes them, 3x3 convolutions in the paper.

    Output channels are ordered by default box, so that a reshape gives the order of `default_boxes`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        boxes_per_cell: Sequence[int],
        num_classes: int,
        predictors: Predictors = convolutions,
    ) -> None:
        super().__init__()
        self.columns = num_classes + 1  # background first
        self.boxes = nn.ModuleList(predictors(in_channels, [n * 4 for n in boxes_per_cell]))
        self.classes = nn.ModuleList(predictors(in_channels, [n * self.columns for n in boxes_per_cell]))

    def forward(self, levels: Sequence[Float[Tensor, "B _ _ _"]]) -> Predictions:
        """Offsets (B, K, 4) and logits (B, K, C) over all levels."""
        offsets = [_per_box(layer(level), 4) for layer, level in zip(self.boxes, levels, strict=True)]
        logits = [_per_box(layer(level), self.columns) for layer, level in zip(self.classes, levels, strict=True)]
        return Predictions(torch.cat(offsets, dim=1), torch.cat(logits, dim=1))


def _per_box(maps: Float[Tensor, "B c h w"], columns: int) -> Float[Tensor, "B _ columns"]:
    """(B, boxes x columns, h, w) to (B, h x w x boxes, columns)."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, columns)
