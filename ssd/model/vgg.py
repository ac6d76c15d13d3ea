"""VGG as SSD changes it: pool5 keeps its size, fc6 and fc7 become dilated conv6 and conv7, dropout and fc8 are gone.

Layers carry the names of the paper: `conv1_1` ... `conv5_3`, `conv6`, `conv7`, and `norm*` in the BatchNorm variants.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Convolutions in each of the five stages: configurations A, B, D and E of Simonyan and Zisserman, table 1.
CONFIGURATIONS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
_CHANNELS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """The changed VGG; `forward` gives the last convolution of stage 4 (stride 8) and conv7 (stride 16)."""

    def __init__(self, configuration: str = "vgg16", *, batch_norm: bool = False, width: float = 1.0) -> None:
        super().__init__()
        depths = CONFIGURATIONS[configuration]
        self.batch_norm = batch_norm
        channels = 3
        for stage, (depth, full) in enumerate(zip(depths, _CHANNELS, strict=True), start=1):
            for index in range(1, depth + 1):
                channels = self._add(f"{stage}_{index}", channels, scaled(full, width))
            self.add_module(f"pool{stage}", _pool(stage))
        self.tap = f"relu4_{depths[3]}"
        hidden = scaled(1024, width)
        # The receptive field of fc6's 7x7 is kept by spreading 3x3 taps six cells apart.
        self._add("6", channels, hidden, dilation=6)
        self._add("7", hidden, hidden, kernel=1)
        self.out_channels = (scaled(_CHANNELS[3], width), hidden)

    def _add(self, name: str, inputs: int, outputs: int, *, kernel: int = 3, dilation: int = 1) -> int:
        padding = dilation * (kernel // 2)
        conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation)
        self.add_module(f"conv{name}", conv)
        if self.batch_norm:
            self.add_module(f"norm{name}", nn.BatchNorm2d(outputs))
        self.add_module(f"relu{name}", nn.ReLU(inplace=True))
        return outputs

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


def grids(input_size: int) -> tuple[int, int]:
    """Sides of the two feature maps that `VGG` gives for a square input; pool3 rounds up, the others down."""
    stage4 = -(-(input_size // 4) // 2)
    return stage4, stage4 // 2


def scaled(channels: int, width: float) -> int:
    """A channel count times the width multiplier, at least 8 and a multiple of 8 (kernels like it)."""
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)


def _pool(stage: int) -> nn.MaxPool2d:
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
        # Squares of 512 channels are summed in fp32: bf16 has eight bits.
        length = features.float().square().sum(dim=1, keepdim=True).add(self.eps).sqrt()
        return (features / length * self.scale[:, None, None]).to(features.dtype)
