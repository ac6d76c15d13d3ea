"""The best overlap of a box with thousands of default boxes, without overlapping it with each of them.

Default boxes of one shape lie on a grid, so the width and the height of the intersection are independent: the best
column and the best row meet in the best cell. This is exact, and a fit that tries hundreds of sizes takes seconds.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from ssd.boxes import area, to_cxcywh
from ssd.multibox.default_boxes import boxes_per_cell, default_boxes
from ssd.settings import BoxSettings

REACHED = 0.5  # the IoU threshold of matching
_AT_ONCE = 4096  # boxes; keeps what they share with every column in the cache
_Level = tuple[Tensor, Tensor, Tensor]  # columns (G), rows (G), shapes (A, 2)


def best_overlaps(boxes: Float[Tensor, "N 4"], settings: BoxSettings) -> Float[Tensor, "N"]:
    """The IoU of every box (fractions of the image) with its best default box."""
    levels = _levels(settings)
    parts = [_best_of_levels(part, levels) for part in torch.split(boxes, _AT_ONCE)]
    return torch.cat(parts) if parts else boxes.new_zeros(0)


def _levels(settings: BoxSettings) -> list[_Level]:
    """Columns, rows and shapes of every level, read off the tiled boxes so that clipping is in them."""
    counts = [grid * grid * each for grid, each in zip(settings.grids, boxes_per_cell(settings), strict=True)]
    levels = []
    for grid, level in zip(settings.grids, torch.split(to_cxcywh(default_boxes(settings)), counts), strict=True):
        cells = level.view(grid, grid, -1, 4)  # row, column, shape
        levels.append((cells[0, :, 0, 0], cells[:, 0, 0, 1], cells[0, 0, :, 2:]))
    return levels


def _best_of_levels(boxes: Float[Tensor, "N 4"], levels: Iterable[_Level]) -> Float[Tensor, "N"]:
    best = boxes.new_zeros(len(boxes))
    for columns, rows, shapes in levels:
        width = _shared(boxes[:, 0], boxes[:, 2], columns, shapes[:, 0])
        height = _shared(boxes[:, 1], boxes[:, 3], rows, shapes[:, 1])
        shared = width * height
        union = area(boxes)[:, None] + shapes.prod(dim=1) - shared
        best = torch.maximum(best, (shared / union).amax(dim=1))
    return best


def _shared(
    low: Float[Tensor, "N"], high: Float[Tensor, "N"], centres: Float[Tensor, "G"], sides: Float[Tensor, "A"]
) -> Float[Tensor, "N A"]:
    """The longest intersection of the interval [low, high] with an interval of each length, over all centres."""
    starts, ends = centres[:, None] - sides / 2, centres[:, None] + sides / 2  # G, A
    stretch = torch.minimum(high[:, None, None], ends) - torch.maximum(low[:, None, None], starts)
    return stretch.amax(dim=1).clamp_(min=0)
