"""Normalisation after a convolution: none, over the batch, or over groups of channels."""

import math
from collections.abc import Iterator
from typing import Literal

from torch import nn

Norm = Literal["none", "batch", "group"]

_GROUPS, _CHANNELS_OF_A_GROUP = 32, 4  # at most, at least


def with_relu(name: str, conv: nn.Conv2d, norm: Norm = "none") -> Iterator[tuple[str, nn.Module]]:
    """A convolution and what follows it, each with its name: `conv1_1`, perhaps `norm1_1`, `relu1_1`."""
    yield f"conv{name}", conv
    if norm != "none":
        yield f"norm{name}", normalisation(norm, conv.out_channels)
    yield f"relu{name}", nn.ReLU(inplace=True)


def normalisation(norm: Literal["batch", "group"], channels: int, *, eps: float = 1e-5) -> nn.Module:
    """A normalisation layer; `eps` is added to the variance."""
    if norm == "batch":
        return nn.BatchNorm2d(channels, eps=eps)
    return nn.GroupNorm(groups(channels), channels, eps=eps)


def groups(channels: int) -> int:
    """Number of GroupNorm groups for so many channels: 32 (Wu and He 2018, table 3), fewer in narrow layers.

    A group needs several channels: on the last levels, of one cell, a single value would be normalised to zero.
    """
    return math.gcd(_GROUPS, channels // _CHANNELS_OF_A_GROUP)
