"""From plain numbers to a network: SSD300, SSD512, and any other input size."""

import logging
from typing import Any, Literal

from torch import nn

from ssd.errors import ConfigError
from ssd.model import extras, vgg
from ssd.model.extras import Extras
from ssd.model.head import MultiBoxHead
from ssd.model.initialise import caffe_
from ssd.model.ssd import SSD
from ssd.model.vgg import VGG, L2Norm
from ssd.multibox.default_boxes import Table, box_settings, boxes_per_cell
from ssd.settings import BoxSettings, NetworkSettings, Settings

log = logging.getLogger("ssd.variants")

BACKBONES = (*vgg.CONFIGURATIONS, *(f"{name}_bn" for name in vgg.CONFIGURATIONS))
SMALLEST_INPUT = 64


def ssd300(class_names: tuple[str, ...], *, table: Table = "voc", **numbers: Any) -> Settings:
    """Settings of SSD300 with VGG16: 8732 default boxes. `numbers` go to `settings_for`."""
    return settings_for(class_names, input_size=300, table=table, **numbers)


def ssd512(class_names: tuple[str, ...], *, table: Table = "voc", **numbers: Any) -> Settings:
    """Settings of SSD512 with VGG16: 24564 default boxes. `numbers` go to `settings_for`."""
    return settings_for(class_names, input_size=512, table=table, **numbers)


def settings_for(
    class_names: tuple[str, ...],
    *,
    input_size: int,
    backbone: str = "vgg16",
    width: float = 1.0,
    extras_norm: Literal["none", "batch"] = "none",
    **box_numbers: Any,
) -> Settings:
    """Settings for any input size; the levels, and so the default boxes, follow from it.

    `box_numbers` go to `box_settings`: `table`, `truncate`, `clip`, `min_sizes`, `max_sizes`, `ratios`, `variances`.

    Raises:
        ConfigError: no such backbone, or an input too small for it.
    """
    # L2 normalisation tames the first level's features; BatchNorm has done so already.
    first_norm: Literal["l2", "none"] = "none" if backbone.endswith("_bn") else "l2"
    network = NetworkSettings(backbone, input_size, width, extras_norm, first_norm)
    return Settings(network, box_settings(input_size, level_grids(network), **box_numbers), class_names)


def level_grids(network: NetworkSettings) -> tuple[int, ...]:
    """Side of each level's feature map, fine first.

    Raises:
        ConfigError: no such backbone, or an input too small for it.
    """
    if network.backbone not in BACKBONES:
        raise ConfigError(
            f"no backbone {network.backbone!r}", place="model.backbone", remedy=f"Choose from {', '.join(BACKBONES)}."
        )
    if network.input_size < SMALLEST_INPUT:
        raise ConfigError(
            f"{network.input_size} pixels are too few for {network.backbone}",
            place="model.input_size",
            remedy=f"Use {SMALLEST_INPUT} or more.",
        )
    first, last = vgg.grids(network.input_size)
    return (first, last, *extras.grids(last))


def from_settings(settings: Settings) -> SSD:
    """Build the network these settings describe, new layers initialised as Caffe does (fan-in Xavier)."""
    network = _assemble(settings.network, settings.boxes, settings.num_classes)
    caffe_(network)
    return network


def _assemble(network: NetworkSettings, boxes: BoxSettings, num_classes: int) -> SSD:
    grids = level_grids(network)
    if grids != boxes.grids:
        raise ConfigError(f"levels of {boxes.grids} cells do not fit the network's {grids}", place="default boxes")
    name, _, norm = network.backbone.partition("_")
    backbone = VGG(name, batch_norm=norm == "bn", width=network.width)
    extra_layers = Extras(backbone.out_channels[-1], grids[1], norm=network.extras_norm, width=network.width)
    channels = [*backbone.out_channels, *extra_layers.out_channels]
    head = MultiBoxHead(channels, boxes_per_cell(boxes), num_classes)
    return SSD(backbone, _first_norm(network, channels[0]), extra_layers, head)


def _first_norm(network: NetworkSettings, channels: int) -> nn.Module:
    if network.first_level_norm == "batch":
        return nn.BatchNorm2d(channels)
    return L2Norm(channels, eps=network.l2_eps) if network.first_level_norm == "l2" else nn.Identity()
