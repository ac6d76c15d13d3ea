"""Builds networks from plain numbers: SSD300, SSD512, and any other input size."""

import dataclasses
import logging
import math
from functools import partial
from typing import Any, Literal

from torch import nn

from ssd.errors import ConfigError
from ssd.model import backbones, extras, head, lite, vgg
from ssd.model.extras import Extras
from ssd.model.head import MultiBoxHead, Predictors
from ssd.model.initialise import caffe_
from ssd.model.levels import Levels
from ssd.model.levels import levels as library_levels
from ssd.model.lite import LiteExtras
from ssd.model.norm import Norm
from ssd.model.ssd import SSD
from ssd.model.vgg import VGG, L2Norm
from ssd.multibox.default_boxes import box_settings, boxes_per_cell
from ssd.settings import BoxSettings, NetworkSettings, Settings

log = logging.getLogger(__name__)


def settings_for(
    class_names: tuple[str, ...],
    *,
    input_size: int,
    backbone: str = "vgg16",
    width: float = 1.0,
    atrous: bool = True,
    fc_norm: Norm = "none",
    extras_norm: Norm = "none",
    head: Literal["full", "lite"] = "full",
    variant: Literal["none", "qfgaohao", "lufficc"] = "none",
    levels: tuple[int, ...] | None = None,
    **box_numbers: Any,
) -> Settings:
    """Settings for any input size, which determines the levels and with them the default boxes.

    `levels` are the grids with predictions, if not all. `box_numbers` go to `box_settings`: `table`,
    `truncate`, `clip`, `min_sizes`, `max_sizes`, `ratios`, `variances`.

    Raises:
        ConfigError: no such backbone, numbers that do not fit it, or an input too small for it.
    """
    network = NetworkSettings(
        backbone, input_size, width, extras_norm, fc_norm=fc_norm, atrous=atrous, head=head, variant=variant
    )
    given, grids = backbone_levels(network), level_grids(network)
    if levels is not None:
        _check_levels(levels, grids, given, place="model.levels")
    boxes = box_settings(input_size, grids, first_step=given.strides[0], levels=levels, **box_numbers)
    # The first level is L2-normalised where the backbone has not normalised it already.
    unnormalised = boxes.grids[0] == grids[0] and not given.normalised
    network = dataclasses.replace(network, first_level_norm="l2" if unnormalised else "none")
    if not _covers(given, input_size):
        boxes = dataclasses.replace(boxes, steps=tuple(input_size / grid for grid in boxes.grids))
    return Settings(network, boxes, class_names)


def level_grids(network: NetworkSettings) -> tuple[int, ...]:
    """Side of each level's feature map, fine first.

    Raises:
        ConfigError: no such backbone, or an input it cannot take.
    """
    given = backbone_levels(network).grids
    return (*given, *extras.grids(given[-1], halving=_halving(network)))


def backbone_levels(network: NetworkSettings) -> Levels:
    """The levels of the backbone alone.

    Raises:
        ConfigError: no such backbone, an unsuitable input size, or a width or layers that it does not have.
        MissingExtraError: the backbone is timm's, and timm is not installed.
    """
    name, size = network.backbone, network.input_size
    _check_layers(network)
    if name not in vgg.NAMES:
        return library_levels(name, size, expansion=_expansion(network))
    if size < vgg.SMALLEST_INPUT:
        problem, remedy = f"{size} pixels are too few for {name}", f"Use {vgg.SMALLEST_INPUT} or more."
        raise ConfigError(problem, place="model.input_size", remedy=remedy)
    grids = vgg.grids(size, atrous=network.atrous)
    channels = vgg.out_channels(network.width, atrous=network.atrous)
    return Levels(grids, channels, (8, 16, 32)[: len(grids)], normalised=name.endswith("_bn"))


def _check_layers(network: NetworkSettings) -> None:
    """Raise `ConfigError` for settings of layers that this backbone does not have."""
    name = network.backbone
    if name not in vgg.NAMES:
        if network.width != 1:
            problem = f"{network.width}: {name} comes in its own width alone"
            raise ConfigError(problem, place="model.width", remedy="Set it to 1, or take a VGG.")
        if not network.atrous:
            problem = f"false: {name} has no fc6 and fc7"
            raise ConfigError(problem, place="model.atrous", remedy="Set it to true, or take a VGG.")
    if network.fc_norm != "none" and (name not in vgg.NAMES or name.endswith("_bn")):
        why = "normalises conv6 and conv7 already" if name in vgg.NAMES else "has no conv6 and conv7"
        raise ConfigError(f"{network.fc_norm}: {name} {why}", place="model.fc_norm", remedy="Set it to none.")


def _check_levels(wanted: tuple[int, ...], grids: tuple[int, ...], given: Levels, *, place: str) -> None:
    """Check that the wanted grids are the network's, in its order, and include the backbone's last one."""
    if not wanted or wanted != tuple(grid for grid in grids if grid in wanted):
        problem = f"{list(wanted)}: the network's grids are {list(grids)}"
        raise ConfigError(problem, place=place, remedy="Name some of these, fine first.")
    if wanted[-1] > given.grids[-1]:
        problem = f"{list(wanted)}: the backbone goes down to {given.grids[-1]} cells, and nothing would see them"
        raise ConfigError(problem, place=place, remedy=f"Name {given.grids[-1]} or a smaller one too.")


def from_settings(settings: Settings, *, auxiliary: bool = False) -> SSD:
    """Build the network that these settings describe, with new layers initialised as in Caffe (fan-in Xavier).

    A library's backbone is initialised by its library. `auxiliary` adds GoogLeNet's auxiliary heads, which are used
    in training only.

    Raises:
        ConfigError: the settings do not fit together, or the backbone has no such heads.
        MissingExtraError: the backbone is timm's, and timm is not installed.
    """
    network = _assemble(settings.network, settings.boxes, settings.num_classes, auxiliary)
    for part in (network.backbone, network.extras, network.head):
        if part is not network.backbone or isinstance(part, VGG):
            caffe_(part)
    if settings.network.head == "lite" and settings.network.variant == "none":
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = lite.MOMENTUM
    return network


def _assemble(network: NetworkSettings, boxes: BoxSettings, num_classes: int, auxiliary: bool) -> SSD:
    given, grids = backbone_levels(network), level_grids(network)
    _check_levels(boxes.grids, grids, given, place="default boxes")
    seen = tuple(grids.index(grid) for grid in boxes.grids)
    if network.backbone in vgg.NAMES and not auxiliary:
        backbone: nn.Module = _vgg(network)
    else:
        backbone = backbones.backbone(
            network.backbone,
            network.input_size,
            presence_classes=num_classes if auxiliary else None,
            expansion=_expansion(network),
        )
    extra_layers = _extras(network, given, seen[-1] + 1 - len(given.grids))
    channels = [*given.channels, *extra_layers.out_channels]
    seen_channels = [channels[place] for place in seen]
    multibox_head = MultiBoxHead(seen_channels, boxes_per_cell(boxes), num_classes, _predictors(network))
    return SSD(backbone, _first_norm(network, channels[0]), extra_layers, multibox_head, seen)


def _extras(network: NetworkSettings, given: Levels, count: int) -> Extras | LiteExtras:
    channels, grid, norm, width = given.channels[-1], given.grids[-1], network.extras_norm, network.width
    if network.head == "lite":
        linear = network.variant != "none"
        return LiteExtras(channels, grid, norm=norm, width=width, count=count, linear=linear)
    first = 8 if network.atrous else 9  # conv7 has the grid of conv8_2
    halving = _halving(network)
    return Extras(channels, grid, norm=norm, width=width, first=first, count=count, halving=halving)


def _predictors(network: NetworkSettings) -> Predictors:
    if network.head == "full":
        return head.convolutions
    return partial(lite.predictors, norm=network.extras_norm, ports=network.variant != "none")


def _expansion(network: NetworkSettings) -> bool:
    """Whether a MobileNet's first level is inside a block; lufficc's is the output of the block before."""
    return network.head == "lite" and network.variant != "lufficc"


def _halving(network: NetworkSettings) -> bool:
    return network.head == "lite" or network.variant != "none"


def _vgg(network: NetworkSettings) -> VGG:
    name, _, norm = network.backbone.partition("_")
    return VGG(name, batch_norm=norm == "bn", width=network.width, atrous=network.atrous, fc_norm=network.fc_norm)


def _covers(given: Levels, input_size: int) -> bool:
    """Whether cells a stride apart cover the image; without padding its right and lower border would be left out."""
    pairs = zip(given.grids, given.strides, strict=True)
    return all(input_size // stride <= grid <= math.ceil(input_size / stride) for grid, stride in pairs)


def _first_norm(network: NetworkSettings, channels: int) -> nn.Module:
    if network.first_level_norm == "batch":
        return nn.BatchNorm2d(channels)
    return L2Norm(channels, eps=network.l2_eps) if network.first_level_norm == "l2" else nn.Identity()
