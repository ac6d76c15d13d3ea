"""The convolution that predicts, with a backward pass for the few cells that have a gradient.

Hard negative mining (section 2.2) leaves most default boxes without a gradient: four are left for each matched one, of
8,732. Products with the rows of the other cells would be products with zero.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

from ssd.system.device import on_cpu

_SIDE = 3
# Of the cells of all images; above it oneDNN's kernels for whole maps are used, which need no copy of the windows.
_LARGEST_SHARE = 0.25


class Predictor(nn.Conv2d):
    """A 3x3 convolution that keeps the size; in training on the CPU, its gradients are computed from some cells alone.

    They are those of `nn.Conv2d` to rounding. A compiled network, which cannot look at values, has the plain layer.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, _SIDE, padding=1)

    def forward(self, input: Float[Tensor, "B _ h w"]) -> Float[Tensor, "B _ h w"]:
        """The convolution, under autocast in its precision."""
        if not (self.training and torch.is_grad_enabled() and on_cpu(input)) or torch.compiler.is_compiling():
            return super().forward(input)
        assert self.bias is not None
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        result: Tensor = _FewCells.apply(input.to(dtype), self.weight.to(dtype), self.bias.to(dtype))
        return result


class _FewCells(torch.autograd.Function):
    """A 3x3 convolution with a border of zeros, whose backward pass skips the cells without a gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        return F.conv2d(features, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        features, weight = ctx.saved_tensors
        wanted: bool = ctx.needs_input_grad[0]  # a frozen backbone's features need none
        by_bias = gradient.sum(dim=(0, 2, 3))
        maps = gradient.permute(0, 2, 3, 1)
        has_gradient = (maps != 0).any(dim=3)  # NaN is not 0
        if has_gradient.sum() > _LARGEST_SHARE * has_gradient.numel():
            by_weight = conv2d_weight(features, weight.shape, gradient, padding=1)  # type: ignore[no-untyped-call]
            if not wanted:
                return None, by_weight, by_bias
            by_features = conv2d_input(features.shape, weight, gradient, padding=1)  # type: ignore[no-untyped-call]
            return by_features, by_weight, by_bias
        channels = features.shape[1]
        padded = F.pad(features.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        rows, places = maps[has_gradient], _windows(has_gradient)
        windows = padded.flatten(0, 2).index_select(0, places).view(-1, _SIDE * _SIDE * channels)
        by_weight = (rows.T @ windows).view(-1, _SIDE, _SIDE, channels).permute(0, 3, 1, 2)
        if not wanted:
            return None, by_weight, by_bias
        by_window = (rows @ weight.permute(0, 2, 3, 1).flatten(1)).view(-1, channels)
        # Windows overlap; bf16 would round every sum.
        total = torch.zeros(padded.shape, dtype=torch.promote_types(features.dtype, torch.float32))
        total.flatten(0, 2).index_add_(0, places, by_window.to(total.dtype))
        return total[:, 1:-1, 1:-1].to(features.dtype).permute(0, 3, 1, 2), by_weight, by_bias


def _windows(chosen: Bool[Tensor, "B h w"]) -> Int[Tensor, "places"]:
    """Nine places for each chosen cell, row by row: its window's cells, counted in maps with a border of one cell."""
    _, height, width = chosen.shape
    image, row, column = chosen.nonzero(as_tuple=True)
    corner = (image * (height + 2) + row) * (width + 2) + column
    window = torch.arange(_SIDE)[:, None] * (width + 2) + torch.arange(_SIDE)
    return (corner[:, None] + window.flatten()).flatten()
