"""Which format a folder has, which splits, and the reader for it."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ssd.data.formats import coco, downloads, voc, yolo
from ssd.data.formats.annotations import RawSplit
from ssd.data.formats.voc import Offset
from ssd.errors import AnnotationError, DatasetError

FOLDER_FORMATS = {"voc": voc, "coco": coco, "yolo": yolo}
_LOOKED_FOR = (
    "VOC: Annotations/*.xml; COCO: annotations/*.json or */_annotations.coco.json; "
    "YOLO: data.yaml, or images/ and labels/"
)
_PAIRS = (("train", "val"), ("train", "valid"), ("train", "validation"), ("trainval", "test"), ("train", "test"))


def recognise(folder: str | Path) -> str:
    """Tell `voc`, `coco` or `yolo` by what lies in the folder.

    Raises:
        DatasetError: none fits (it says what was looked for and what is there), or more than one.
    """
    root = _existing(Path(folder))
    fitting = [name for name, reader in FOLDER_FORMATS.items() if reader.looks_like(root)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        remedy = f"Say which: data.format={fitting[0]}."
        raise DatasetError(f"looks like {' and '.join(fitting)} at once", place=root, remedy=remedy)
    inner = [path for path in sorted(root.iterdir()) if path.is_dir()]
    better = _first_data_set([*inner, *list(root.absolute().parents)[:2]])
    there = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
    remedy = f"Did you mean {better}?" if better else f"Looked for {_LOOKED_FOR}."
    raise DatasetError(f"is not a data set of a known format; there is: {there}", place=root, remedy=remedy)


def find_format(folder: str | Path | None, format: str) -> tuple[Path, str]:
    """The folder and format to read, `auto` resolved; named sets have a folder of their own.

    Raises:
        DatasetError: the folder is missing or not given, or the format is unknown.
    """
    if format in downloads.NAMES:
        return (downloads.home(format) if folder is None else Path(folder)), format
    known = ["auto", *FOLDER_FORMATS, *downloads.NAMES]
    if format not in known:
        raise DatasetError(f"unknown format {format!r}", place="data.format", remedy=f"Known: {', '.join(known)}.")
    if folder is None:
        raise DatasetError(
            "no data folder given", place="data.folder", remedy="Set data.folder, or pass --data FOLDER."
        )
    if format == "auto":
        return Path(folder), recognise(folder)
    return _existing(Path(folder)), format


def splits(folder: str | Path | None, format: str = "auto") -> tuple[str, ...]:
    """The names of the splits that can be opened."""
    root, kind = find_format(folder, format)
    return downloads.SPLITS if kind in downloads.NAMES else FOLDER_FORMATS[kind].splits(root)


def default_split(folder: str | Path | None, format: str, which: Literal["train", "val"]) -> str:
    """The usual name for training or validation images among the splits there; `val2017` counts as `val`.

    train + val come first, then trainval + test, then train + test. A folder without any pair still trains.

    Raises:
        DatasetError: there is no split to take; the message lists those there.
    """
    there = splits(folder, format)
    for train, val in _PAIRS:
        pair = _like(train, there), _like(val, there)
        if all(pair):
            return pair[0 if which == "train" else 1] or ""
    only = next((name for base in ("train", "trainval") if (name := _like(base, there))), None)
    if which == "train" and only is not None:
        return only
    remedy = f"Name one with data.{which}; there is: {', '.join(there)}."
    raise DatasetError(f"no usual split for {which!r}", place=folder, remedy=remedy)


def read_split(
    root: Path, format: str, split: str, *, classes: Sequence[str] | None, offset: Offset, allow_outside: bool
) -> RawSplit:
    """Read the raw annotations of one split.

    Raises:
        DatasetError: there is no such split; the message lists those there.
    """
    there = splits(root, format)
    if split not in there:
        close = difflib.get_close_matches(split, there, n=1, cutoff=0.4)
        remedy = f"There is: {', '.join(there)}." + (f" Did you mean {close[0]!r}?" if close else "")
        raise DatasetError(f"no split {split!r}", place=root, remedy=remedy)
    if format == "voc":
        return voc.read(root, split, offset=offset, classes=classes, allow_outside=allow_outside)
    if format == "coco":
        return coco.read(root, split, allow_outside=allow_outside)
    if format == "yolo":
        return yolo.read(root, split, allow_outside=allow_outside)
    return downloads.read(format, root, split, offset=offset, allow_outside=allow_outside)


def _like(base: str, there: Sequence[str]) -> str | None:
    """The split of that name, or of that name and a year; the latest of several."""
    return next((name for name in sorted(there, reverse=True) if re.fullmatch(rf"{base}[-_]?\d*", name)), None)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "no such data folder"
        raise DatasetError(kind, place=folder, remedy="Check data.folder or --data.")
    return folder


def _first_data_set(folders: Sequence[Path]) -> Path | None:
    return next((folder for folder in folders if _is_data_set(folder)), None)


def _is_data_set(folder: Path) -> bool:
    try:
        return any(reader.looks_like(folder) for reader in FOLDER_FORMATS.values())
    except AnnotationError:  # a YAML file of somebody else's; the folder was not asked for
        return False
