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

    def __str__(self) -> str:
        images = "copied into images/" if self.copied else "left where they are; --copy puts them beside the labels"
        crowds = f"; {self.crowds} crowd regions are in coco-data alone" if self.crowds else ""
        where = shlex.quote(str(self.folder))
        names = ", ".join(self.formats)
        return printable(f"{names}: {self.objects} objects in {self.images} images ({images}){crowds}: {where}")


def check_output(out: Path, data: str | Path | None, *, force: bool) -> None:
    """Refuse a folder that holds files already, or lies in the data folder.

    Raises:
        ArgumentError: it does.
        SSDError: it cannot be written.
    """
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ArgumentError("is not empty", place=out, remedy="Name a new folder, or add --force.")
    if data is not None:
        _refuse_data_folder(out, _folder_of(data))
    check_writable(out / "any")


def _folder_of(data: str | Path) -> Path:
    """The data folder, which a YAML file in it may stand for."""
    return Path(data).parent if Path(data).is_file() else Path(data)


def _refuse_data_folder(out: Path, root: Path) -> None:
    if folders.is_inside(out, root):
        raise ArgumentError("lies in the data folder, which is not changed", place=out, remedy="Name another folder.")


def rewrite_report(report: Report, formats: Collection[str], out: str | Path, *, copy: bool = False) -> Rewritten:
    """Write the good images and objects of all splits that were checked into `out`.

    Splits stay; those that the program made become `train` and `val`. Images are copied where YOLO's layout needs it,
    or with `copy`; else the labels name them by their paths in the data folder.

    Raises:
        ArgumentError: `out` lies in the data folder.
        SSDError: no space is left, or the folder cannot be written.
    """
    folder, root = Path(out), _folder_of(report.folder)
    _refuse_data_folder(folder, root)
    parts = _parts(report)
    copied = write_data_sets(folder, formats, parts, root, copy=copy)
    crowds = sum(int(record.crowd.sum()) for dataset in parts.values() for record in dataset.records)
    objects = sum(len(record.labels) for dataset in parts.values() for record in dataset.records)
    return Rewritten(folder, tuple(formats), sum(map(len, parts.values())), objects - crowds, crowds, copied)


def _parts(report: Report) -> dict[str, Dataset]:
    """The data set of each split under the name that it gets; a single one without a usual name has none."""
    found = {Path(split.name).stem.removesuffix("-part"): split.dataset for split in report.opened.splits}
    if len(found) == 1 and not folders.is_split(next(iter(found))):
        return {"": next(iter(found.values()))}
    return found
