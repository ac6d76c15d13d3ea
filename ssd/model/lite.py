"""SSDLite: extra layers and heads of depthwise convolutions (MobileNetV2, section 6.2; MobileNetV3, section 6.3)."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat

from jaxtyping import Float
from torch import Tensor, nn

from ssd.model.extras import grids
from ssd.model.norm import Norm, normalisation
from ssd.model.vgg import scaled

EPS = 1e-3  # of the BatchNorms, in torchvision as in TensorFlow
MOMENTUM = 0.03  # likewise


class LiteExtras(nn.Module):
    """Triples of convolutions `conv8_1`, `conv8_2`, `conv8_3`, `conv9_1` ...: 1x1 to fewer channels, then a depthwise
    3x3 with stride 2, then 1x1 to the channels of the level.

    Every triple halves the level, down to a single cell; `count` limits their number. `linear` are those of the ports:
    without an activation after the last convolution, with other channels, and with PyTorch's eps.
    """

    def __init__(
        self,
        in_channels: int,
        grid: int,
        *,
        norm: Norm = "batch",
        width: float = 1.0,
        count: int | None = None,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels: list[int] = []
        channels = in_channels
        triples = zip(grids(grid, halving=True)[:count], _channels(linear), strict=False)
        for number, (_, (narrow, wide)) in enumerate(triples, start=8):
            narrow, wide = scaled(narrow, width), scaled(wide, width)
            steps = ((channels, narrow, 1), (narrow, narrow, 2), (narrow, wide, 1))
            for part, (inputs, outputs, stride) in enumerate(steps, start=1):
                conv = _depthwise(inputs, norm, stride) if stride > 1 else _pointwise(inputs, outputs, norm)
                layers = _layers(conv, norm, eps=1e-5 if linear else EPS, relu=not (linear and part == 3))
                for name, layer in layers:
                    self.add_module(f"{name}{number}_{part}", layer)
            self.out_channels.append(wide)
            channels = wide
        self._last = "norm" if linear and norm != "none" else "conv" if linear else "relu"

    def forward(self, features: Float[Tensor, "B c h w"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Every extra level, fine first."""
        levels = []
        for name, layer in self.named_children():
            features = layer(features)
            if name.startswith(self._last) and name.endswith("_3"):
                levels.append(features)
        return levels


def predictors(
    in_channels: Sequence[int],
    outputs: Sequence[int],
    *,
    norm: Norm = "batch",
    ports: bool = False,
) -> Iterable[nn.Module]:
    """One separable convolution for each level: `depthwise` 3x3, `norm`, `relu` and a `pointwise` one.

    `ports` are those of qfgaohao and lufficc: PyTorch's eps, and on the last level a 1x1 convolution alone.
    """
    for level, (channels, count) in enumerate(zip(in_channels, outputs, strict=True), start=1):
        if ports and level == len(in_channels):
            yield nn.Conv2d(channels, count, 1)
            continue
        first, *others = _layers(_depthwise(channels, norm), norm, eps=1e-5 if ports else EPS)
        last = ("pointwise", nn.Conv2d(channels, count, 1))
        yield nn.Sequential(OrderedDict([("depthwise", first[1]), *others, last]))


def _channels(linear: bool) -> Iterator[tuple[int, int]]:
    """Channels inside and after each triple; from the fourth on they stay."""
    first, last = ((256, 512), (128, 256), (128, 256)), (64, 64) if linear else (64, 128)
    return chain(first, repeat(last))


def _pointwise(inputs: int, outputs: int, norm: Norm) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=norm != "batch")


def _depthwise(channels: int, norm: Norm, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=norm != "batch")


def _layers(conv: nn.Conv2d, norm: Norm, *, eps: float, relu: bool = True) -> Iterator[tuple[str, nn.Module]]:
    yield "conv", conv
    if norm != "none":
        yield "norm", normalisation(norm, conv.out_channels, eps=eps)
    if relu:
        yield "relu", nn.ReLU6(inplace=True)
