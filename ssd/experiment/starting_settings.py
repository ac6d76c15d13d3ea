"""From a config to the settings that travel with the weights: what is `auto` is decided here.

`auto` keeps what the detector to start from was trained with; for a layer that starts from nothing it is what measured
best on small data sets.
"""

import dataclasses
from typing import Any

from ssd.errors import ConfigError
from ssd.experiment.config import Config, ModelConfig, ModeRules
from ssd.model import vgg
from ssd.model.factory import settings_for
from ssd.model.norm import Norm
from ssd.settings import SIGMA_REMEDY, NetworkSettings, Postprocessing, Preprocessing, Settings, can_be_sigma
from ssd.weights.resolve import read_weights


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
    preprocessing = with_resize(preprocessing, config.mode_rules)
    settings = Settings(settings.network, settings.boxes, class_names, preprocessing, rules)
    return settings if source is None else _with_the_rest(settings, source, config)


def with_resize(preprocessing: Preprocessing, rules: ModeRules) -> Preprocessing:
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
