"""Writes data sets anew in the formats of other tools, with copies of their images where asked."""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from ssd.data.dataset import Dataset
from ssd.data.formats import paths as folders
from ssd.data.labels.label_formats import write_labels
from ssd.data.labels.labelled import Label, Labelled, Stems, make_labels, stays_below
from ssd.images.decode import read_image_bytes
from ssd.structures import Record
from ssd.system.files import write_atomic


def write_data_sets(
    folder: Path, formats: Collection[str], parts: Mapping[str, Dataset], root: Path, *, copy: bool
) -> bool:
    """Write the labels of each split, under the split's name, and say whether images were copied; "" is no split.

    Images are copied where YOLO's layout needs it, or with `copy`; else the labels name them by their paths from
    `root`, the data folder.

    Raises:
        SSDError: no space is left, or the folder cannot be written.
    """
    copy = copy or "yolo" in formats
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
    return copy


def _images(split: str, dataset: Dataset, root: Path, folder: Path, copy: bool) -> Iterator[Labelled]:
    stems = Stems()
    for record in dataset.records:
        inside = folders.relative(Path(record.path), root)
        stem = stems.take(Path(record.path).name if copy or not stays_below(inside) else inside)
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
