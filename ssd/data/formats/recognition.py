"""Recognises the format of a folder, and says what is there where it has none."""

import shlex
from itertools import islice
from pathlib import Path
from typing import Protocol

from ssd.data.formats import coco, cvat, downloads, label_studio, labelme, tables, voc, yolo
from ssd.data.formats import paths as folders
from ssd.data.formats.other_tools import TO_COCO, Tool, name_tool, name_tool_of_xml
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
TOOLS = {"labelme": labelme.FORMAT, "cvat": cvat.FORMAT, "labelstudio": label_studio.FORMAT, "csv": tables.FORMAT}
_USUAL: dict[str, FolderFormat] = {"voc": voc, "coco": coco, "yolo": yolo}
FOLDER_FORMATS: dict[str, FolderFormat] = {**_USUAL, **TOOLS}
_LOOKED_FOR = (
    "VOC: Annotations/*.xml; COCO: annotations/*.json or */_annotations.coco.json; "
    "YOLO: data.yaml, or images/ and labels/; LabelMe, CVAT for images, Label Studio, tables (CSV)"
)
_LABEL = (
    "Draw boxes with a tool as CVAT or Label Studio, and export COCO, Pascal VOC or YOLO; "
    "to run a detector on them: ssd detect {root}"
)
_ANNOTATIONS = (
    *(".xml", ".json", ".jsonl", ".ndjson", ".odgt", ".manifest", ".yaml", ".yml", ".txt", ".csv", ".tsv", ".xls"),
    *(".xlsx", ".parquet", ".arrow", ".mat", ".npy", ".npz", ".pkl", ".h5", ".db", ".sqlite", ".record", ".tfrecord"),
)
_UNPACK = "Unpack it, and pass the folder that it makes."
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_SEARCHED = 20_000  # files whose names are looked at
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
    fitting = fitting or [name for name, reader in TOOLS.items() if reader.looks_like(root)]
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
        raise DatasetError(
            f"holds {images:,} images and no annotations", place=root, remedy=_LABEL.format(root=shlex.quote(str(root)))
        )
    raise DatasetError(f"is not a data set of a known format; there is: {there}", place=root, remedy=remedy)


def _find_archive(root: Path) -> str | None:
    files = islice((path for path in folders.walk(root) if not folders.is_image(path)), _SEARCHED)
    return next((folders.relative(path, root) for path in files if path.suffix.lower() in _ARCHIVES), None)


def _count_images(root: Path) -> int:
    return sum(map(folders.is_image, islice(folders.walk(root), _SEARCHED)))


def _has_annotations(root: Path) -> bool:
    """Whether some file may hold annotations: what is no image, and no page or list of any folder."""
    others = (path for path in folders.walk(root) if not folders.is_image(path))
    return any(path.suffix.lower() in _ANNOTATIONS for path in islice(others, _SEARCHED))


def _remedy(better: Path | None, root: Path) -> str:
    """What to pass instead: the first data set found; those beside it are named, since nothing joins them."""
    if better is None:
        return f"Looked for {_LOOKED_FOR}." + (f" {TO_COCO}" if _has_annotations(root) else "")
    beside = folders.subfolders(better.parent)[:100] if better.is_relative_to(root) else []
    others = ", ".join(path.name for path in beside if path != better and _is_data_set(path))
    said = f" (beside it, each a data set of its own: {others})" if others else ""
    return f"Did you mean {better}?{said} Pass {shlex.quote(str(better))}"


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


def _existing(folder: Path) -> Path:
    if folder.is_dir() or (folder.is_file() and folder.suffix.lower() in (".yaml", ".yml")):
        return folder
    kind = "is a file, not a folder" if folder.exists() else "no such data folder"
    remedy = (
        f"Pass its folder: --data {shlex.quote(str(folder.parent))}"
        if folder.exists()
        else "Check data.folder or --data."
    )
    if folder.is_file() and folder.suffix.lower() in _ARCHIVES:
        kind, remedy = "is an archive, not a folder", _UNPACK
    raise DatasetError(kind, place=folder, remedy=remedy)


def _is_data_set(folder: Path) -> bool:
    try:
        return any(reader.looks_like(folder) for reader in FOLDER_FORMATS.values())
    except (AnnotationError, OSError):  # somebody else's; the folder was not asked for
        return False
