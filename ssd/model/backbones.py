"""Classification networks of torchvision and timm as backbones: cut where the stride is 8, 16 and 32.

A torchvision network is one line of `TORCHVISION`: the layers with outputs that become levels. Any other name is
timm's; timm itself knows where its strides change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssd.errors import ConfigError
from ssd.model import mobilenet_v1, timm_backbones

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class FeatureTaps:
    """The layers at which a torchvision network is cut, and those with its auxiliary heads."""

    taps: tuple[str, ...]  # layers at strides 8, 16, 32; the extra layers replace a missing last one
    auxiliary: Mapping[str, int] = field(default_factory=dict)  # layer -> its channels
    expansion: str = ""  # the block whose first layer, the last at stride 16, is SSDLite's first level


_RESNET = FeatureTaps(("layer2", "layer3", "layer4"))
_MOBILENET_V3 = FeatureTaps(("features.6", "features.12", "features.16"), expansion="features.13")

TORCHVISION = {
    "alexnet": FeatureTaps(("features.4", "features.11")),  # the ReLUs of conv2 and conv5
    "googlenet": FeatureTaps(("inception3b", "inception4e", "inception5b"), {"inception4a": 512, "inception4d": 528}),
    "inception_v3": FeatureTaps(("Mixed_5d", "Mixed_6e", "Mixed_7c"), {"Mixed_6e": 768}),
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"), _RESNET),
    "densenet121": FeatureTaps(("features.denseblock2", "features.denseblock3", "features.norm5")),
    "mobilenet_v1": FeatureTaps(("features.5", "features.11", "features.13")),
    "mobilenet_v2": FeatureTaps(("features.6", "features.13", "features.18"), expansion="features.14"),
    "mobilenet_v3_small": FeatureTaps(("features.3", "features.8", "features.12"), expansion="features.9"),
    **dict.fromkeys(("mobilenet_v3_large", "mobilenet_v3_large_reduced"), _MOBILENET_V3),
}
# Networks that are not torchvision's classifiers: they have no published ImageNet weights.
WITHOUT_WEIGHTS = ("mobilenet_v1", "mobilenet_v3_large_reduced")

# No library has Inception v2. torchvision's GoogLeNet has v1's layout with v2's BatchNorm, and 3x3 where v1 has 5x5.
ALIASES = {"inception_v2": "googlenet", "resnext50": "resnext50_32x4d", "mobilenet_v3": "mobilenet_v3_large"}

# The names of timm's that the documentation mentions; every other name with feature taps works too.
TIMM = ("inception_v4", "inception_resnet_v2")
NAMES = (*TORCHVISION, *ALIASES, *TIMM)


def library(name: str) -> Literal["torchvision", "timm"]:
    """The library that has this network."""
    return "torchvision" if ALIASES.get(name, name) in TORCHVISION else "timm"


def classifier(name: str, **options: Any) -> nn.Module:
    """The whole network of a name in `TORCHVISION`; `options` are torchvision's, such as `num_classes`.

    `mobilenet_v3_large_reduced` has half the channels after the last reduction (MobileNetV3, table 6), for detectors.
    """
    from torchvision.models import get_model  # slow to import

    if name == "mobilenet_v1":
        return mobilenet_v1.classifier(**options)
    if TORCHVISION[name].auxiliary:  # they would be built for ImageNet, with a warning about their slow initialisation
        options |= {"aux_logits": False, "init_weights": False}
    whole = name.removesuffix("_reduced")
    network: nn.Module = get_model(whole, **options, **({} if whole == name else {"reduced_tail": True}))
    return network


def backbone(
    name: str, input_size: int, *, presence_classes: int | None = None, expansion: bool = False
) -> "TorchvisionBackbone | TimmBackbone":
    """Build a backbone as its library initialises it; `presence_classes` adds auxiliary heads for training.

    Only networks with position embeddings or windows depend on `input_size`. `expansion` taps a MobileNet for SSDLite,
    at strides 16 and 32; other networks ignore it.

    Raises:
        ConfigError: no such network, no levels at strides 8 and 16, or no auxiliary heads in it.
        MissingExtraError: it is timm's, and timm is not installed.
    """
    name = ALIASES.get(name, name)
    if presence_classes is not None and not (name in TORCHVISION and TORCHVISION[name].auxiliary):
        having = " or ".join(known for known, cut in TORCHVISION.items() if cut.auxiliary)
        raise ConfigError(
            f"{name} has no auxiliary heads", place="loss.auxiliary_weight", remedy=f"Set it to 0, or take {having}."
        )
    if name in TORCHVISION:
        return TorchvisionBackbone(name, presence_classes, expansion=expansion)
    return TimmBackbone(name, input_size)


class TorchvisionBackbone(nn.Module):
    """The layers of a torchvision network up to its last tap, run in sequence.

    With auxiliary heads, a forward pass in training leaves their logits in `presence`: is each class in the image?
    In evaluation they do not run. With `expansion` the levels are those of SSDLite: inside a block, and the last.
    """

    def __init__(self, name: str, presence_classes: int | None = None, *, expansion: bool = False) -> None:
        from torchvision.models.googlenet import InceptionAux

        super().__init__()
        cut = TORCHVISION[name]
        network: Any = classifier(name)
        inside = "features." if cut.taps[0].startswith("features.") else ""
        self.taps = tuple(tap.removeprefix(inside) for tap in cut.taps)
        self.expansion = cut.expansion.removeprefix(inside) if expansion else ""
        if self.expansion:
            self.taps = self.taps[-1:]
        self.presence: list[Tensor] = []
        for child, layer in (network.features if inside else network).named_children():
            self.add_module(child, layer)
            if child == self.taps[-1]:
                break
        heads = cut.auxiliary.items() if presence_classes else ()
        self.auxiliary = nn.ModuleDict({child: InceptionAux(width, presence_classes) for child, width in heads})

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Levels in order, fine first; the first is not normalised here."""
        self.presence = []
        levels = []
        features = images
        for name, layer in self.named_children():
            if layer is self.auxiliary:
                continue
            if name == self.expansion:
                # The block is one sequence and has no shortcut.
                for place, part in enumerate(next(layer.children()).children()):
                    features = part(features)
                    if place == 0:
                        levels.append(features)
            else:
                features = layer(features)
            if name in self.taps:
                levels.append(features)
            if self.training and name in self.auxiliary:
                self.presence.append(self.auxiliary[name](features))
        return levels

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the last logits of the auxiliary heads: tensors in a gradient graph cannot be copied."""
        return {**self.__dict__, "presence": []}


class TimmBackbone(nn.Module):
    """A timm network with feature taps at strides 8, 16 and, where it has one, 32."""

    def __init__(self, name: str, input_size: int) -> None:
        super().__init__()
        self.strides, self.network = timm_backbones.create(name, STRIDES, input_size)
        if timm_backbones.has_lost_tables(self.network):
            with torch.device("cpu"):
                self.strides, self.network = timm_backbones.create(name, STRIDES, input_size)
        self.channels_last = str(getattr(self.network, "output_fmt", "")).endswith("NHWC")

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Levels in order, fine first; the first is not normalised here."""
        levels = self.network(images)
        return [level.permute(0, 3, 1, 2) for level in levels] if self.channels_last else list(levels)
