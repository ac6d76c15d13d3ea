"""From a config to a network with its starting weights, the settings that travel with them, and the schedule."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ssd.errors import ConfigError
from ssd.experiment.config import Config, ModelConfig, ModeRules
from ssd.model import backbones, vgg
from ssd.model.factory import from_settings, settings_for
from ssd.model.norm import Norm
from ssd.model.ssd import SSD
from ssd.settings import (
    SIGMA_REMEDY,
    NetworkSettings,
    Postprocessing,
    Preprocessing,
    Settings,
    can_be_sigma,
)
from ssd.weights.imagenet.library import library_backbone_state
from ssd.weights.imagenet.vgg import vgg16_backbone_state
from ssd.weights.resolve import read_weights
from ssd.weights.transfer import Transfer, copy_what_fits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Initialised:
    """A network about to be trained, and what of it starts from nothing."""

    network: SSD
    settings: Settings
    fresh: tuple[str, ...]  # convolutions without pretrained weights, in the order of the forward pass
    pretrained: frozenset[str] = frozenset()  # parameters of the backbone that were loaded


def start(config: Config, class_names: tuple[str, ...]) -> Initialised:
    """Build the network and give it its starting weights; what was initialised is named in the log."""
    torch.manual_seed(config.seed)
    if config.model.weights is not None:
        return _from_detector(config, class_names, config.model.weights)
    settings = build_settings(config, class_names, Preprocessing())  # a mistake is named before anything is fetched
    if config.model.backbone_weights == "none":
        network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0)
        return Initialised(network, settings, _fresh_convolutions(network, frozenset()))
    return _from_backbone(config, class_names)


def build_settings(
    config: Config,
    class_names: tuple[str, ...],
    preprocessing: Preprocessing,
    *,
    source: Settings | None = None,
    trained_fc_norm: Norm | None = None,
) -> Settings:
    """The facts that will travel with the weights.

    `auto` depends on what training starts from: a detector with settings of its own, `source`, or a backbone, and the
    norm that its conv6 and conv7 were trained with (`trained_fc_norm`; None: they start from nothing).
    """
    sigma = config.model.box_voting
    if not can_be_sigma(sigma):
        raise ConfigError(f"{sigma} is out of range", place="model.box_voting", remedy=SIGMA_REMEDY)
    if source is not None and not _same_kind(config.model, source.network):
        source = None
    model = _without_auto(config.model if source is None else _as_trained(config.model, source), trained_fc_norm)
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
        truncate=config.mode_rules.truncate_box_sizes,
        min_sizes=model.min_sizes,
        max_sizes=model.max_sizes,
        ratios=model.aspect_ratios,
    )
    rules = Postprocessing(box_voting=sigma)
    preprocessing = _resized(preprocessing, config.mode_rules)
    settings = Settings(settings.network, settings.boxes, class_names, preprocessing, rules)
    return settings if source is None else _with_the_rest(settings, source, config)


def _resized(preprocessing: Preprocessing, rules: ModeRules) -> Preprocessing:
    """With the resize that suits this training; how the weights to start from were trained stays where both suit it.

    Training by default filters what it shows, so `area` replaces the rules without a filter, and only `area` is undone.
    """
    unsuited = {"area": ("uint8", "float"), "uint8": ("area",)}
    if preprocessing.resize not in unsuited[rules.resize]:
        return preprocessing
    return dataclasses.replace(preprocessing, resize=rules.resize)


def starting_settings(config: Config, class_names: tuple[str, ...]) -> Settings:
    """Settings that training would start with, as far as they can be told without a backbone's weights.

    Raises:
        SSDError: the detector that `model.weights` names cannot be read.
    """
    weights = config.model.weights
    source = None if weights is None else read_weights(weights)[1]
    preprocessing = Preprocessing() if source is None else source.preprocessing
    return build_settings(config, class_names, preprocessing, source=source)


def _same_kind(model: ModelConfig, network: NetworkSettings) -> bool:
    """Layers of equal names mean the same in both: one backbone, or two VGGs of which both or none have BatchNorm."""
    names = {model.backbone, network.backbone}
    return len(names) == 1 or (names <= set(vgg.NAMES) and len({name.endswith("_bn") for name in names}) == 1)


def _as_trained(model: ModelConfig, source: Settings) -> ModelConfig:
    """`auto` is what the weights were trained with: they mean nothing without their norms and their default boxes."""
    network, boxes = source.network, source.boxes
    changes: dict[str, Any] = {}
    if model.extras_norm == "auto":
        changes["extras_norm"] = network.extras_norm
    if model.fc_norm == "auto" and network.atrous == model.atrous:
        changes["fc_norm"] = network.fc_norm
    if model.box_table == "auto" and network.input_size == model.input_size and model.levels in (None, boxes.grids):
        sizes = {"min_sizes": boxes.min_sizes, "max_sizes": boxes.max_sizes}
        changes |= {key: tuple(size / boxes.input_size for size in side) for key, side in sizes.items()}
        changes |= {"aspect_ratios": boxes.aspect_ratios, "levels": boxes.grids}
        changes = {key: value for key, value in changes.items() if getattr(model, key) in (None, "auto")}
    return dataclasses.replace(model, **changes)


def _with_the_rest(settings: Settings, source: Settings, config: Config) -> Settings:
    """What else the detector was trained with; no key names some of it, and a key that is null asks for the rest."""
    network, boxes = settings.network, settings.boxes
    if "none" not in (network.first_level_norm, source.network.first_level_norm):
        norm, eps = source.network.first_level_norm, source.network.l2_eps
        network = dataclasses.replace(network, first_level_norm=norm, l2_eps=eps)
    boxes = dataclasses.replace(boxes, variances=source.boxes.variances, clip=source.boxes.clip)
    same_cells = (boxes.input_size, boxes.grids) == (source.boxes.input_size, source.boxes.grids)
    if config.model.box_table == "auto" and same_cells:
        boxes = dataclasses.replace(boxes, steps=source.boxes.steps)
    return dataclasses.replace(settings, network=network, boxes=boxes)


def _without_auto(model: ModelConfig, trained_fc_norm: Norm | None) -> ModelConfig:
    """What measured best on small sets (RESULTS.md). Trained layers keep the norm, or the lack of one, they know."""
    plain_vgg = model.backbone in vgg.NAMES and not model.backbone.endswith("_bn")
    fc_norm = (trained_fc_norm or "group") if plain_vgg else "none"
    chosen: dict[str, Any] = {"extras_norm": "group", "fc_norm": fc_norm, "box_table": "fine"}
    return dataclasses.replace(model, **{key: value for key, value in chosen.items() if getattr(model, key) == "auto"})


def _fresh_convolutions(network: SSD, loaded: frozenset[str] | set[str]) -> tuple[str, ...]:
    """Names of the convolutions whose weights were not loaded."""
    convolutions = (name for name, layer in network.named_modules() if isinstance(layer, torch.nn.Conv2d))
    return tuple(name for name in convolutions if f"{name}.weight" not in loaded)


def freeze(network: SSD, stages: int | Literal["auto"], pretrained: frozenset[str] | set[str] = frozenset()) -> None:
    """Keep the weights of the first `stages` stages of a VGG as they are.

    `auto` are two if all of their weights are `pretrained`, names of parameters, and none otherwise.

    Raises:
        ConfigError: the backbone is no VGG, or has no such stage.
    """
    if stages == "auto":
        first = [name for name, _ in network.named_parameters() if name.startswith(_stage_prefixes(2))]
        stages = 2 if first and isinstance(network.backbone, vgg.VGG) and pretrained.issuperset(first) else 0
    if not 0 <= stages <= 5:
        raise ConfigError(f"{stages}: VGG has five stages", place="model.freeze_stages", remedy="Use 0 to 5, or auto.")
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
    """The norm behind conv6 and conv7 of a detector whose weights serve as a backbone's."""
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
    settings = dataclasses.replace(settings, preprocessing=_resized(imagenet.preprocessing, config.mode_rules))
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
    """Layers that stay as they were built; `extras`, `head` and so on where that is all of them."""
    partly = {name.partition(".")[0] for name in transfer.copied}
    layers = (name.rpartition(".")[0] for name in transfer.initialised)
    return sorted({layer if layer.partition(".")[0] in partly else layer.partition(".")[0] for layer in layers})
