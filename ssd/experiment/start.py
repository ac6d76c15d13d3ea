"""Builds the network of a config with its starting weights."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ssd.errors import ConfigError
from ssd.experiment.config import Config
from ssd.experiment.starting_settings import adapted, build_settings
from ssd.model import backbones, vgg
from ssd.model.factory import from_settings
from ssd.model.norm import Norm
from ssd.model.ssd import SSD
from ssd.settings import NetworkSettings, Preprocessing, Settings
from ssd.weights.imagenet.library import library_backbone_state
from ssd.weights.imagenet.vgg import vgg16_backbone_state
from ssd.weights.resolve import read_weights
from ssd.weights.transfer import Transfer, copy_what_fits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Initialised:
    """A network before training, and the names of its new and its pretrained layers."""

    network: SSD
    settings: Settings
    fresh: tuple[str, ...]  # convolutions without pretrained weights, in the order of the forward pass
    pretrained: frozenset[str] = frozenset()  # parameters of the backbone that were loaded


def start(config: Config, class_names: tuple[str, ...]) -> Initialised:
    """Build the network with its starting weights; the log names the layers without pretrained weights."""
    torch.manual_seed(config.seed)
    if config.model.weights is not None:
        return _from_detector(config, class_names, config.model.weights)
    settings = build_settings(config, class_names, Preprocessing())  # finds mistakes before any download
    if config.model.backbone_weights == "none":
        network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0)
        return Initialised(network, settings, _fresh_convolutions(network, frozenset()))
    return _from_backbone(config, class_names)


def _fresh_convolutions(network: SSD, loaded: frozenset[str] | set[str]) -> tuple[str, ...]:
    """Names of the convolutions without loaded weights."""
    convolutions = (name for name, layer in network.named_modules() if isinstance(layer, torch.nn.Conv2d))
    return tuple(name for name in convolutions if f"{name}.weight" not in loaded)


def freeze(network: SSD, stages: int | Literal["auto"], pretrained: frozenset[str] | set[str] = frozenset()) -> None:
    """Freeze the first `stages` stages of a VGG.

    `auto` freezes two stages if all of their parameters are in `pretrained`, and none otherwise.

    Raises:
        ConfigError: the backbone is no VGG.
    """
    if stages == "auto":
        first = [name for name, _ in network.named_parameters() if name.startswith(_stage_prefixes(2))]
        stages = 2 if first and isinstance(network.backbone, vgg.VGG) and pretrained.issuperset(first) else 0
    if stages and not isinstance(network.backbone, vgg.VGG):
        remedy = "Set it to 0; optim.backbone_lr_factor slows a whole backbone down."
        raise ConfigError(f"{stages}: stages are VGG's", place="model.freeze_stages", remedy=remedy)
    for name, parameter in network.named_parameters():
        if name.startswith(_stage_prefixes(stages)):
            parameter.requires_grad_(False)


def _stage_prefixes(stages: int) -> tuple[str, ...]:
    return tuple(f"backbone.{kind}{stage}_" for stage in range(1, stages + 1) for kind in ("conv", "norm"))


def _from_backbone(config: Config, class_names: tuple[str, ...]) -> Initialised:
    model = config.model
    if model.backbone not in vgg.NAMES:
        return _from_library(config, class_names)
    imagenet = vgg16_backbone_state(
        model.backbone_weights, width=model.width, backbone=model.backbone, atrous=model.atrous
    )
    trained_fc_norm = _fc_norm(imagenet.state) if "backbone.conv6.weight" in imagenet.state else None
    settings = build_settings(config, class_names, imagenet.preprocessing, trained_fc_norm=trained_fc_norm)
    network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0)
    transfer = copy_what_fits(network.state_dict(), imagenet.state)
    network.load_state_dict(transfer.state)
    _report(config.model.backbone_weights, transfer)
    return Initialised(network, settings, _fresh_convolutions(network, transfer.copied), _in_backbone(transfer))


def _fc_norm(state: Mapping[str, Tensor]) -> Norm:
    """The norm of conv6 and conv7 in the weights of a detector that are used for its backbone."""
    if "backbone.norm6.running_mean" in state:
        return "batch"
    return "group" if "backbone.norm6.weight" in state else "none"


def _from_library(config: Config, class_names: tuple[str, ...]) -> Initialised:
    name = config.model.backbone
    settings = build_settings(config, class_names, Preprocessing())
    network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0)
    imagenet = library_backbone_state(
        config.model.backbone_weights,
        network.state_dict(),
        name=backbones.ALIASES.get(name, name),
        library=backbones.library(name),
    )
    transfer = copy_what_fits(network.state_dict(), imagenet.state)
    network.load_state_dict(transfer.state)
    _report(config.model.backbone_weights, transfer)
    settings = dataclasses.replace(settings, preprocessing=adapted(imagenet.preprocessing, config))
    return Initialised(network, settings, _fresh_convolutions(network, transfer.copied), _in_backbone(transfer))


def _from_detector(config: Config, class_names: tuple[str, ...], weights: str) -> Initialised:
    state, source = read_weights(weights)
    settings = build_settings(config, class_names, source.preprocessing, source=source)
    network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0)
    transfer = copy_what_fits(
        network.state_dict(), state, class_names=class_names, source_class_names=source.class_names
    )
    if not any(transfer.state[name].dim() > 1 for name in _in_backbone(transfer)):  # counters fit everywhere
        theirs, ours = source.network, settings.network
        remedy = (
            f"Set model.backbone={theirs.backbone} model.width={theirs.width:g}; or start from ImageNet, without it."
        )
        problem = f"is a {_named(theirs)}: nothing of its backbone fits a {_named(ours)}"
        raise ConfigError(problem, place=weights, remedy=remedy)
    network.load_state_dict(transfer.state)
    _report(weights, transfer)
    return Initialised(network, settings, _fresh_convolutions(network, transfer.copied), _in_backbone(transfer))


def _named(network: NetworkSettings) -> str:
    return network.backbone if network.width == 1 else f"{network.backbone} of width {network.width:g}"


def _in_backbone(transfer: Transfer) -> frozenset[str]:
    return frozenset(name for name in transfer.copied if name.startswith("backbone."))


def _report(source: object, transfer: Transfer) -> None:
    log.info("%s: %d tensors loaded", source, len(transfer.copied))
    if transfer.kept_classes:
        log.info("head rows copied for: %s", ", ".join(transfer.kept_classes))
    if transfer.new_classes:
        log.info("head rows initialised for: %s", ", ".join(transfer.new_classes))
    if transfer.initialised:
        log.info("initialised: %s", ", ".join(_layers_initialised(transfer)))


def _layers_initialised(transfer: Transfer) -> list[str]:
    """Layers that keep their initial weights; `extras`, `head` and so on where all of a part do."""
    partly = {name.partition(".")[0] for name in transfer.copied}
    layers = (name.rpartition(".")[0] for name in transfer.initialised)
    return sorted({layer if layer.partition(".")[0] in partly else layer.partition(".")[0] for layer in layers})
