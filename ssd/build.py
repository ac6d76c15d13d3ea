"""From a config to a network with its starting weights, the settings that travel with them, and the schedule."""

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import torch

from ssd.config import Config, ModelConfig
from ssd.errors import ConfigError
from ssd.model import backbones, vgg
from ssd.model.ssd import SSD
from ssd.optim import Schedule
from ssd.pretrained import read_weights
from ssd.settings import Preprocessing, Settings
from ssd.variants import from_settings, settings_for
from ssd.weights.library import library_backbone_state
from ssd.weights.transfer import Transfer, copy_what_fits
from ssd.weights.vgg_imagenet import vgg16_backbone_state

log = logging.getLogger("ssd.build")


@dataclass(frozen=True)
class Start:
    """A network about to be trained, and what of it starts from nothing."""

    network: SSD
    settings: Settings
    fresh: tuple[str, ...]  # convolutions without pretrained weights, in the order of the forward pass
    pretrained: frozenset[str] = frozenset()  # parameters of the backbone that were loaded


def start(config: Config, class_names: tuple[str, ...]) -> Start:
    """Build the network and give it its starting weights; what was initialised is named in the log."""
    build_settings(config, class_names, Preprocessing())  # a mistake in them is named before anything is fetched
    torch.manual_seed(config.seed)
    if config.model.weights is not None:
        return _from_detector(config, class_names, config.model.weights)
    if config.model.backbone_weights == "none":
        settings = build_settings(config, class_names, Preprocessing())
        network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0)
        return Start(network, settings, _fresh_convolutions(network, frozenset()))
    return _from_backbone(config, class_names)


def build_settings(
    config: Config,
    class_names: tuple[str, ...],
    preprocessing: Preprocessing,
    *,
    source: Settings | None = None,
    fc_trained: bool = False,
) -> Settings:
    """The facts that will travel with the weights.

    `auto` depends on what training starts from: a detector with settings of its own, `source`, or a backbone whose
    conv6 and conv7 are, or are not, those of ImageNet (`fc_trained`).
    """
    model = _without_auto(config.model if source is None else _as_trained(config.model, source), fc_trained)
    assert model.fc_norm != "auto"
    assert model.extras_norm != "auto"
    assert model.box_table != "auto"
    settings = settings_for(
        class_names,
        input_size=model.input_size,
        backbone=model.backbone,
        width=model.width,
        atrous=model.atrous,
        fc_norm=model.fc_norm,
        extras_norm=model.extras_norm,
        levels=model.levels,
        table=model.box_table,
        truncate=bool(model.truncate_sizes),
        clip="centre" if model.clip_boxes else "none",
        min_sizes=model.min_sizes,
        max_sizes=model.max_sizes,
        ratios=model.aspect_ratios,
        variances=config.loss.variances,
    )
    return Settings(settings.network, settings.boxes, class_names, preprocessing)


def _as_trained(model: ModelConfig, source: Settings) -> ModelConfig:
    """`auto` is what the weights were trained with: they mean nothing without their norms and their default boxes."""
    network, boxes = source.network, source.boxes
    if network.backbone != model.backbone:
        return model
    changes: dict[str, Any] = {}
    if model.extras_norm == "auto":
        changes["extras_norm"] = network.extras_norm
    if model.fc_norm == "auto":
        changes["fc_norm"] = network.fc_norm
    if model.box_table == "auto" and network.input_size == model.input_size and model.levels in (None, boxes.grids):
        sizes = {"min_sizes": boxes.min_sizes, "max_sizes": boxes.max_sizes}
        changes |= {key: tuple(size / boxes.input_size for size in side) for key, side in sizes.items()}
        changes |= {"aspect_ratios": boxes.aspect_ratios, "levels": boxes.grids}
        changes = {key: value for key, value in changes.items() if getattr(model, key) in (None, "auto")}
    return dataclasses.replace(model, **changes)


def _without_auto(model: ModelConfig, fc_trained: bool) -> ModelConfig:
    """What measured best on small sets (RESULTS.md). Trained layers go on without a norm that they have never met."""
    lacks_norm = model.backbone in vgg.NAMES and not model.backbone.endswith("_bn") and not fc_trained
    chosen: dict[str, Any] = {"extras_norm": "group", "fc_norm": "group" if lacks_norm else "none", "box_table": "fine"}
    return dataclasses.replace(model, **{key: value for key, value in chosen.items() if getattr(model, key) == "auto"})


def build_schedule(config: Config, total: int) -> Schedule:
    """The learning-rate schedule over `total` optimizer steps; `config` is resolved."""
    optim = config.optim
    assert optim.lr is not None, "resolve the config first"
    assert optim.schedule is not None
    # A short run warms up for a tenth of itself at most.
    warmup = min(optim.warmup, max(1, total // 10)) if optim.warmup else 0
    return Schedule(optim.lr, total, warmup, optim.schedule, optim.steps, optim.final_lr)


def _fresh_convolutions(network: SSD, loaded: frozenset[str] | set[str]) -> tuple[str, ...]:
    """Names of the convolutions whose weights were not loaded."""
    convolutions = (name for name, layer in network.named_modules() if isinstance(layer, torch.nn.Conv2d))
    return tuple(name for name in convolutions if f"{name}.weight" not in loaded)


def freeze(network: SSD, stages: int) -> None:
    """Keep the weights of the first `stages` stages of a VGG as they are.

    Raises:
        ConfigError: the backbone is no VGG, or has no such stage.
    """
    if not 0 <= stages <= 5:
        raise ConfigError(f"{stages}: VGG has five stages", place="model.freeze_stages", remedy="Use 0 to 5, or auto.")
    if stages and not isinstance(network.backbone, vgg.VGG):
        remedy = "Set it to 0; optim.backbone_lr_factor slows a whole backbone down."
        raise ConfigError(f"{stages}: stages are VGG's", place="model.freeze_stages", remedy=remedy)
    prefixes = tuple(f"backbone.{kind}{stage}_" for stage in range(1, stages + 1) for kind in ("conv", "norm"))
    for name, parameter in network.named_parameters():
        if prefixes and name.startswith(prefixes):
            parameter.requires_grad_(False)


def _from_backbone(config: Config, class_names: tuple[str, ...]) -> Start:
    model = config.model
    if model.backbone not in vgg.NAMES:
        return _from_library(config, class_names)
    imagenet = vgg16_backbone_state(
        model.backbone_weights, width=model.width, backbone=model.backbone, atrous=model.atrous
    )
    fc_trained = "backbone.conv6.weight" in imagenet.state
    settings = build_settings(config, class_names, imagenet.preprocessing, fc_trained=fc_trained)
    network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0)
    transfer = copy_what_fits(network.state_dict(), imagenet.state)
    network.load_state_dict(transfer.state)
    _report(config.model.backbone_weights, transfer)
    return Start(network, settings, _fresh_convolutions(network, transfer.copied), _in_backbone(transfer))


def _from_library(config: Config, class_names: tuple[str, ...]) -> Start:
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
    settings = dataclasses.replace(settings, preprocessing=imagenet.preprocessing)
    return Start(network, settings, _fresh_convolutions(network, transfer.copied), _in_backbone(transfer))


def _from_detector(config: Config, class_names: tuple[str, ...], weights: str) -> Start:
    state, source = read_weights(weights)
    settings = build_settings(config, class_names, source.preprocessing, source=source)
    network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0)
    transfer = copy_what_fits(
        network.state_dict(), state, class_names=class_names, source_class_names=source.class_names
    )
    network.load_state_dict(transfer.state)
    _report(weights, transfer)
    return Start(network, settings, _fresh_convolutions(network, transfer.copied), _in_backbone(transfer))


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
    """Layers that stay as they were built; `extras`, `head` and so on where that is all of them."""
    partly = {name.partition(".")[0] for name in transfer.copied}
    layers = (name.rpartition(".")[0] for name in transfer.initialised)
    return sorted({layer if layer.partition(".")[0] in partly else layer.partition(".")[0] for layer in layers})
