"""A network prepared for a CPU: weights in oneDNN's layout, ReLU inside its convolution, pools without indices.

The plain network reorders the weights of every convolution at each call, and reads and writes each feature map once
more for ReLU. In bf16 both networks give the same bits; in fp32 oneDNN may choose another kernel for a layer, and large
3x3 convolutions are computed as `winograd` describes, which moves logits in their sixth digit.

The operators are PyTorch's own for compiled programs (`torch.ops.mkldnn`), without a promise to stay as they are.
`available` tries them, and the plain network remains for where they are missing or changed.
"""

import functools
import threading
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from ssd.inference.runtime import winograd
from ssd.model.extras import Extras
from ssd.model.head import MultiBoxHead
from ssd.model.vgg import VGG

_ONE_AT_A_TIME = threading.Lock()


def prepack_(network: nn.Module, dtype: torch.dtype) -> None:
    """Replace layers of a network on the CPU in place: those of VGG, of the extra layers and of the head.

    Layers of other backbones stay. The network must be in evaluation mode, channels last and of this `dtype`; where
    the operators are not `available`, it stays whole.
    """
    if not available(dtype):
        return
    for module in list(network.modules()):
        if isinstance(module, VGG | Extras):
            _prepack_chain(module)
        elif isinstance(module, MultiBoxHead):
            for convolutions in (module.boxes, module.classes):
                for place, layer in enumerate(convolutions):
                    if isinstance(layer, nn.Conv2d):
                        convolutions[place] = FastConvolution(layer, relu=False)


def _prepack_chain(chain: nn.Module) -> None:
    """Replace the layers of a module that calls its children in order."""
    layers = list(chain.named_children())
    for (place, layer), (next_place, follower) in zip(layers, [*layers, ("", None)][1:], strict=True):
        if isinstance(layer, nn.Conv2d):
            relu = isinstance(follower, nn.ReLU)
            setattr(chain, place, FastConvolution(layer, relu=relu))
            if relu:
                setattr(chain, next_place, nn.Identity())
        elif isinstance(layer, nn.MaxPool2d) and _halves(layer):
            setattr(chain, place, HalvingPool(ceil=layer.ceil_mode))


def _halves(pool: nn.MaxPool2d) -> bool:
    return (pool.kernel_size, pool.stride, pool.padding, pool.dilation) == (2, 2, 0, 1)


class FastConvolution(nn.Module):
    """A convolution, and ReLU after it if asked for, in the way that is fastest for the shape of its first input.

    `chosen` is that way from the first input on. To ask PyTorch for the shapes beforehand would load its compiler.
    """

    def __init__(self, layer: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        self._layer: nn.Conv2d | None = layer
        self._relu = relu
        self.chosen: nn.Module | None = None

    def forward(self, features: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """The convolution, then ReLU."""
        if self.chosen is None:
            self._choose([1, *features.shape[1:]])
        result: Tensor = self.chosen(features)  # type: ignore[misc]
        return result

    def _choose(self, shape: list[int]) -> None:
        with _ONE_AT_A_TIME, torch.inference_mode(False), torch.no_grad():
            if self.chosen is not None or self._layer is None:  # by another thread
                return
            packed = PackedConvolution(self._layer, shape, relu=self._relu)
            fp32 = self._layer.weight.dtype == torch.float32
            if fp32 and winograd.pays(self._layer, shape) and winograd.faster_here():
                self.chosen = winograd.WinogradConvolution(self._layer, packed, relu=self._relu)
            else:
                self.chosen = packed
            self._layer = None


class PackedConvolution(nn.Module):
    """A convolution with weights in the layout that oneDNN computes in, and ReLU after it if asked for.

    The layout suits inputs of `shape`; other inputs are computed too, perhaps more slowly. A pickle holds the weights
    as PyTorch has them.
    """

    def __init__(self, layer: nn.Conv2d, shape: list[int], *, relu: bool) -> None:
        super().__init__()
        self._shape, self._relu = shape, "relu" if relu else "none"
        assert isinstance(layer.padding, tuple)
        self._geometry = list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups
        self._bias = None if layer.bias is None else layer.bias.detach()
        self._weight = self._packed(layer.weight.detach())

    def _packed(self, weight: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._geometry, self._shape)
        return packed

    def forward(self, features: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """The convolution, then ReLU."""
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            features.contiguous(memory_format=torch.channels_last),
            self._weight,
            self._bias,
            *self._geometry,
            self._relu,
            [],
            "",
        )
        return result

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_weight": self._weight.to_dense()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._weight = self._packed(self._weight)


class HalvingPool(nn.Module):
    """A maximum over 2x2 cells; `nn.MaxPool2d` also writes the place of each maximum, in eight bytes."""

    def __init__(self, *, ceil: bool) -> None:
        super().__init__()
        self._ceil = ceil

    def forward(self, features: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c _ _"]:
        """Half the height and width; a last odd row or column is pooled alone (`ceil`) or left out."""
        height, width = features.shape[2:]
        if height % 2 or width % 2:
            if self._ceil:
                features = pad(features, (0, width % 2, 0, height % 2), value=float("-inf"))
            else:
                features = features[..., : height // 2 * 2, : width // 2 * 2]
        rows = torch.maximum(features[..., ::2, :], features[..., 1::2, :])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


@functools.cache
def available(dtype: torch.dtype) -> bool:
    """Whether PyTorch has the operators here, and they compute a small convolution as the plain layer does."""
    generator = torch.Generator().manual_seed(0)
    # The global generator belongs to the run, which a resumed one must repeat.
    with torch.random.fork_rng(devices=[]):
        layer = nn.Conv2d(16, 32, 3, padding=1, dtype=dtype)
    layer = layer.to(memory_format=torch.channels_last).requires_grad_(False)
    for tensor in layer.parameters():
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    features = torch.randn(1, 16, 8, 8, generator=generator).to(dtype, memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            packed = PackedConvolution(layer, list(features.shape), relu=True)
            found, restored = packed(features), packed._weight.to_dense()
            expected = layer(features).relu()
    except (AttributeError, RuntimeError, TypeError):  # no such operators, or others by these names
        return False
    near = bool(torch.isclose(found.float(), expected.float(), rtol=2**-7, atol=1e-4).all())
    return near and torch.equal(restored, layer.weight)
