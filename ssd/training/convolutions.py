"""Convolutions in training on a CPU that has AVX2 and nothing wider, in fp32: VGG's take about half of the time.

oneDNN computes the gradients of 3x3 kernels several times more slowly there from channels-last memory than from
contiguous memory. Large 3x3 convolutions then take Winograd's method, which needs a quarter of the multiplications:
NNPACK's kernels for results and the gradients of inputs, as in detection, and `weight_gradient` for those of kernels.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from ssd.inference.runtime import winograd
from ssd.model.vgg import VGG
from ssd.system.threads import single_threads

_TILE, _WINDOW = 4, 6  # sides of the results of one tile, and of the inputs that they are computed from
_MOST_BYTES = 8 * 2**20  # of the transformed tiles of a block: more leave the cache, fewer make small products


def memory_format(network: nn.Module, device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """The order of the elements of tensors in which this network is trained fastest."""
    return memory_format_of_vgg(device, dtype) if _is_vgg(network) else torch.channels_last


def memory_format_of_vgg(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """The order for networks whose time goes into large 3x3 convolutions."""
    return torch.contiguous_format if _has_avx2_alone(device, dtype) else torch.channels_last


def fast_convolutions(
    network: nn.Module, device: torch.device, dtype: torch.dtype
) -> contextlib.AbstractContextManager[object]:
    """A context for the network's forward pass in training, in which large 3x3 convolutions take Winograd's method.

    It changes nothing where that is not faster or where PyTorch has no NNPACK.
    """
    return fast_convolutions_of_vgg(device, dtype) if _is_vgg(network) else contextlib.nullcontext()


def fast_convolutions_of_vgg(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """The context for networks whose time goes into large 3x3 convolutions."""
    fast = _has_avx2_alone(device, dtype) and winograd.available()
    return WinogradConvolutions() if fast else contextlib.nullcontext()


def _is_vgg(network: nn.Module) -> bool:
    return any(isinstance(module, VGG) for module in network.modules())


def _has_avx2_alone(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the device is a CPU with AVX2 and no wider instructions, and computes in fp32."""
    return device.type == "cpu" and dtype == torch.float32 and torch.backends.cpu.get_cpu_capability() == "AVX2"


class WinogradConvolutions(TorchFunctionMode):
    """Compute the 3x3 convolutions for which `winograd` pays by Winograd's method, also in the backward pass."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, or what replaces it."""
        if func is torch.conv2d and len(args) >= 3 and _pays(*args, **(kwargs or {})):
            return _Convolution.apply(*args[:3])
        return func(*args, **(kwargs or {}))


def _pays(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Whether these arguments of `conv2d` are a convolution that `_Convolution` computes, and faster."""
    return (
        bias is not None
        and groups == 1
        and all(value in (1, (1, 1)) for value in (stride, padding, dilation))
        and features.dtype == weight.dtype == torch.float32
        and len(features) >= torch.get_num_threads()  # each thread takes whole images
        and winograd.large(weight.shape, features.shape)
    )


class _Convolution(torch.autograd.Function):
    """A 3x3 convolution with a border of zeros, stride 1."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        features = features.contiguous()
        ctx.save_for_backward(features, weight)
        return winograd.convolve(features, weight.contiguous(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        by_features = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(2, 3).transpose(0, 1).contiguous()
            by_features = winograd.convolve(gradient, turned, gradient.new_zeros(len(turned)))
        if ctx.needs_input_grad[1]:
            by_weight = weight_gradient(features, gradient)
        if ctx.needs_input_grad[2]:
            by_bias = gradient.sum(dim=(0, 2, 3))
        return by_features, by_weight, by_bias


def weight_gradient(features: Float[Tensor, "B c h w"], gradient: Float[Tensor, "B o h w"]) -> Float[Tensor, "o c 3 3"]:
    """The gradient of the kernels of a 3x3 convolution with a border of zeros and stride 1, by that of its results.

    F(4x4, 3x3) of Lavin and Gray (2016, section 4.3) makes the results of a tile A' [G g G' * B' d B] A, which is
    linear in the kernel g: its gradient is G' [A y A' * B' d B] G, for the gradient y of the tile's results, summed
    over the tiles. Each of the 36 products of elements is then a matrix product over the tiles. The compute threads of
    the calling thread take turns in the blocks of tiles, so that the last bits depend on their number.
    """
    threads = torch.get_num_threads()
    blocks = _blocks(features, gradient)
    shares = [blocks[start::threads] for start in range(threads)]
    partial_sums = functools.partial(_sum_of_products, features, gradient)
    each = map if threads == 1 else single_threads(threads).map
    total = sum(each(partial_sums, shares))
    assert isinstance(total, Tensor)
    outputs, inputs = gradient.shape[1], features.shape[1]
    return (_matrices()[2] @ total.flatten(1)).view(3, 3, outputs, inputs).permute(2, 3, 0, 1).contiguous()


_Block = tuple[slice, int, int]  # images, first row of tiles, and the row after the last


def _blocks(features: Tensor, gradient: Tensor) -> list[_Block]:
    """Pieces of the batch whose transformed tiles fit into `_MOST_BYTES`: several images, or rows of tiles of one."""
    count, inputs, height, width = features.shape
    tile_rows, in_row = -(-height // _TILE), -(-width // _TILE)
    rows = _MOST_BYTES // (in_row * _WINDOW**2 * (inputs + gradient.shape[1]) * features.element_size())
    images, rows = max(1, rows // tile_rows), min(max(1, rows), tile_rows)
    return [
        (slice(image, image + images), row, min(row + rows, tile_rows))
        for image in range(0, count, images)
        for row in range(0, tile_rows, rows)
    ]


@torch.no_grad()
def _sum_of_products(features: Tensor, gradient: Tensor, blocks: list[_Block]) -> Float[Tensor, "36 o c"]:
    """The sum over the tiles of some blocks of the products of transformed tiles."""
    outputs, inputs = gradient.shape[1], features.shape[1]
    of_inputs, of_results, _ = _matrices()
    total = features.new_zeros(_WINDOW**2, outputs, inputs)
    for images, first, last in blocks:
        windows = of_inputs @ _tiles(features[images], first, last, border=1)
        results = of_results @ _tiles(gradient[images], first, last, border=0)
        total.baddbmm_(results.view(len(total), outputs, -1), windows.view(len(total), inputs, -1).transpose(1, 2))
    return total


def _tiles(maps: Tensor, first: int, last: int, *, border: int) -> Float[Tensor, "_ _"]:
    """The tiles of rows `first` to `last`, with a border around each: elements of a tile by channels, images, tiles."""
    count, channels, height, width = maps.shape
    tiles, across = last - first, -(-width // _TILE)
    top, bottom = first * _TILE - border, last * _TILE + border
    inside = slice(max(0, top), min(height, bottom))
    padded = maps.new_zeros(count, channels, bottom - top, across * _TILE + 2 * border)
    padded[:, :, inside.start - top : inside.stop - top, border : border + width] = maps[:, :, inside]
    image, channel, row, column = padded.stride()
    side = _TILE + 2 * border
    windows = padded.as_strided(
        (side, side, channels, count, tiles, across), (row, column, channel, image, _TILE * row, _TILE * column)
    )
    return windows.reshape(side**2, -1)


@functools.cache
def _matrices() -> tuple[Float[Tensor, "36 36"], Float[Tensor, "36 16"], Float[Tensor, "9 36"]]:
    """B' (x) B', A (x) A and G' (x) G' of F(4x4, 3x3), which transform tiles with their elements in a row."""
    inputs = torch.tensor(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ).float()
    results = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]])
    kernels = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
    return (
        torch.kron(inputs, inputs),
        torch.kron(results, results).float(),
        torch.kron(kernels, kernels).T.contiguous(),
    )
