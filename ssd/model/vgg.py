"""VGG, whole and as SSD changes it: pool5 keeps its size, fc6 and fc7 become dilated conv6 and conv7, fc8 is gone.

Layers carry the names of the paper: `conv1_1` ... `conv5_3`, then `fc6`, `fc7`, `fc8` of the classifier or `conv6`,
`conv7` of the backbone, and `norm*` in the BatchNorm variants.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Convolutions in each of the five stages: configurations A, B, C, D and E of Simonyan and Zisserman, table 1.
CONFIGURATIONS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16c": (2, 2, 3, 3, 3),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
# Configuration C looks at one pixel where D, with as many layers, looks at nine.
POINTWISE = {"vgg16c": ("3_3", "4_3", "5_3")}
NAMES = (*CONFIGURATIONS, *(f"{name}_bn" for name in CONFIGURATIONS))
SMALLEST_INPUT = 64

_CHANNELS = (64, 128, 256, 512, 512)
_FC6_SIDE = 7  # 224 pixels after five pools
_KEPT_UNITS, _KEPT_TAPS = 4, 3  # one of so many


class VGG(nn.Module):
    """The changed VGG; `forward` gives the last convolution of stage 4 (stride 8) and conv7 (stride 16)."""

    def __init__(self, configuration: str = "vgg16", *, batch_norm: bool = False, width: float = 1.0) -> None:
        super().__init__()
        for name, layer in _stages(configuration, _pool_of_ssd, batch_norm=batch_norm, width=width):
            self.add_module(name, layer)
        self.tap = f"relu4_{CONFIGURATIONS[configuration][3]}"
        self.out_channels = (scaled(_CHANNELS[3], width), scaled(1024, width))
        # The receptive field of fc6's 7x7 is kept by spreading 3x3 taps six cells apart.
        conv6 = nn.Conv2d(scaled(_CHANNELS[4], width), self.out_channels[1], 3, padding=6, dilation=6)
        conv7 = nn.Conv2d(self.out_channels[1], self.out_channels[1], 1)
        for name, layer in (*_with_relu("6", conv6, batch_norm), *_with_relu("7", conv7, batch_norm)):
            self.add_module(name, layer)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Levels in order, fine first; the first is not normalised here."""
        taps = []
        features = images
        for name, layer in self.named_children():
            features = layer(features)
            if name == self.tap:
                # pool4 does not write in place, so the tap can be handed out as it is.
                taps.append(features)
        return [*taps, features]


def classifier(
    configuration: str = "vgg16", *, batch_norm: bool = False, num_classes: int = 1000, channels: int = 3
) -> nn.Sequential:
    """The whole network as published: 138,357,544 parameters for `vgg16`.

    Sizes other than 224 pixels are averaged to fc6's 7x7 cells, as torchvision does.
    """
    layers = OrderedDict(_stages(configuration, _pool, batch_norm=batch_norm, channels=channels))
    layers["average"] = nn.AdaptiveAvgPool2d(_FC6_SIDE)
    layers["flatten"] = nn.Flatten()
    layers["fc6"] = nn.Linear(_CHANNELS[4] * _FC6_SIDE**2, 4096)
    for number in (6, 7):
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        layers[f"dropout{number}"] = nn.Dropout(0.5)
        layers[f"fc{number + 1}"] = nn.Linear(4096, 4096 if number == 6 else num_classes)
    return nn.Sequential(layers)


@torch.no_grad()
def operate(whole: nn.Sequential, configuration: str = "vgg16") -> VGG:
    """SSD's surgery on a `classifier`: the convolutions stay, fc6 and fc7 are thinned out, fc8 goes (section 3.1).

    Of fc6 and fc7 every fourth unit is kept, and of fc6's 7x7 taps every third in each direction.
    """
    batch_norm = hasattr(whole, "norm1_1")
    backbone = VGG(configuration, batch_norm=batch_norm)
    state = backbone.state_dict()
    state.update({name: value for name, value in whole.state_dict().items() if name in state})
    fc6, fc7 = whole.get_submodule("fc6"), whole.get_submodule("fc7")
    assert isinstance(fc6, nn.Linear)
    assert isinstance(fc7, nn.Linear)
    windows = fc6.weight.reshape(len(fc6.weight), -1, _FC6_SIDE, _FC6_SIDE)
    state["conv6.weight"] = windows[::_KEPT_UNITS, :, ::_KEPT_TAPS, ::_KEPT_TAPS]
    state["conv6.bias"] = fc6.bias[::_KEPT_UNITS]
    state["conv7.weight"] = fc7.weight[::_KEPT_UNITS, ::_KEPT_UNITS, None, None]
    state["conv7.bias"] = fc7.bias[::_KEPT_UNITS]
    backbone.load_state_dict(state)
    return backbone


def grids(input_size: int) -> tuple[int, int]:
    """Sides of the two feature maps that `VGG` gives for a square input; pool3 rounds up, the others down."""
    stage4 = -(-(input_size // 4) // 2)
    return stage4, stage4 // 2


def scaled(channels: int, width: float) -> int:
    """A channel count times the width multiplier, at least 8 and a multiple of 8 (kernels like it)."""
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)


def _stages(
    configuration: str,
    pool: Callable[[int], nn.Module],
    *,
    batch_norm: bool = False,
    width: float = 1.0,
    channels: int = 3,
) -> Iterator[tuple[str, nn.Module]]:
    """Names and layers of the five stages; `pool` makes the one that ends stage 1, 2 and so on."""
    pointwise = POINTWISE.get(configuration, ())
    for stage, (depth, full) in enumerate(zip(CONFIGURATIONS[configuration], _CHANNELS, strict=True), start=1):
        outputs = scaled(full, width)
        for name in (f"{stage}_{index}" for index in range(1, depth + 1)):
            kernel = 1 if name in pointwise else 3
            yield from _with_relu(name, nn.Conv2d(channels, outputs, kernel, padding=kernel // 2), batch_norm)
            channels = outputs
        yield f"pool{stage}", pool(stage)


def _with_relu(name: str, conv: nn.Conv2d, batch_norm: bool) -> Iterator[tuple[str, nn.Module]]:
    yield f"conv{name}", conv
    if batch_norm:
        yield f"norm{name}", nn.BatchNorm2d(conv.out_channels)
    yield f"relu{name}", nn.ReLU(inplace=True)


def _pool(stage: int) -> nn.Module:
    return nn.MaxPool2d(2, stride=2)


def _pool_of_ssd(stage: int) -> nn.Module:
    if stage == 5:
        return nn.MaxPool2d(3, stride=1, padding=1)
    # Caffe rounds every pool up; at 300 it matters at pool3 alone: 75 -> 38.
    return nn.MaxPool2d(2, stride=2, ceil_mode=stage == 3)


class L2Norm(nn.Module):
    """Scale every cell's feature vector to a learned length per channel, 20 at the start (ParseNet; section 3.1)."""

    def __init__(self, channels: int, *, scale: float = 20.0, eps: float = 1e-10) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, features: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        """Divide by the length over channels; eps sits inside the root as in Caffe, so an all-zero cell stays zero."""
        # Squares of 512 channels are summed in fp32: bf16 has eight bits. The products stay in bf16, which halves the
        # time; not in fp16, where the inverse length of a zero cell, 1e5, would be infinite.
        dtype = torch.float32 if features.dtype == torch.float16 else features.dtype
        inverse = features.float().square().sum(dim=1, keepdim=True).add(self.eps).rsqrt().to(dtype)
        return (features * inverse * self.scale[:, None, None].to(dtype)).to(features.dtype)
