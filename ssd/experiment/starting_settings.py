"""Builds the settings stored with the weights from a config, and resolves `auto`.

`auto` keeps the value of the detector that training starts from; for a new layer it is the value that measured best on
small data sets.
"""

import dataclasses
from typing import Any

from ssd.errors import ConfigError
from ssd.experiment.config import Config, ModelConfig
from ssd.model import vgg
from ssd.model.factory import level_grids, settings_for
from ssd.model.norm import Norm
from ssd.rules import SIGMA_REMEDY, can_be_sigma
from ssd.settings import NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.resolve import read_weights


def build_settings(
    config: Config,
    class_names: tuple[str, ...],
    preprocessing: Preprocessing,
    *,
    source: Settings | None = None,
    trained_fc_norm: Norm | None = None,
) -> Settings:
    """The settings that are stored with the weights.

    `auto` depends on the start of training: a detector with the settings `source`, or a backbone with
    `trained_fc_norm` as the norm of its conv6 and conv7 (None: these are new).
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
    assert model.head != "auto"
    settings = settings_for(
        class_names,
        input_size=model.input_size,
        backbone=model.backbone,
        width=model.width,
        atrous=model.atrous,
        fc_norm=model.fc_norm,
        extras_norm=model.extras_norm,
        head=model.head,
        variant="none" if source is None or source.network.head != model.head else source.network.variant,
        levels=model.levels,
        table=model.box_table,
        truncate=config.mode_rules.truncate_box_sizes,
        min_sizes=model.min_sizes,
        max_sizes=model.max_sizes,
        ratios=model.aspect_ratios,
    )
    rules = Postprocessing(box_voting=sigma)
    preprocessing = adapted(preprocessing, config)
    settings = Settings(settings.network, settings.boxes, class_names, preprocessing, rules, config.data.tiles)
    return settings if source is None else _with_the_rest(settings, source, config)


def adapted(preprocessing: Preprocessing, config: Config) -> Preprocessing:
    """The preprocessing of the starting weights, with this training's depth and a resize rule that suits it.

    Training in the default mode filters when it shrinks, so `area` replaces rules without a filter; `mode: paper`
    replaces only `area`.
    """
    unsuited = {"area": ("uint8", "float"), "uint8": ("area",)}
    rule = config.mode_rules.resize
    resize = rule if preprocessing.resize in unsuited[rule] else preprocessing.resize
    return dataclasses.replace(preprocessing, resize=resize, depth=config.preprocessing.depth)


def starting_settings(config: Config, class_names: tuple[str, ...]) -> Settings:
    """The settings at the start of training, as far as they are known without a backbone's weights.

    Raises:
        SSDError: the detector that `model.weights` names cannot be read.
    """
    weights = config.model.weights
    source = None if weights is None else read_weights(weights)[1]
    preprocessing = Preprocessing() if source is None else source.preprocessing
    return build_settings(config, class_names, preprocessing, source=source)


def _same_kind(model: ModelConfig, network: NetworkSettings) -> bool:
    """Whether layers of equal names correspond: the same backbone, or two VGGs, both or neither with BatchNorm."""
    names = {model.backbone, network.backbone}
    return len(names) == 1 or (names <= set(vgg.NAMES) and len({name.endswith("_bn") for name in names}) == 1)


def _as_trained(model: ModelConfig, source: Settings) -> ModelConfig:
    """Replace `auto` by the values of the weights, which depend on their norms and their default boxes."""
    network, boxes = source.network, source.boxes
    changes: dict[str, Any] = {}
    if model.head == "auto":
        changes["head"] = network.head
    same_head = model.head in ("auto", network.head)
    if model.extras_norm == "auto" and same_head:
        changes["extras_norm"] = network.extras_norm
    if model.fc_norm == "auto" and network.atrous == model.atrous:
        changes["fc_norm"] = network.fc_norm
    same_size = network.input_size == model.input_size and same_head
    if model.box_table == "auto" and same_size and model.levels in (None, boxes.grids):
        sizes = {"min_sizes": boxes.min_sizes, "max_sizes": boxes.max_sizes}
        changes |= {key: tuple(size / boxes.input_size for size in side) for key, side in sizes.items()}
        changes |= {"aspect_ratios": boxes.aspect_ratios, "levels": boxes.grids}
        changes = {key: value for key, value in changes.items() if getattr(model, key) in (None, "auto")}
    unseen = level_grids(network).index(boxes.grids[0])
    if model.levels is None and "levels" not in changes and unseen and same_head and network.atrous == model.atrous:
        # Its head saw nothing of the first levels, and its predictors belong to those after them.
        resized = dataclasses.replace(network, input_size=model.input_size)
        changes["levels"] = level_grids(resized)[unseen:]
    return dataclasses.replace(model, **changes)


def _with_the_rest(settings: Settings, source: Settings, config: Config) -> Settings:
    """Keep the detector's other settings: those without a key, and those with a key that is null."""
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
    """Replace `auto` by what measured best on small sets (RESULTS.md); trained layers keep their norm or none."""
    plain_vgg = model.backbone in vgg.NAMES and not model.backbone.endswith("_bn")
    fc_norm = (trained_fc_norm or "group") if plain_vgg else "none"
    lite = model.head == "lite"
    chosen: dict[str, Any] = {
        "head": "full",
        "extras_norm": "batch" if lite else "group",
        "fc_norm": fc_norm,
        "box_table": "fine",
    }
    return dataclasses.replace(model, **{key: value for key, value in chosen.items() if getattr(model, key) == "auto"})
