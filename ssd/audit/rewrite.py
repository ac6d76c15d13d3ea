"""Writes a data folder that was checked anew, in the formats of other tools."""

import os
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ssd.audit.report import Report
from ssd.data.dataset import Dataset
from ssd.data.formats import paths as folders
from ssd.data.labels.label_formats import LABEL_FORMATS, write_labels
from ssd.data.labels.labelled import Label, Labelled, Stems, make_labels
from ssd.errors import ArgumentError, printable
from ssd.images.decode import read_image_bytes
from ssd.structures import Record
from ssd.system.files import check_writable, write_atomic


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


def parse_label_formats(text: str) -> tuple[str, ...]:
    """`voc,coco-data` as names of formats; `coco` is `coco-data`.

    Raises:
        ArgumentError: an unknown format.
    """
    words = ["coco-data" if word.strip() == "coco" else word.strip() for word in text.split(",")]
    for word in words:
        if word not in LABEL_FORMATS:
            raise ArgumentError(f"{word!r} is unknown", place="--write", remedy=f"Use {', '.join(LABEL_FORMATS)}.")
    return tuple(dict.fromkeys(words))


def check_output(out: Path, data: str | Path | None, *, force: bool) -> None:
    """Refuse a folder that holds files already, or lies in the data folder.

    Raises:
        ArgumentError: it does.
        SSDError: it cannot be written.
    """
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ArgumentError("is not empty", place=out, remedy="Name a new folder, or add --force.")
    if data is not None and folders.is_inside(out, Path(data)):
        raise ArgumentError("lies in the data folder, which is not changed", place=out, remedy="Name another folder.")
    check_writable(out / "any")


def rewrite_report(report: Report, formats: Collection[str], out: str | Path, *, copy: bool = False) -> Rewritten:
    """Write the good images and objects of all splits that were checked into `out`.

    Splits stay; those that the program made become `train` and `val`. Images are copied where YOLO's layout needs it,
    or with `copy`; else the labels name them by their paths in the data folder.

    Raises:
        SSDError: no space is left, or the folder cannot be written.
    """
    folder = Path(out)
    root = Path(report.folder)
    root = root.parent if root.is_file() else root
    copy = copy or "yolo" in formats
    parts = _parts(report)
    folder.mkdir(parents=True, exist_ok=True)
    if copy:
        for split, dataset in parts.items():
            for record, image in zip(dataset.records, _images(split, dataset, root, folder, copy), strict=True):
                (folder / image.place).parent.mkdir(parents=True, exist_ok=True)
                write_atomic(folder / image.place, read_image_bytes(record.path))

    def images() -> Iterator[Labelled]:
        for split, dataset in parts.items():
            yield from _images(split, dataset, root, folder, copy)

    names = list(dict.fromkeys(name for dataset in parts.values() for name in dataset.class_names))
    write_labels(folder, formats, images, names, list(parts))
    labels = [label for image in images() for label in image.labels]
    crowds = sum(label.crowd for label in labels)
    return Rewritten(folder, tuple(formats), sum(map(len, parts.values())), len(labels) - crowds, crowds, copy)


def _parts(report: Report) -> dict[str, Dataset]:
    """The data set of each split under the name that it gets; a single one without a usual name has none."""
    found = {Path(split.name).stem.removesuffix("-part"): split.dataset for split in report.opened.splits}
    if len(found) == 1 and not folders.is_split(next(iter(found))):
        return {"": next(iter(found.values()))}
    return found


def _images(split: str, dataset: Dataset, root: Path, folder: Path, copy: bool) -> Iterator[Labelled]:
    stems = Stems()
    for record in dataset.records:
        inside = folders.relative(Path(record.path), root)
        stem = stems.take(PurePosixPath(inside).name if copy else inside)
        name = stem + Path(record.path).suffix if copy else inside
        place = PurePosixPath("images", split, name).as_posix() if copy else _place(record, folder)
        yield Labelled(
            name=name,
            stem=stem,
            place=place,
            copied=copy,
            width=record.width,
            height=record.height,
            labels=_labels(record, dataset),
            split=split,
        )


def _place(record: Record, folder: Path) -> str:
    return os.path.relpath(record.path, folder).replace(os.sep, "/")


def _labels(record: Record, dataset: Dataset) -> tuple[Label, ...]:
    names = [dataset.class_names[label] for label in record.labels.tolist()]
    scores = [None] * len(names)
    return make_labels(record.boxes, names, scores, record.difficult.tolist(), record.crowd.tolist())
