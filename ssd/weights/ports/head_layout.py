"""Reorders the rows of other implementations' heads to this package's order of boxes, offsets and classes.

Output channels of a head are ordered by default box here; each box has four offsets, or one logit per class with
background first. Rows of ports with another order are moved once, when the checkpoint is read.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from ssd.settings import BoxSettings

# What is done to one parameter seen as (boxes, columns, ...): weights have three dimensions more, biases none.
Change = Callable[[Tensor], Tensor]


def rearrange(
    state: dict[str, Tensor], boxes: BoxSettings, head: Literal["boxes", "classes"], change: Change
) -> dict[str, Tensor]:
    """Apply `change` to the rows of one head on every level; other tensors stay. Shapes were checked before."""
    out = dict(state)
    for level, ratios in enumerate(boxes.aspect_ratios):
        for part in ("weight", "bias"):
            name = f"head.{head}.{level}.{part}"
            rows = state[name].reshape(2 + 2 * len(ratios), -1, *state[name].shape[1:])
            out[name] = change(rows).flatten(0, 1)
    return out


def background_first(rows: Tensor) -> Tensor:
    """Move the last class column to the front."""
    return rows.roll(1, dims=1)


def x_before_y(rows: Tensor) -> Tensor:
    """Offsets (y, x, height, width) become (x, y, width, height)."""
    return rows[:, [1, 0, 3, 2]]


def boxes_in_order(order: Sequence[int]) -> Change:
    """Put the boxes of a cell into `order`; a cell of fewer boxes uses those of its numbers that it has."""
    return lambda rows: rows[[index for index in order if index < len(rows)]]
