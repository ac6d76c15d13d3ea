"""Encoding a box as four offsets, and decoding it: equation 2 of the paper."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ssd.boxes import from_cxcywh, to_cxcywh

# A side grows at most 62.5-fold: beyond it exp() overflows on an untrained network. torchvision's weights expect it.
LARGEST_LOG_SIDE = math.log(1000 / 16)

Variances = tuple[float, float, float, float]


def encode(
    boxes: Float[Tensor, "*rest 4"], default_boxes: Float[Tensor, "*rest2 4"], variances: Variances
) -> Float[Tensor, "*rest3 4"]:
    """Express each box relative to its default box.

    Centres are measured in default-box sides, sides as log ratios; both are divided by `variances` so that their
    spread is near one. A box without width or height has no logarithm and gives an infinite offset: such
    boxes are refused where annotations are read.
    """
    cx, cy, width, height = to_cxcywh(boxes).unbind(-1)
    default_cx, default_cy, default_width, default_height = to_cxcywh(default_boxes).unbind(-1)
    # Scalars, not a tensor of variances: a tensor would be copied from host to device at every step.
    return torch.stack(
        [
            (cx - default_cx) / default_width / variances[0],
            (cy - default_cy) / default_height / variances[1],
            torch.log(width / default_width) / variances[2],
            torch.log(height / default_height) / variances[3],
        ],
        dim=-1,
    )


def decode(
    offsets: Float[Tensor, "*rest 4"], default_boxes: Float[Tensor, "*rest2 4"], variances: Variances
) -> Float[Tensor, "*rest3 4"]:
    """Turn offsets back into boxes; the inverse of `encode` up to `LARGEST_LOG_SIDE`."""
    x, y, log_width, log_height = offsets.unbind(-1)
    default_cx, default_cy, default_width, default_height = to_cxcywh(default_boxes).unbind(-1)
    boxes_cxcywh = torch.stack(
        [
            default_cx + x * variances[0] * default_width,
            default_cy + y * variances[1] * default_height,
            torch.exp((log_width * variances[2]).clamp(max=LARGEST_LOG_SIDE)) * default_width,
            torch.exp((log_height * variances[3]).clamp(max=LARGEST_LOG_SIDE)) * default_height,
        ],
        dim=-1,
    )
    return from_cxcywh(boxes_cxcywh)
