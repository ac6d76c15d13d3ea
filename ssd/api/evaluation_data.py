"""Which data weights are evaluated on unless other data is named, and the file their figures go to."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ssd.api.overrides import Overrides, as_list
from ssd.data.dataset import Dataset
from ssd.data.formats.grouping import AUTO
from ssd.data.formats.registry import default_split
from ssd.errors import ArgumentError, DatasetError, EvaluationError
from ssd.experiment import config_file as configs
from ssd.experiment.config import Config, DataConfig
from ssd.experiment.data import open_split
from ssd.experiment.training_config import Override
from ssd.inference.detector import Detector
from ssd.inference.load import load
from ssd.training.run_folder import newest_run
from ssd.weights.hub import SCHEME, is_hub_address
from ssd.weights.resolve import DEFAULT, PUBLISHED, config_beside, folder_of

_OF_RECORDS = ("classes", "voc_offset", "group", "val_fraction")  # keys of data that change what is evaluated on


def find_weights(weights: str | Path | None) -> str:
    """The weights that were named; without a name the newest run's best, else `coco`."""
    if weights is not None:
        return str(weights)
    run = newest_run()
    return DEFAULT if run is None else str(run.weights)


def name_of(weights: str | Path | Detector | None) -> str:
    """What results call the weights; a detector in memory has no name but its `repr`."""
    return repr(weights) if isinstance(weights, Detector) else find_weights(weights)


def open_evaluation(
    name: str,
    weights: str | Path | Detector | None,
    data: str | Path | Dataset | None,
    split: str | None,
    format: str | None,
    overrides: Overrides,
    **runtime: Any,
) -> tuple[Detector, Dataset, Config | None]:
    """The detector, the data set, and the config that named it; None for a data set that the caller opened.

    `name` is `name_of(weights)`, `runtime` is device, precision and backend as for `ssd.load`.

    Raises:
        SSDError: as `find_config`, `open_split` and `ssd.load`.
    """
    config = None
    if isinstance(data, Dataset):
        given = {"split": split, "format": format, "overrides": overrides or None}
        for place, value in given.items():
            if value is not None:
                remedy = "Leave it out, or name the folder in place of the data set."
                raise ArgumentError("has no effect on a data set that is open", place=place, remedy=remedy)
    else:
        config = find_config(name, data, split, format, as_list(overrides))
        data = open_split(config, "val")
    detector = weights if isinstance(weights, Detector) else load(name, **runtime)
    return detector, dataclasses.replace(data, depth=detector.settings.preprocessing.depth), config


def find_config(
    weights: str,
    folder: str | Path | None = None,
    split: str | None = None,
    format: str | None = None,
    overrides: Sequence[Override] = (),
) -> Config:
    """The config whose validation set is evaluated on: the run's own, changed to the data that is named.

    Raises:
        ArgumentError: an override of what the weights hold.
        ConfigError: a wrong key, value or format.
        EvaluationError: nothing says which data to take.
    """
    beside = config_beside(weights)
    config = configs.load(beside, overrides)
    keys = (override.partition("=")[0] if isinstance(override, str) else override[0] for override in overrides)
    overridden = {key.strip() for key in keys}
    _refuse_settings_of_weights(overridden)
    changes: dict[str, Any] = {}
    if folder is not None or format is not None:
        # Other data: what the run said about its own no longer holds.
        unsaid = {"format": "auto", "val": None, "classes": None, "group": AUTO}
        changes = {key: value for key, value in unsaid.items() if f"data.{key}" not in overridden}
        changes |= {"folder": None if folder is None else str(folder), "folders": None}
        if format is not None:
            changes["format"] = format
    elif beside is None and not any(key.startswith("data.") for key in overridden):
        if weights != DEFAULT:
            raise _no_data(weights)
        changes = {"format": "coco2017"}
    if split is not None:
        changes["val"] = split
    raw = configs.to_dict(config)
    return configs.from_dict({**raw, "data": {**raw["data"], **changes}}, "the command line")


def _refuse_settings_of_weights(overridden: Iterable[str]) -> None:
    """Refuse keys that an evaluation does not read from the config, but from the weights."""
    options = {"data.tiles": "--tiles", "model.box_voting": "--box-voting"}
    for key in sorted(overridden):
        if key in options:
            problem, remedy = f"{key} is in the weights", f"Evaluate by another one: ssd eval {options[key]} VALUE."
        elif not key.startswith("data."):
            problem, remedy = f"{key} changes no evaluation", "Change keys of data alone."
        else:
            continue
        raise ArgumentError(problem, place="overrides", remedy=remedy)


def _no_data(weights: str) -> EvaluationError:
    if weights.startswith("<"):  # a detector in memory
        remedy = "Name a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...)."
        return EvaluationError("no data is named", place="data", remedy=remedy)
    if not Path(weights).exists() and "://" not in weights and weights not in PUBLISHED:
        return EvaluationError("no such weights file or run", place=weights, remedy="Check the path.")
    problem = "there is no config.yaml beside these weights, so their validation set is unknown"
    return EvaluationError(problem, place=weights, remedy="Name one: --data FOLDER --split NAME.")


def figures_path(
    metrics: Sequence[str], weights: str, config: Config | None, dataset: Dataset, **rules: object
) -> Path:
    """Where figures go: beside the weights; what is not the run's own is in the name, so no file replaces another's.

    `rules` are the thresholds and tiles that were asked for; None is the weights' own.
    """
    asked = "-".join(f"{name}-{value}" for name, value in rules.items() if value is not None)
    texts = _other_data(weights, config, dataset), _other(weights), asked
    others = (re.sub(r"[^\w.]+", "-", text).strip("-") for text in texts)
    name = ".".join(["-".join(["eval", *metrics]), *filter(None, others), "json"])
    path = (folder_of(weights) or Path("runs")) / name  # published weights lie in a cache
    if not texts[0] or not _is_of_other_data(path, dataset):
        return path
    digest = hashlib.blake2b(os.fsencode(Path(dataset.name).resolve()), digest_size=4).hexdigest()
    return path.with_name(f"{path.stem}.{digest}.json")


def _is_of_other_data(figures: Path, dataset: Dataset) -> bool:
    """Whether the file has the figures of another folder, which has the same last name."""
    try:
        data = json.loads(figures.read_text(encoding="utf-8"))["data"]
        return Path(data).resolve() != Path(dataset.name).resolve()
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _other(weights: str) -> str:
    """What tells these weights from a run's best; nothing for those, and for torchvision's."""
    if is_hub_address(weights):
        return weights.removeprefix(SCHEME)
    path = Path(weights)
    if path.is_dir() or path.name == "best.safetensors" or weights == DEFAULT:
        return ""
    return path.stem if path.suffix == ".safetensors" else path.name


def _other_data(weights: str, config: Config | None, dataset: Dataset) -> str:
    """The data and split, where they are not those of the run; of other data's splits every one is named.

    `config` is None for a data set that the caller opened.
    """
    if config is None:
        return f"{Path(dataset.name).resolve().name}-{dataset.split}"
    beside, used = config_beside(weights), config.data
    if beside is not None:
        own = configs.load(beside).data
    else:
        own = configs.load(None, ["data.format=coco2017"] if weights == DEFAULT else []).data
    known = beside is not None or weights == DEFAULT
    same_format = own.format == used.format or (used.folder is not None and "auto" in (own.format, used.format))
    same_folder = own.folders == used.folders and Path(own.folder or "").resolve() == Path(used.folder or "").resolve()
    if not (known and same_format and same_folder):
        return f"{Path(dataset.name).resolve().name}-{dataset.split}"
    changed = [f"{key}-{getattr(used, key)}" for key in _OF_RECORDS if getattr(used, key) != getattr(own, key)]
    return "-".join(filter(None, [_other_split(own, used, dataset), *changed]))


def _other_split(own: DataConfig, used: DataConfig, dataset: Dataset) -> str:
    if used.val == own.val:
        return ""
    try:
        usual = own.val or ("val" if own.format == "shapes" else default_split(own.folder, own.format, "val"))
    except DatasetError:
        usual = ""
    return "" if dataset.split == usual else dataset.split
