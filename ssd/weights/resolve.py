"""Finds and reads a detector's weights: files of this package or of the known ports, local or remote."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ssd.errors import CheckpointError
from ssd.settings import Settings
from ssd.weights.fetch import fetch_detector
from ssd.weights.files.tensors import read_checkpoint
from ssd.weights.hub import fetch_from_hub, is_hub_address
from ssd.weights.native import is_ours, load_weights
from ssd.weights.ports.box_tables import BoxTable
from ssd.weights.ports.layout import ConvertedCheckpoint
from ssd.weights.ports.registry import convert_checkpoint, is_known

log = logging.getLogger(__name__)

DEFAULT = "coco"
PUBLISHED = (DEFAULT, "ssdlite")
OURS = "ssd-vgg"
_OF_RUN = ("best.safetensors", "last.safetensors")  # the first is preferred


def read_weights(source: str | Path, class_names: Sequence[str] | None = None) -> tuple[dict[str, Tensor], Settings]:
    """The state dict of `ssd.model.factory.from_settings(settings)`, and those settings.

    `source` is a file, a run's folder (its best weights, else its last), `hf://owner/name` (a Hugging Face
    repository), or "coco", the default: SSD300 with VGG16 trained on COCO, published by torchvision and fetched once;
    "ssdlite" is its SSDLite320 with MobileNet v3.
    `class_names` names the classes of a checkpoint that does not say.

    Raises:
        CheckpointError: missing, damaged, of an unknown kind, or with another number of classes.
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
    if not is_ours(path):
        tensors, notes = read_checkpoint(path)
        return convert_checkpoint(tensors, path, class_names, box_table, notes)
    state, settings, _ = load_weights(path)
    if class_names is not None:
        if len(class_names) != settings.num_classes:
            raise CheckpointError(
                f"has {settings.num_classes} classes, {len(class_names)} names were given",
                place=path,
                remedy="Leave class_names out: the file knows its own.",
            )
        settings = dataclasses.replace(settings, class_names=tuple(class_names))
    return ConvertedCheckpoint(state, settings, OURS)


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
    """The config of the run that these weights lie in."""
    folder = folder_of(weights)
    config = None if folder is None else folder / "config.yaml"
    return config if config is not None and config.is_file() else None


def _of_run(folder: Path) -> Path:
    """The best weights of a run, else its last ones, with a log message; the folder itself if there are none."""
    best, last = (folder / name for name in _OF_RUN)
    if best.is_file() or not last.is_file():
        return best if best.is_file() else folder
    log.warning("%s: no evaluation had an AP, so there are no best weights; taking %s", folder, last.name)
    return last
