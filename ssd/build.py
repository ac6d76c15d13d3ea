"""From a config to the things it describes: data, settings, a network with its starting weights."""

import dataclasses
import functools
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8

from ssd import distributed
from ssd.config import Config, ModelConfig, resolve
from ssd.data import Dataset, default_split, open_dataset, shapes
from ssd.data.loader import TrainLoader, make_train_loader
from ssd.data.preview import draw_sheet
from ssd.data.preview import preview as draw_preview
from ssd.data.transforms import TrainTransform
from ssd.errors import ConfigError, ImageDecodeError
from ssd.images import mean_colour
from ssd.metrics import CocoMetric, Metric, VocMetric
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


def open_split(
    config: Config, which: Literal["train", "val"], *, class_names: tuple[str, ...] | None = None
) -> Dataset:
    """The data set of one side of the experiment, every annotation checked; `class_names` overrule the config's.

    Raises:
        DatasetError: missing, empty, unknown format or split, or objects that cannot be trained on.
    """
    data = config.data
    if data.format == "shapes":
        count = data.shapes_train if which == "train" else data.shapes_val
        return shapes(which, count=count, size=data.shapes_size)
    split = data.train if which == "train" else data.val
    if split is None:
        split = default_split(data.folder, data.format, which)
    return open_dataset(
        data.folder,
        split,
        format=data.format,
        classes=class_names or data.classes,
        bad_objects=data.bad_objects,
        difficult=data.difficult if which == "train" else "train",
        voc_offset=data.voc_offset,
        allow_outside=data.allow_outside,
    )


def check_pictures(*datasets: Dataset, limit: int = 5000) -> None:
    """Decode every picture once, so that a damaged one stops a run before its first step and not after an epoch.

    Of data sets with more than `limit` pictures together only the last one, which is evaluated on, is looked through.

    Raises:
        ImageError: the first picture that cannot be decoded.
    """
    if sum(len(dataset.records) for dataset in datasets) > limit:
        datasets = datasets[-1:]
    for dataset in datasets:
        with ThreadPoolExecutor(4) as threads:
            try:
                for _ in threads.map(functools.partial(_decodes, dataset), range(len(dataset.records))):
                    pass
            except ImageDecodeError as error:
                threads.shutdown(cancel_futures=True)
                remedy = f"{error.remedy} Or pass over a few such pictures in training: data.bad_images=skip.".lstrip()
                raise ImageDecodeError(error.problem, place=error.place, remedy=remedy) from None


def _decodes(dataset: Dataset, index: int) -> None:
    dataset.load(index)


def train_loader(config: Config, dataset: Dataset, settings: Settings) -> TrainLoader:
    """This rank's share of the augmented batches."""
    return make_train_loader(
        dataset,
        _train_transform(config, settings),
        batch_size=config.train.batch_size,
        seed=config.seed,
        workers=config.data.workers,
        timeout=config.data.timeout,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        bad_images=config.data.bad_images,
    )


def _train_transform(config: Config, settings: Settings) -> TrainTransform:
    augment = config.augment
    assert augment.order is not None, "resolve the config first"
    return TrainTransform(
        settings.network.input_size,
        fill=mean_colour(settings.preprocessing),
        order=augment.order,
        photometric=augment.photometric,
        expand=augment.expand,
        max_expand=augment.max_expand,
        crop=augment.crop,
        mirror=augment.mirror,
        flip_vertical=augment.flip_vertical,
    )


def metric(config: Config, dataset: Dataset) -> Metric:
    """The figure that decides which weights are best."""
    if config.train.metric == "voc":
        return VocMetric(dataset.records, dataset.class_names)
    backend = config.train.coco_backend
    return CocoMetric(dataset.records, dataset.class_names, dataset.category_ids, backend=backend)


def preview(config: Config, path: Path, dataset: Dataset | None = None) -> None:
    """Write a grid of augmented training pictures with their boxes, of `dataset` where one is given."""
    config = resolve(config)
    if dataset is None:
        dataset = open_split(config, "train")
    draw_preview(dataset, _preview_transform(config, dataset), path, seed=config.seed)


def augmented_sheet(config: Config, dataset: Dataset, count: int = 16) -> UInt8[np.ndarray, "H W 3"]:
    """Draw that grid for whoever writes it elsewhere."""
    config = resolve(config)
    return draw_sheet(dataset, _preview_transform(config, dataset), count=count, seed=config.seed)


def _preview_transform(config: Config, dataset: Dataset) -> TrainTransform:
    return _train_transform(config, build_settings(config, dataset.class_names, Preprocessing()))


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
        return Start(network, settings, fresh_convolutions(network, frozenset()))
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


def fresh_convolutions(network: SSD, loaded: frozenset[str] | set[str]) -> tuple[str, ...]:
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
    return Start(network, settings, fresh_convolutions(network, transfer.copied), _in_backbone(transfer))


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
    return Start(network, settings, fresh_convolutions(network, transfer.copied), _in_backbone(transfer))


def _from_detector(config: Config, class_names: tuple[str, ...], weights: str) -> Start:
    state, source = read_weights(weights)
    settings = build_settings(config, class_names, source.preprocessing, source=source)
    network = from_settings(settings, auxiliary=config.loss.auxiliary_weight > 0)
    transfer = copy_what_fits(
        network.state_dict(), state, class_names=class_names, source_class_names=source.class_names
    )
    network.load_state_dict(transfer.state)
    _report(weights, transfer)
    return Start(network, settings, fresh_convolutions(network, transfer.copied), _in_backbone(transfer))


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
