"""Writes a data folder that was checked anew, in the formats of other tools."""

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ssd.audit.report import Report
from ssd.data.dataset import Dataset
from ssd.data.formats import paths as folders
from ssd.data.labels.data_sets import write_data_sets
from ssd.errors import ArgumentError, printable
from ssd.system.files import check_writable


@dataclass(frozen=True)
class Rewritten:
    """What was written: the folder, its formats, and what it holds."""

    folder: Path
    formats: tuple[str, ...]
    images: int
    objects: int
    crowds: int  # regions that only COCO has a mark for
    copied: bool
    joined: tuple[str, ...] = ()  # splits that some of the formats cannot name

    def __str__(self) -> str:
        images = "copied into images/" if self.copied else "left where they are; --copy puts them beside the labels"
        crowds = f"; {self.crowds} crowd regions are in coco-data alone" if self.crowds else ""
        joined = ""
        if self.joined:
            joined = f"; only coco-data and yolo name the splits {', '.join(self.joined)}: elsewhere they are one set"
        where = shlex.quote(str(self.folder))
        names = ", ".join(self.formats)
        return printable(f"{names}: {self.objects} objects in {self.images} images ({images}){crowds}{joined}: {where}")


def check_output(out: Path, data: str | Path | None, *, force: bool) -> None:
    """Refuse a folder that holds files already, or lies in the data folder.

    Raises:
        ArgumentError: it does, or it holds a data set, which `force` does not replace.
        SSDError: it cannot be written.
    """
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ArgumentError("is not empty", place=out, remedy="Name a new folder, or add --force.")
    if data is not None:
        _refuse_data_folder(out, _folder_of(data))
    _refuse_data_set(out)
    check_writable(out / "any")


def _folder_of(data: str | Path) -> Path:
    """The data folder, which a YAML file in it may stand for."""
    return Path(data).parent if Path(data).is_file() else Path(data)


def _refuse_data_folder(out: Path, root: Path) -> None:
    if folders.is_inside(out, root):
        raise ArgumentError("lies in the data folder, which is not changed", place=out, remedy="Name another folder.")


def _refuse_data_set(out: Path) -> None:
    """What an earlier call wrote there would stay beside the new files, in another split perhaps."""
    for name in ("images", "labels", "Annotations", "annotations"):
        if (out / name).is_dir() and any((out / name).iterdir()):
            problem = f"holds a data set already ({name}/), whose files would stay beside the new ones"
            raise ArgumentError(problem, place=out, remedy="Remove the folder, or name a new one.")


def rewrite_report(report: Report, formats: Collection[str], out: str | Path, *, copy: bool = False) -> Rewritten:
    """Write the good images and objects of all splits that were checked into `out`.

    Splits stay; those that the program made become `train` and `val`. Images are copied where YOLO's layout needs it,
    or with `copy`; else the labels name them by their paths in the data folder.

    Raises:
        ArgumentError: `out` lies in the data folder, or holds a data set already; or two splits have one name.
        SSDError: no space is left, or the folder cannot be written.
    """
    folder, root = Path(out), _folder_of(report.folder)
    _refuse_data_folder(folder, root)
    _refuse_data_set(folder)
    parts = _parts(report)
    copied = write_data_sets(folder, formats, parts, root, copy=copy)
    crowds = sum(int(record.crowd.sum()) for dataset in parts.values() for record in dataset.records)
    named = [name for name in parts if not folders.is_split(name)] if len(parts) > 1 else []
    joined = tuple(named) if set(formats) - {"coco-data", "yolo"} else ()
    objects = sum(len(record.labels) for dataset in parts.values() for record in dataset.records)
    return Rewritten(folder, tuple(formats), sum(map(len, parts.values())), objects - crowds, crowds, copied, joined)


def _parts(report: Report) -> dict[str, Dataset]:
    """The data set of each split under the name that it gets; a single one without a usual name has none."""
    names = [_name_of(split.name) for split in report.opened.splits]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ArgumentError(f"two splits would be called {twice!r}", place="--write", remedy="Rename one of the lists.")
    found = {name: split.dataset for name, split in zip(names, report.opened.splits, strict=True)}
    if len(found) == 1 and not folders.is_split(next(iter(found))):
        return {"": next(iter(found.values()))}
    return found


def _name_of(split: str) -> str:
    """The name that a split gets: of a list of images its file's, without the suffix."""
    return (Path(split).stem if split.endswith(".txt") else split).removesuffix("-part")
