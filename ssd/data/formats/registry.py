"""Recognises the format and the splits of a folder, and chooses its reader."""

import difflib
import functools
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

from ssd.data.formats import coco, cvat, downloads, label_studio, labelme, tables, voc, yolo
from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem, RawSplit
from ssd.data.formats.class_lists import is_background
from ssd.data.formats.columns import columns_of
from ssd.data.formats.division import Division
from ssd.data.formats.lists import find_list, listed
from ssd.data.formats.other_tools import CONVERT, Tool, name_tool, name_tool_of_xml
from ssd.data.formats.read_options import ReadOptions
from ssd.data.formats.remembered import remembered_format
from ssd.errors import AnnotationError, DatasetError


class FolderFormat(Protocol):
    """What a format's file has beside its `read`."""

    def looks_like(self, folder: Path) -> bool:
        """Whether the folder is of this format."""

    def splits(self, folder: Path) -> tuple[str, ...]:
        """The names of the splits; none where the folder has none."""

    def used_files(self, folder: Path) -> set[str]:
        """The paths of the images and annotations that belong to some split."""


# The formats of annotation tools count where none of the usual ones fits.
_TOOLS = {"labelme": labelme.FORMAT, "cvat": cvat.FORMAT, "labelstudio": label_studio.FORMAT, "csv": tables.FORMAT}
_USUAL: dict[str, FolderFormat] = {"voc": voc, "coco": coco, "yolo": yolo}
FOLDER_FORMATS: dict[str, FolderFormat] = {**_USUAL, **_TOOLS}
DIVIDED = ("train", "val", "all")  # the splits of a folder without splits
PARTS = ("train-part", "val-part")  # and beside a split that has only itself
_LOOKED_FOR = (
    "VOC: Annotations/*.xml; COCO: annotations/*.json or */_annotations.coco.json; "
    "YOLO: data.yaml, or images/ and labels/; LabelMe, CVAT for images, Label Studio, tables (CSV)"
)
_LABEL = (
    "Draw boxes with a tool as CVAT or Label Studio, and export COCO, Pascal VOC or YOLO; "
    "to run a detector on them: ssd detect {root}"
)
_ANNOTATIONS = (
    *(
        ".xml",
        ".json",
        ".jsonl",
        ".ndjson",
        ".odgt",
        ".manifest",
        ".yaml",
        ".yml",
        ".txt",
        ".csv",
        ".tsv",
        ".xls",
        ".xlsx",
    ),
    *(".parquet", ".arrow", ".mat", ".npy", ".npz", ".pkl", ".h5", ".db", ".sqlite", ".record", ".tfrecord"),
)
_UNPACK = "Unpack it, and pass the folder that it makes."
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_SEARCHED = 20_000  # files whose names are looked at
_TEST = ("test", "testing")
_PAIRS = (
    *((train, val) for val in ("val", "valid", "validation") for train in ("train", "training")),
    ("trainval", "test"),
    *((train, test) for test in _TEST for train in ("train", "training")),
)
_HELD_OUT = ("val", "valid", "validation", *_TEST, "minival", "dev", "eval")
_INNER = {*folders.IMAGE_FOLDERS, *folders.ANNOTATION_FOLDERS, *folders.SPLITS, "ImageSets", "Main"}


def recognise(folder: str | Path) -> str:
    """Tell the format by what lies in the folder; a YAML file stands for its folder.

    Raises:
        DatasetError: none fits (it says what was looked for and what is there), or more than one.
    """
    root = _existing(Path(folder))
    return remembered_format(root, _recognise)


def _recognise(root: Path) -> str:
    fitting = [name for name, reader in _USUAL.items() if reader.looks_like(root)]
    if fitting == ["voc"] and (tool := name_tool_of_xml(root)) is not None:  # also beside images, but no VOC
        if not cvat.FORMAT.looks_like(root):
            raise _own_format(tool, root)
        fitting = []
    fitting = fitting or [name for name, reader in _TOOLS.items() if reader.looks_like(root)]
    if not fitting and (tool := name_tool(root)) is not None:
        raise _own_format(tool, root)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        remedy = f"Say which: data.format={fitting[0]}."
        raise DatasetError(f"looks like {' and '.join(fitting)} at once", place=root, remedy=remedy)
    there = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
    inside = [inner for path in folders.subfolders(root) for inner in (path, *folders.subfolders(path)[:100])]
    inside.sort(key=lambda path: len(path.parts))
    above = list(root.absolute().parents)[:2] if root.name.lower() in {name.lower() for name in _INNER} else []
    better = next((path for path in [*inside[:1000], *above] if _is_data_set(path)), None)
    remedy = _remedy(better, root)
    if better is None and (tool := name_tool(root, deep=True)) is not None:
        raise _own_format(tool, root)
    if better is None and (archive := _find_archive(root)) is not None:
        raise DatasetError(f"holds {archive}, which is an archive", place=root, remedy=_UNPACK)
    if better is None and (images := _count_images(root)) and not _has_annotations(root):
        raise DatasetError(f"holds {images:,} images and no annotations", place=root, remedy=_LABEL.format(root=root))
    raise DatasetError(f"is not a data set of a known format; there is: {there}", place=root, remedy=remedy)


def _find_archive(root: Path) -> str | None:
    files = islice(folders.walk(root), _SEARCHED)
    return next((folders.relative(path, root) for path in files if path.suffix.lower() in _ARCHIVES), None)


def _count_images(root: Path) -> int:
    return sum(map(folders.is_image, islice(folders.walk(root), _SEARCHED)))


def _has_annotations(root: Path) -> bool:
    """Whether some file may hold annotations: what is no image, and no page or list of any folder."""
    return any(path.suffix.lower() in _ANNOTATIONS for path in islice(folders.walk(root), _SEARCHED))


def _remedy(better: Path | None, root: Path) -> str:
    """What to pass instead: the first data set found; those beside it are named, since nothing joins them."""
    if better is None:
        return f"Looked for {_LOOKED_FOR}." + (f" {CONVERT}" if _has_annotations(root) else "")
    beside = folders.subfolders(better.parent)[:100] if better.is_relative_to(root) else []
    others = ", ".join(path.name for path in beside if path != better and _is_data_set(path))
    said = f" (beside it, each a data set of its own: {others})" if others else ""
    return f"Did you mean {better}?{said} Pass --data {shlex.quote(str(better))}"


def _own_format(tool: Tool, root: Path) -> DatasetError:
    return DatasetError(f"holds {tool}", place=root, remedy=tool.remedy)


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
    """The names of the splits that can be opened.

    A folder without splits, or with a single one whose name says nothing (`default`), is divided into `train` and
    `val`. A single training split can be opened as `train-part` and `val-part` besides.
    """
    root, kind = find_format(folder, format)
    if kind in downloads.NAMES:
        return downloads.SPLITS
    named = FOLDER_FORMATS[kind].splits(root)
    return DIVIDED if not named or _says_nothing(named) else named


def _has_parts(there: Sequence[str]) -> bool:
    return len(there) == 1 and not _like_one_of(_HELD_OUT, there[0])


def default_split(folder: str | Path | None, format: str, which: Literal["train", "val"]) -> str:
    """The usual name for training or validation images among the splits there; `val2017` counts as `val`.

    train + val come first, then trainval + test, then train + test. A single training split is divided.

    Raises:
        DatasetError: there is no split to take; the message lists those there.
    """
    there = splits(folder, format)
    if _has_parts(there):
        return PARTS[0 if which == "train" else 1]
    for train, val in _PAIRS:
        pair = _like(train, there), _like(val, there)
        if all(pair):
            return pair[0 if which == "train" else 1] or ""
    only = next((name for base in ("train", "trainval", "training") if (name := _like(base, there))), None)
    if which == "train" and only is not None:
        return only
    remedy = f"Name one with data.{which}={there[0]}; there is: {', '.join(there)}."
    raise DatasetError(f"no usual split for {which!r}", place=folder, remedy=remedy)


def read_split(root: Path, format: str, split: str, options: ReadOptions) -> RawSplit:
    """Read the raw annotations of one split, or of the images that a list file names.

    Raises:
        DatasetError: there is no such split; the message lists those there.
    """
    there = splits(root, format)
    read = functools.partial(_read, root, format, options)
    if split not in there and format in FOLDER_FORMATS and (file := find_list(root, split)) is not None:
        return _without_background(listed(file, root, [read(name) for name in _whole(root, format)]))
    if split not in there and not (split in PARTS and _has_parts(there)):
        close = difflib.get_close_matches(split, there, n=1, cutoff=0.4)
        remedy = f"There is: {', '.join(there)}." + (f" Did you mean {close[0]!r}?" if close else "")
        raise DatasetError(f"no split {split!r}", place=root, remedy=remedy)
    if format in downloads.NAMES:
        return downloads.read(format, root, split, offset=options.voc_offset, allow_outside=options.allow_outside)
    named = FOLDER_FORMATS[format].splits(root)
    source, division = split if split in named else None, None
    if split not in named:  # the program divides
        source = named[0] if named else None
        part: Literal["train", "val", "all"] = "train" if "train" in split else "val" if "val" in split else "all"
        division = Division(part, options.val_fraction, options.group)
    return _without_background(read(source, division))


def _read(
    root: Path, format: str, options: ReadOptions, source: str | None, division: Division | None = None
) -> RawSplit:
    classes, outside = options.classes, options.allow_outside
    if format == "voc":
        offset = options.voc_offset
        return voc.read(root, source, division=division, offset=offset, classes=classes, allow_outside=outside)
    if format == "coco":
        return coco.read(root, source, division=division, allow_outside=outside)
    read = _TOOLS[format].read if format in _TOOLS else yolo.read
    return read(root, source, division=division, classes=classes, allow_outside=outside)


def _whole(root: Path, format: str) -> Sequence[str | None]:
    """The splits that together are the whole folder; None is all of a folder without splits, or of VOC's lists."""
    named = FOLDER_FORMATS[format].splits(root)
    return named if named and not (format == "voc" and (root / "ImageSets").is_dir()) else (None,)


def _without_background(raw: RawSplit) -> RawSplit:
    """Leave out a class named background that has no object: the network has a column for it already."""
    used = columns_of(raw.images).used_names()
    kept = [
        (name, number)
        for name, number in zip(raw.class_names, raw.category_ids, strict=True)
        if name in used or not is_background(name)
    ]
    if len(kept) == len(raw.class_names):
        return raw
    note = Problem("classes", "background", "a class for the background is left out: the network has its own", "note")
    names, ids = tuple(name for name, _ in kept), tuple(number for _, number in kept)
    return replace(raw, class_names=names, category_ids=ids, problems=(*raw.problems, note))


def _says_nothing(named: Sequence[str]) -> bool:
    """Whether it is a single split whose name is none of the usual ones, as CVAT's `default`."""
    return len(named) == 1 and not _like_one_of(folders.SPLITS, named[0])


def is_test(split: str) -> bool:
    """Whether a split is named as one to test on."""
    return _like_one_of(_TEST, split)


def _like_one_of(bases: Sequence[str], name: str) -> bool:
    return any(_like(base, [name]) for base in bases)


def _like(base: str, there: Sequence[str]) -> str | None:
    """The split of that name in any case, or of that name and a year; the latest of several."""
    return next((name for name in sorted(there, reverse=True) if re.fullmatch(rf"{base}[-_]?\d*", name.lower())), None)


def _existing(folder: Path) -> Path:
    if folder.is_dir() or (folder.is_file() and folder.suffix.lower() in (".yaml", ".yml")):
        return folder
    kind = "is a file, not a folder" if folder.exists() else "no such data folder"
    remedy = f"Pass its folder: --data {folder.parent}" if folder.exists() else "Check data.folder or --data."
    if folder.is_file() and folder.suffix.lower() in _ARCHIVES:
        kind, remedy = "is an archive, not a folder", _UNPACK
    raise DatasetError(kind, place=folder, remedy=remedy)


def _is_data_set(folder: Path) -> bool:
    try:
        return any(reader.looks_like(folder) for reader in FOLDER_FORMATS.values())
    except (AnnotationError, OSError):  # somebody else's; the folder was not asked for
        return False
