"""Finds and reads a detector's weights: files of this package or of the known ports, local or remote."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ssd.errors import CheckpointError, SSDError
from ssd.settings import Settings
from ssd.system.yaml import parse_yaml_text
from ssd.weights.fetch import fetch_detector
from ssd.weights.files.tensors import read_checkpoint
from ssd.weights.hub import fetch_from_hub, is_hub_address
from ssd.weights.native import is_ours, load_weights
from ssd.weights.ports.box_tables import BoxTable, refuse_boxes
from ssd.weights.ports.class_names import choose
from ssd.weights.ports.layout import ConvertedCheckpoint
from ssd.weights.ports.registry import convert_checkpoint, is_known

log = logging.getLogger(__name__)

DEFAULT = "coco"
PUBLISHED = (DEFAULT, "ssdlite")
OURS = "ssd-vgg"
CONFIG_KEYS = frozenset(  # of `experiment.config.Config`
    ("name", "seed", "mode", "output", "model", "data", "preprocessing", "augment", "loss", "optim", "train")
)
_OF_RUN = ("best.safetensors", "last.safetensors")  # the first is preferred


def read_weights(source: str | Path, class_names: Sequence[str] | None = None) -> tuple[dict[str, Tensor], Settings]:
    """The state dict of `ssd.model.factory.from_settings(settings)`, and those settings.

    `source` is a file, a run's folder (its best weights, else its last), `hf://owner/name` (a Hugging Face
    repository), or "coco", the default: SSD300 with VGG16 trained on COCO, published by torchvision and fetched once;
    "ssdlite" is its SSDLite320 with MobileNet v3.
    `class_names` names the classes of a checkpoint that does not say.

    Raises:
        CheckpointError: missing, damaged, not finite, of an unknown kind, or with another number of classes.
        DownloadError: weights that are not on this machine cannot be fetched.
    """
    found = recognise(source, class_names)
    return found.state_dict, found.settings


def recognise(
    source: str | Path, class_names: Sequence[str] | None = None, box_table: BoxTable | None = None
) -> ConvertedCheckpoint:
    """Like `read_weights`, and returns the name of the file's format; this package's own is `ssd-vgg`.

    `box_table` names the default boxes of a port's checkpoint that does not contain them.
    """
    path = find_weights(source)
    if is_ours(path):
        state, settings, _ = load_weights(path)
        refuse_boxes(box_table, path)
        if class_names is not None:
            settings = dataclasses.replace(settings, class_names=choose(class_names, settings.num_classes, {}, path))
        found = ConvertedCheckpoint(state, settings, OURS)
    else:
        tensors, notes = read_checkpoint(path)
        found = convert_checkpoint(tensors, path, class_names, box_table, notes)
    _check_finite(found.state_dict, path)
    return found


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that some runtimes compute plausible detections with: OpenVINO's ReLU turns NaN into 0."""
    for name, tensor in state.items():
        # The least and the largest number are NaN where one is; unlike `isfinite` this takes no memory.
        if tensor.is_floating_point() and tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            remedy = "Use weights from before the training broke down."
            raise CheckpointError(f"{name} has values that are not finite", place=path, remedy=remedy)


def is_detector(source: str | Path) -> bool:
    """Whether the file is a detector's, and not a classifier's or a backbone's, by its keys.

    Raises:
        CheckpointError: missing or damaged.
        DownloadError: it cannot be fetched.
    """
    path = find_weights(source)
    return is_ours(path) or is_known(read_checkpoint(path)[0])


def find_weights(source: str | Path) -> Path:
    """The file of `source`, downloaded if necessary.

    Raises:
        CheckpointError: there is no such file.
        DownloadError: it cannot be fetched.
    """
    if is_hub_address(source):
        return fetch_from_hub(str(source))
    if is_published(source):
        return fetch_detector(str(source))
    path = Path(source)
    if path.is_dir():
        path = _of_run(path)
    if not path.is_file():
        if "://" in str(source):
            raise CheckpointError("is an address, not a file", place=source, remedy="Download it, and name the file.")
        problem = "no weights in this folder" if path.is_dir() else "no such weights file"
        raise CheckpointError(
            problem, place=source, remedy=f"Name a file, a run's folder, hf://owner/name, {' or '.join(PUBLISHED)}."
        )
    return path


def is_published(source: str | Path) -> bool:
    """Whether it names published weights: no file and no run of that name is here; a folder without weights may be."""
    path = Path(source)
    return source in PUBLISHED and not any(file.is_file() for file in (path, *(path / name for name in _OF_RUN)))


def folder_of(weights: str | Path) -> Path | None:
    """The run, or the folder of the file; None for published weights, and for those that are not on this machine."""
    path = Path(weights)
    if is_published(weights) or not path.exists():
        return None
    return path if path.is_dir() else path.parent


def config_beside(weights: str | Path) -> Path | None:
    """The config of the run that these weights lie in; a file of that name beside other weights may be anyone's."""
    folder = folder_of(weights)
    config = None if folder is None else folder / "config.yaml"
    if config is None or not config.is_file():
        return None
    is_run = Path(weights).is_dir() or Path(weights).name in _OF_RUN
    return config if is_run or _is_config(config) else None


def _is_config(path: Path) -> bool:
    try:
        raw = parse_yaml_text(path.read_text(encoding="utf-8"), path, SSDError)
    except (OSError, UnicodeDecodeError, SSDError):
        return False
    return isinstance(raw, dict) and set(raw) <= CONFIG_KEYS


def _of_run(folder: Path) -> Path:
    """The best weights of a run, else its last ones, with a log message; the folder itself if there are none."""
    best, last = (folder / name for name in _OF_RUN)
    if best.is_file() or not last.is_file():
        return best if best.is_file() else folder
    log.warning("%s: no evaluation had an AP, so there are no best weights; taking %s", folder, last.name)
    return last
