"""VGG, as a classifier and as SSD's backbone: pool5 has stride 1, fc6 and fc7 become conv6 (dilated) and conv7, no fc8.

Layers carry the names of the paper: `conv1_1` ... `conv5_3`, then `fc6`, `fc7`, `fc8` of the classifier or `conv6`,
`conv7` of the backbone, and `norm*` where something is normalised.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssd.model.norm import Norm, with_relu

# Convolutions in each of the five stages: configurations A, B, C, D and E of Simonyan and Zisserman, table 1.
CONFIGURATIONS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16c": (2, 2, 3, 3, 3),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
# Configuration C has 1x1 convolutions where D has 3x3.
POINTWISE = {"vgg16c": ("3_3", "4_3", "5_3")}
NAMES = (*CONFIGURATIONS, *(f"{name}_bn" for name in CONFIGURATIONS))
SMALLEST_INPUT = 64

CHANNELS = (64, 128, 256, 512, 512)
_FC6_SIDE = 7  # 224 pixels after five pools
_KEPT_UNITS = 4  # one of so many units of fc6 and fc7 is kept


class VGG(nn.Module):
    """VGG as SSD's backbone; `forward` returns the last convolution of stage 4 (stride 8) and conv7 (stride 16).

    Without `atrous`, pool5 halves its input, and conv6 and conv7 have all units of fc6 and fc7: the paper's "full
    VGG16" (section 3.2), slower and no better. `forward` then returns stage 4, stage 5 (stride 16) and conv7 (stride
    32). `fc_norm` normalises only conv6 and conv7.
    """

    def __init__(
        self,
        configuration: str = "vgg16",
        *,
        batch_norm: bool = False,
        width: float = 1.0,
        atrous: bool = True,
        fc_norm: Norm = "none",
    ) -> None:
        super().__init__()
        pool, norm = (_pool_of_ssd if atrous else _pool_halving), _norm(batch_norm)
        for name, layer in _stages(configuration, pool, norm=norm, width=width):
            self.add_module(name, layer)
        depths = CONFIGURATIONS[configuration]
        self.taps = tuple(f"relu{stage}_{depths[stage - 1]}" for stage in ((4,) if atrous else (4, 5)))
        fc6, fc7 = _convolutions_for_fc(width, atrous)
        norm = norm if batch_norm else fc_norm
        for name, layer in (*with_relu("6", fc6, norm), *with_relu("7", fc7, norm)):
            self.add_module(name, layer)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Levels in order, fine first; the first is not normalised here."""
        taps = []
        features = images
        for name, layer in self.named_children():
            features = layer(features)
            if name in self.taps:
                # Pools do not write in place, so the tap needs no copy.
                taps.append(features)
        return [*taps, features]


def classifier(
    configuration: str = "vgg16", *, batch_norm: bool = False, num_classes: int = 1000, channels: int = 3
) -> nn.Sequential:
    """The whole classifier as published: 138,357,544 parameters for `vgg16`.

    Images of other sizes than 224 pixels are pooled to fc6's 7x7 cells by averaging, as in torchvision.
    """
    layers = OrderedDict(_stages(configuration, _pool, norm=_norm(batch_norm), inputs=channels))
    layers["average"] = nn.AdaptiveAvgPool2d(_FC6_SIDE)
    layers["flatten"] = nn.Flatten()
    layers["fc6"] = nn.Linear(CHANNELS[4] * _FC6_SIDE**2, 4096)
    for number in (6, 7):
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        layers[f"dropout{number}"] = nn.Dropout(0.5)
        layers[f"fc{number + 1}"] = nn.Linear(4096, 4096 if number == 6 else num_classes)
    return nn.Sequential(layers)


def grids(input_size: int, *, atrous: bool = True) -> tuple[int, ...]:
    """Sides of the feature maps of `VGG` for a square input; pool3, and pool5 if it halves, round up."""
    stage4 = -(-(input_size // 4) // 2)
    stage5 = stage4 // 2
    return (stage4, stage5) if atrous else (stage4, stage5, -(-stage5 // 2))


def out_channels(width: float = 1.0, *, atrous: bool = True) -> tuple[int, ...]:
    """Channels of the feature maps of `VGG`: `atrous` keeps a quarter of the 4096 units of fc6 and fc7."""
    kept = (512, 4096 // _KEPT_UNITS) if atrous else (512, 512, 4096)
    return tuple(scaled(count, width) for count in kept)


def scaled(channels: int, width: float) -> int:
    """A channel count times the width multiplier, at least 8 and a multiple of 8 (kernels like it)."""
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)


def _stages(
    configuration: str, pool: Callable[[int], nn.Module], *, norm: Norm, width: float = 1.0, inputs: int = 3
) -> Iterator[tuple[str, nn.Module]]:
    """Yield names and layers of the five stages; `pool` makes the pooling layer at the end of a stage, from 1."""
    pointwise = POINTWISE.get(configuration, ())
    for stage, (depth, full) in enumerate(zip(CONFIGURATIONS[configuration], CHANNELS, strict=True), start=1):
        outputs = scaled(full, width)
        for name in (f"{stage}_{index}" for index in range(1, depth + 1)):
            kernel = 1 if name in pointwise else 3
            yield from with_relu(name, nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), norm)
            inputs = outputs
        yield f"pool{stage}", pool(stage)


def _convolutions_for_fc(width: float, atrous: bool) -> tuple[nn.Conv2d, nn.Conv2d]:
    conv5, conv7 = scaled(CHANNELS[4], width), out_channels(width, atrous=atrous)[-1]
    if atrous:
        # A dilation of 6 gives a 3x3 kernel the receptive field of fc6's 7x7 at the former stride.
        fc6 = nn.Conv2d(conv5, conv7, 3, padding=6, dilation=6)
    else:
        fc6 = nn.Conv2d(conv5, conv7, _FC6_SIDE, padding=_FC6_SIDE // 2)
    return fc6, nn.Conv2d(conv7, conv7, 1)


def _norm(batch_norm: bool) -> Norm:
    return "batch" if batch_norm else "none"


def _pool(stage: int) -> nn.Module:
    return nn.MaxPool2d(2, stride=2)


def _pool_of_ssd(stage: int) -> nn.Module:
    if stage == 5:
        return nn.MaxPool2d(3, stride=1, padding=1)
    return _pool_halving(stage)


def _pool_halving(stage: int) -> nn.Module:
    # Caffe rounds every pool up; for 300 pixels it matters at pool3 (75 -> 38) and at a halving pool5 (19 -> 10).
    return nn.MaxPool2d(2, stride=2, ceil_mode=stage in (3, 5))


class L2Norm(nn.Module):
    """Scale every cell's feature vector to a learned length per channel, 20 at the start (ParseNet; section 3.1)."""

    def __init__(self, channels: int, *, scale: float = 20.0, eps: float = 1e-10) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, features: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        """Divide by the length over channels; eps sits inside the root as in Caffe, so an all-zero cell stays zero."""
        # The squares of 512 channels are summed in fp32, since bf16 has eight bits. Products in bf16 halve the time;
        # in fp16 the inverse length of a zero cell, 1e5, would be infinite.
        dtype = torch.float32 if features.dtype == torch.float16 else features.dtype
        inverse = features.float().square().sum(dim=1, keepdim=True).add(self.eps).rsqrt().to(dtype)
        return (features * inverse * self.scale[:, None, None].to(dtype)).to(features.dtype)
