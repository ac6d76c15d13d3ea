"""Builds the data sets, the loader and the metric of a config."""

import dataclasses
import functools
import importlib.util
import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from ssd.data.augment.preview import draw_sheet
from ssd.data.augment.preview import preview as draw_preview
from ssd.data.augment.transforms import TrainTransform
from ssd.data.checked import check_unchecked
from ssd.data.dataset import Dataset, open_dataset
from ssd.data.deep_images import report_values
from ssd.data.formats.registry import default_split
from ssd.data.joined import Part, join
from ssd.data.loading.loader import TrainLoader
from ssd.data.loading.workers import choose_workers
from ssd.data.mirrored_names import mirror_advice
from ssd.data.shapes.dataset import shapes
from ssd.data.split_checks import (
    check_trainable,
    missing_validation,
    report_copies,
    report_unused,
    report_use,
    report_validation,
)
from ssd.data.tiled import TiledDataset, tiled
from ssd.errors import ConfigError, DatasetError, ImageDecodeError
from ssd.evaluation.metrics.accumulator import Metric
from ssd.evaluation.metrics.coco import Backend, CocoMetric
from ssd.evaluation.metrics.voc import VocMetric
from ssd.experiment.config import Config, DataConfig
from ssd.images.preprocess import mean_colour
from ssd.settings import Preprocessing, Settings
from ssd.system import distributed

log = logging.getLogger(__name__)


def open_sets(config: Config) -> tuple[Dataset, Dataset]:
    """The training and the validation set, which has the classes of the training set.

    Raises:
        DatasetError: as `open_split`.
        ConfigError: keys that exclude each other.
    """
    if config.data.folders is not None:
        train, val = _joined(config)
        assert val is not None
    else:
        train = open_split(config, "train")
        val = open_split(config, "val", class_names=train.class_names)
    return train, val


def open_split(
    config: Config, which: Literal["train", "val"], *, class_names: tuple[str, ...] | None = None
) -> Dataset:
    """The training or validation set, with every annotation checked; `class_names` overrides the config's.

    Raises:
        DatasetError: missing, empty, unknown format or split, or objects that cannot be trained on.
        ConfigError: keys that exclude each other.
    """
    data = config.data
    if data.folders is not None:
        train_set, val_set = _joined(config, with_val=which == "val")
        return train_set if val_set is None else val_set
    split = data.train if which == "train" else data.val
    if data.format == "shapes":
        return _drawn(data, split or which)
    if split is None:
        split = default_split(data.folder, data.format, which)
    dataset = open_dataset(
        data.folder,
        split,
        format=data.format,
        classes=class_names or data.classes,
        bad_objects=data.bad_objects,
        bad_images=data.bad_images if which == "train" else "error",
        voc_offset=data.voc_offset,
        allow_outside=data.allow_outside,
        val_fraction=data.val_fraction,
        group=data.group,
    )
    if which == "train":
        check_trainable(dataset)
    return dataclasses.replace(dataset, depth=config.preprocessing.depth)


def _drawn(data: DataConfig, split: str) -> Dataset:
    train, val, side = data.shapes
    if split not in ("train", "val"):
        raise DatasetError(
            f"drawn shapes have no split {split!r}", place="data.format=shapes", remedy="Name train or val."
        )
    return shapes(split, count=train if split == "train" else val, size=side)


def _joined(config: Config, *, with_val: bool = True) -> tuple[Dataset, Dataset | None]:
    """The sets of `data.folders`. The training splits decide the classes, those of the validation set too.

    Raises:
        ConfigError: keys beside it that say the same in another way.
        DatasetError: as `open_split`, and names in it that are no classes.
    """
    data = config.data
    assert data.folders is not None
    _check_keys(data)
    parts = []
    for given in data.folders:
        alone = dataclasses.replace(config, data=dataclasses.replace(data, folder=given.path, folders=None))
        train = open_split(alone, "train")
        val = open_split(alone, "val", class_names=train.class_names) if with_val else None
        parts.append(Part(train, val, given.rename, given.complete_for))
    return join(parts)


def _check_keys(data: DataConfig) -> None:
    if not data.folders:
        raise ConfigError("names no folder", place="data.folders", remedy="Set data.folders=null, or name one.")
    if data.folder is not None:
        remedy = "Drop one: data.folder=null, or data.folders=null."
        raise ConfigError(f"data.folder={data.folder} and data.folders are both given", place="data", remedy=remedy)
    if data.format == "shapes":
        raise ConfigError("data.format=shapes has no folders", place="data.folders", remedy="Set data.format=auto.")
    if data.classes is not None:
        problem = "data.classes and data.folders are both given"
        raise ConfigError(problem, place="data", remedy="Set data.classes=null; folders have rename and complete_for.")
    paths = Counter(Path(given.path).resolve() for given in data.folders)
    twice = next((given.path for given in data.folders if paths[Path(given.path).resolve()] > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice} is given twice", place="data.folders", remedy="Keep one of them.")


def report_folder(config: Config, train: Dataset, val: Dataset) -> None:
    """Log what the folder holds unused, shared images, deep images, and classes that mirroring mixes up."""
    if config.data.format == "shapes" or distributed.rank() != 0:
        return
    report_values(train)
    mirrored = mirror_advice(train.class_names) if config.augment.mirror else None
    if mirrored is not None:
        log.warning("%s: %s", train.name, mirrored)
    if config.data.folders is None:
        report_use(train, val, config.data.format)
        said = missing_validation(train, val) if config.data.val is None else None
        if said is not None:
            log.info("%s: %s", val.name, said)
        return
    for given in config.data.folders:
        report_unused(given.path, config.data.format)
    report_validation(train, val)
    report_copies(train, val)


def check_images(*datasets: Dataset, limit: int = 5000) -> None:
    """Decode every image once, so that a damaged one stops a run before its first step and not after an epoch.

    If the data sets have more than `limit` images together, only the last one, the validation set, is checked, and
    of that only images that have changed since an earlier run checked them.

    Raises:
        ImageError: the first image that cannot be decoded.
    """
    if sum(len(dataset.records) for dataset in datasets) > limit:
        check_unchecked(datasets[-1], functools.partial(_check_some, datasets[-1]))
    else:
        for dataset in datasets:
            try:
                _check_some(dataset, range(len(dataset.records)))
            except ImageDecodeError as error:
                if dataset is datasets[-1]:
                    raise
                remedy = f"{error.remedy} Or pass over a few such images in training: data.bad_images=skip.".lstrip()
                raise ImageDecodeError(error.problem, place=error.place, remedy=remedy) from None


def _check_some(dataset: Dataset, rows: Sequence[int]) -> None:
    with ThreadPoolExecutor(4) as threads:
        try:
            for _ in threads.map(functools.partial(_decodes, dataset), rows):
                pass
        finally:  # neither a damaged image nor Ctrl-C waits for the rest
            threads.shutdown(cancel_futures=True)


def _decodes(dataset: Dataset, index: int) -> None:
    dataset.load(index)


def train_loader(config: Config, dataset: Dataset, settings: Settings, *, pin_memory: bool = False) -> TrainLoader:
    """This rank's share of the augmented batches, of tiles if `data.tiles` says so; `pin_memory` is for a GPU."""
    return TrainLoader(
        tiled(dataset, config.data.tiles, settings.network.input_size),
        _train_transform(config, settings.network.input_size, settings.preprocessing),
        batch_size=config.train.batch_size,
        seed=config.seed,
        workers=choose_workers(config.data.workers, distributed.local_world_size()),
        timeout=config.data.timeout,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        bad_images=config.data.bad_images,
        pin_memory=pin_memory,
        balance=config.data.balance,
        images=len(dataset),
    )


def _train_transform(config: Config, input_size: int, preprocessing: Preprocessing) -> TrainTransform:
    augment = config.augment
    return TrainTransform(
        input_size,
        fill=mean_colour(preprocessing),
        order=config.mode_rules.augmentation,
        photometric=augment.photometric,
        expand=augment.expand,
        crop=augment.crop,
        mirror=augment.mirror,
        flip_vertical=augment.flip_vertical,
    )


def metric(config: Config, dataset: Dataset) -> Metric:
    """The metric that selects the best weights."""
    if config.train.metric == "voc":
        return VocMetric(dataset.records, dataset.class_names)
    # Only a guide for the run: figures to publish come from `ssd eval`, by pycocotools.
    fast = importlib.util.find_spec("faster_coco_eval") is not None
    backend: Backend = "fast" if fast else "pycocotools"
    return CocoMetric(dataset.records, dataset.class_names, dataset.category_ids, backend=backend)


def preview(config: Config, path: Path, dataset: Dataset | None = None) -> None:
    """Write a grid of augmented training images with their boxes, of `dataset` where one is given."""
    if dataset is None:
        dataset = open_split(config, "train")
    draw_preview(_shown(config, dataset), _preview_transform(config), path, seed=config.seed)


def augmented_sheet(config: Config, dataset: Dataset, count: int = 16) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the grid of `preview` as an image."""
    return draw_sheet(_shown(config, dataset), _preview_transform(config), count=count, seed=config.seed)


def _shown(config: Config, dataset: Dataset) -> Dataset | TiledDataset:
    return tiled(dataset, config.data.tiles, config.model.input_size)


def _preview_transform(config: Config) -> TrainTransform:
    return _train_transform(config, config.model.input_size, Preprocessing())
