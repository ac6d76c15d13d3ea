"""The prediction head: four offsets and the class logits of every default box, from the cell of its level."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssd.structures import Predictions


class MultiBoxHead(nn.Module):
    """Two 3x3 convolutions per level: offsets and logits (section 2.1, "Convolutional predictors").

    Output channels are ordered by default box, so that a reshape gives the order of `default_boxes`.
    """

    def __init__(self, in_channels: Sequence[int], boxes_per_cell: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.columns = num_classes + 1  # background first
        pairs = list(zip(in_channels, boxes_per_cell, strict=True))
        self.boxes = nn.ModuleList(nn.Conv2d(c, n * 4, 3, padding=1) for c, n in pairs)
        self.classes = nn.ModuleList(nn.Conv2d(c, n * self.columns, 3, padding=1) for c, n in pairs)

    def forward(self, levels: Sequence[Float[Tensor, "B _ _ _"]]) -> Predictions:
        """Offsets (B, K, 4) and logits (B, K, C) over all levels."""
        offsets = [_per_box(conv(level), 4) for conv, level in zip(self.boxes, levels, strict=True)]
        logits = [_per_box(conv(level), self.columns) for conv, level in zip(self.classes, levels, strict=True)]
        return Predictions(torch.cat(offsets, dim=1), torch.cat(logits, dim=1))


def _per_box(maps: Float[Tensor, "B c h w"], columns: int) -> Float[Tensor, "B _ columns"]:
    """(B, boxes x columns, h, w) to (B, h x w x boxes, columns)."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, columns)
