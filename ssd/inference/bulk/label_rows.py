"""The rows of a journal as images with labels, for the formats of annotation tools."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssd.data.labels.labelled import Labelled, Stems, make_labels
from ssd.inference.bulk.journal import JOURNAL, Row, read_rows
from ssd.inference.detections import Detections


def read_labelled(folder: Path, class_names: Sequence[str]) -> Iterator[Labelled]:
    """The images of the journal in a folder of results, one at a time.

    An image that was copied has its copy's name, another one its path below the folder that all of them lie in.
    """
    top = _common_folder(folder)
    stems = Stems()
    for row in _searched(folder):
        copied = _copy_of(row)
        path = Path(row["path"]).absolute()
        name = os.path.relpath(path, top) if copied is None else copied.removeprefix("images/")
        place = os.path.relpath(path, folder) if copied is None else copied
        yield _labelled(row, class_names, name.replace(os.sep, "/"), place.replace(os.sep, "/"), stems, copied)


def _labelled(
    row: Row, class_names: Sequence[str], name: str, place: str, stems: Stems, copied: str | None
) -> Labelled:
    found = Detections.from_dict(row, class_names)
    flags = [False] * len(found)
    return Labelled(
        name=name,
        stem=stems.take(name),
        place=place,
        copied=copied is not None,
        width=int(row["width"]),
        height=int(row["height"]),
        labels=make_labels(found.boxes, found.names, found.scores.tolist(), flags, flags),
        detected=True,
    )


def _searched(folder: Path) -> Iterator[Row]:
    return (row for row in read_rows(folder / JOURNAL) if "detections" in row)


def _copy_of(row: Row) -> str | None:
    """The copy of an image, or the image of a frame, in the folder of results."""
    return next((str(name) for name in row.get("files", ()) if str(name).startswith("images/")), None)


def _common_folder(folder: Path) -> str:
    """The folder in which all images lie that were not copied."""
    top: str | None = None
    for row in _searched(folder):
        if _copy_of(row) is None:
            parent = str(Path(row["path"]).absolute().parent)
            top = parent if top is None else os.path.commonpath([top, parent])
    return top or str(folder.absolute())
