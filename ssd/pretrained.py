"""A detector's weights, whoever wrote them: ours, or one of the known ports'."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ssd.checkpoint import is_ours, load_weights
from ssd.errors import CheckpointError
from ssd.settings import Settings
from ssd.weights import fetch_default, read_foreign, read_tensors

DEFAULT = "coco"


def read_weights(source: str | Path, class_names: Sequence[str] | None = None) -> tuple[dict[str, Tensor], Settings]:
    """The state dict of `ssd.variants.from_settings(settings)`, and those settings.

    `source` is a file, a run's folder (its best weights), or "coco", the default: SSD300 with VGG16 trained on COCO,
    published by torchvision and fetched once. `class_names` names the classes of a checkpoint that does not say.

    Raises:
        CheckpointError: missing, damaged, of an unknown kind, or with another number of classes.
        DownloadError: the default weights cannot be fetched.
    """
    path = _find(source)
    if not is_ours(path):
        foreign = read_foreign(read_tensors(path), place=path, class_names=class_names)
        return foreign.state_dict, foreign.settings
    state, settings, _ = load_weights(path)
    if class_names is None:
        return state, settings
    if len(class_names) != settings.num_classes:
        raise CheckpointError(
            f"has {settings.num_classes} classes, {len(class_names)} names were given",
            place=path,
            remedy="Leave class_names out: the file knows its own.",
        )
    return state, dataclasses.replace(settings, class_names=tuple(class_names))


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.is_dir():
        path = path / "best.safetensors"
    if source == DEFAULT and not path.exists():
        return fetch_default()
    if not path.is_file():
        raise CheckpointError(
            "no such weights file", place=source, remedy=f"Name a file, a run's folder, or {DEFAULT!r}."
        )
    return path
