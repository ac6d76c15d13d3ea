"""A data set: every annotation parsed and checked at opening, images decoded one at a time.

    train = open_dataset("cells", "train")            # the format is recognised
    sample = train.load(0)                            # uint8 RGB, boxes in pixels, labels from 0

Opening lists everything that is wrong, not only the first thing; `scan` returns the list instead of raising. Nothing
is ever written into a data folder.
"""

import logging
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem
from ssd.data.formats.division import VAL_FRACTION
from ssd.data.formats.grouping import AUTO
from ssd.data.formats.read_options import DEFAULT_OPTIONS, ReadOptions
from ssd.data.formats.recognition import find_format
from ssd.data.formats.registry import PARTS
from ssd.data.formats.unused import about_unread_images
from ssd.data.formats.voc import Offset
from ssd.data.index import count_objects
from ssd.data.joined_records import CompleteClasses
from ssd.data.reading import read_records
from ssd.data.records import unknown_classes
from ssd.errors import AnnotationError, DatasetError, ImageDecodeError, counted, printable
from ssd.images import kinds
from ssd.images.decode import load_shrunk, read_size
from ssd.rules import Depth
from ssd.structures import Record, Sample

log = logging.getLogger(__name__)
BAD_IMAGES_LIMIT = 0.01  # largest undecodable share of the data set under bad_images="skip"
FEW_BAD = 1000  # one bad object in so many is left out with a note
_SHOWN = 10  # problems spelled out in an error; the rest are counted
_EXIF_ORIENTATION = 0x0112


def read_image(record: Record) -> UInt8[np.ndarray, "H W 3"]:
    """Decode a record's image, upright.

    Raises:
        ImageDecodeError: it cannot be decoded whole.
        AnnotationError: it has another size than its annotation says.
    """
    return _read_shrunk(record, 1, None)[0]


def _read_shrunk(record: Record, shrink: int, depth: Depth | None) -> tuple[UInt8[np.ndarray, "H W 3"], int]:
    """Decode it at 1/`shrink` of its size where its format allows, and say how many times smaller it came."""
    image, shrunk = load_shrunk(record.path, shrink, depth)
    height, width = image.shape[:2]
    check_size(record, *((width, height) if shrunk == 1 else read_size(record.path)))
    return image, shrunk


def check_size(record: Record, width: int, height: int) -> None:
    """Raise `AnnotationError` unless the upright image has the annotated size."""
    if (width, height) == (record.width, record.height):
        return
    problem = f"the annotation says {record.width}x{record.height}, the upright image has {width}x{height}"
    remedy = "Correct the annotation."
    if (height, width) == (record.width, record.height):
        with Image.open(record.path) as header:
            turned = header.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
        if turned:
            problem += "; it was annotated before EXIF rotation"
            remedy = "Its boxes are those of the stored image: remove the tag, exiftool -Orientation= IMAGES."
    raise AnnotationError(problem, place=record.path, remedy=remedy)


@dataclass(frozen=True)
class Dataset:
    """One split. Labels are places in `class_names`; `category_ids` are the classes' ids in the source."""

    records: Sequence[Record]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # COCO's own; 1 to C elsewhere
    name: str
    split: str
    dropped: tuple[Problem, ...] = ()  # the bad objects left out
    read: Callable[[Record], UInt8[np.ndarray, "_ _ 3"]] = field(default=read_image, repr=False)
    complete: CompleteClasses | None = None  # of several folders: the classes that each image is complete for
    depth: Depth | None = None  # how files of more than 8 bits a channel are read; see `ssd.images.depth`

    def __len__(self) -> int:
        return len(self.records)

    def load(self, index: int, shrink: int = 1) -> Sample:
        """Decode one image and give it with its objects.

        A JPEG may come at 1/`shrink` of its size (1, 2, 4, 8); `Sample.shrink` says so.
        """
        record = self.records[index]
        from_file = self.read is read_image
        image, shrunk = _read_shrunk(record, shrink, self.depth) if from_file else (self.read(record), 1)
        return Sample(
            image=image,
            boxes=record.boxes,
            labels=record.labels,
            difficult=record.difficult,
            crowd=record.crowd,
            path=record.path,
            image_id=record.image_id,
            shrink=shrunk,
            complete=None if self.complete is None else self.complete.of(index),
        )


def open_dataset(
    folder: str | Path | None,
    split: str,
    *,
    format: str = "auto",
    classes: Sequence[str] | None = None,
    bad_objects: Literal["error", "drop"] = "error",
    bad_images: Literal["error", "skip"] = "error",
    voc_offset: Offset = "1",
    allow_outside: bool = False,
    val_fraction: float = VAL_FRACTION,
    group: str = AUTO,
) -> Dataset:
    """Open one split with every annotation checked.

    `folder` may be None for the sets that have a home of their own (voc07+12, coco2017). With `classes`, labels are
    places in that list.

    Raises:
        DatasetError: no such folder or split, an unknown format, or nothing in it.
        AnnotationError: files or objects are wrong; the message lists them. `bad_objects="drop"` leaves bad objects
            (not bad files) out instead, counts them in `dropped` and says so in the log; `bad_images="skip"` a few
            images of which not even the size can be read.
    """
    options = ReadOptions(classes, voc_offset, allow_outside, val_fraction, group)
    dataset, problems = scan(folder, split, options, format=format)
    files = [problem for problem in problems if problem.level == "file"]
    undecodable = [problem for problem in files if problem.kind == "undecodable"]
    if undecodable and bad_images == "skip" and are_few_images(len(undecodable), len(dataset) + len(undecodable)):
        left_out = counted(len(undecodable), "image")
        log.warning("%s: left out %s that cannot be decoded%s", dataset.name, left_out, _listing(undecodable))
        files = [problem for problem in files if problem.kind != "undecodable"]
    _raise_bad(dataset, files, "files or entries")
    bad = [problem for problem in problems if problem.level == "object"]
    if bad_objects == "error" and not are_few(bad, dataset):
        _raise_bad(dataset, bad, "objects")
    if bad:
        log.warning("%s: left out %s%s", dataset.name, counted(len(bad), "bad object"), _listing(bad))
    _log_notes(dataset, [problem for problem in problems if problem.level == "note"])
    if not dataset.records:
        problem, unread = f"split {split!r} has no images", about_unread_images(folder)
        if unread is not None:
            raise DatasetError(f"{problem}; there are {unread}", place=dataset.name, remedy=f"{kinds.CONVERT}.")
        if split in PARTS:
            problem, remedy = "one image cannot be divided", "Add images, or name some to evaluate on with data.val."
            raise DatasetError(problem, place=dataset.name, remedy=remedy)
        raise DatasetError(problem, place=dataset.name, remedy="Choose another split.")
    if not dataset.class_names:
        raise DatasetError("no object is annotated, so there are no classes", place=dataset.name, remedy="Annotate.")
    return dataset


def are_few_images(bad: int, images: int) -> bool:
    """Whether the images that cannot be decoded are so few that `data.bad_images=skip` passes over them."""
    return bad <= max(1.0, BAD_IMAGES_LIMIT * images)


def are_few(bad: Sequence[Problem], dataset: Dataset) -> bool:
    """Whether the bad objects are so few (one in a thousand) that leaving them out changes nothing.

    An unknown class may be a name mistyped everywhere it occurs, so it is never among them.
    """
    objects = count_objects(dataset.records)[0] + len(bad)
    return len(bad) * FEW_BAD <= objects and all(problem.kind != "unknown_class" for problem in bad)


def scan(
    folder: str | Path | None,
    split: str,
    options: ReadOptions = DEFAULT_OPTIONS,
    *,
    format: str = "auto",
    check_images: bool = False,
) -> tuple[Dataset, list[Problem]]:
    """Open one split without its bad objects and files, and list all that is wrong with it.

    `check_images` reads every image's header too and compares its size.

    Raises:
        DatasetError: no such folder or split, or an unknown format.
    """
    classes = options.classes
    if classes is not None and (not classes or len(set(classes)) < len(classes)):
        problem = f"{list(classes)} is no list of classes, each named once"
        raise DatasetError(problem, place="data.classes", remedy="Name some, or leave it out: the data has them.")
    root, kind = find_format(folder, format)
    built = read_records(root, kind, split, options)
    problems = list(built.problems)
    if check_images:
        problems += [problem for record in built.records for problem in _check_image(record, root)]
    dropped = tuple(problem for problem in problems if problem.level == "object")
    return Dataset(built.records, built.class_names, built.category_ids, str(root), split, dropped), problems


def _check_image(record: Record, root: Path) -> list[Problem]:
    try:
        check_size(record, *read_size(record.path))
    except (ImageDecodeError, AnnotationError) as error:
        kind = "size_differs" if isinstance(error, AnnotationError) else "unreadable"
        return [Problem(folders.relative(Path(record.path), root), kind, error.problem, "file")]
    return []


def _raise_bad(dataset: Dataset, problems: list[Problem], what: str) -> None:
    if not problems:
        return
    unknown = unknown_classes(problems, dataset.class_names)
    advice = f"Unknown classes: {unknown}. " if unknown else ""
    if what == "objects":
        useful = bool(count_objects(dataset.records)[0])  # where good ones are left
        advice += "Correct them" + (", or leave them out with data.bad_objects=drop." if useful else ".")
    else:
        advice += "Correct or remove them."
        if all(problem.kind == "undecodable" for problem in problems):
            advice += " Or pass over a few such images in training: data.bad_images=skip."
    advice += f" All of them: ssd check-data {shlex.quote(dataset.name)}" if len(problems) > _SHOWN else ""
    raise AnnotationError(
        f"{len(problems)} bad {what} in split {dataset.split!r}{_listing(problems)}",
        place=dataset.name,
        remedy=advice,
    )


def _listing(problems: Sequence[Problem]) -> str:
    """The first problems, one a line; of an unknown class the first object stands for all."""
    telling: dict[object, Problem] = {}
    for problem in problems:
        telling.setdefault(problem.name if problem.kind == "unknown_class" else id(problem), problem)
    shown = list(telling.values())[:_SHOWN]
    more = len(problems) - len(shown)
    lines = [f"\n  {printable(str(problem))}" for problem in shown]
    return ":" + "".join(lines) + (f"\n  ... and {more} more" if more > 0 else "")


def _log_notes(dataset: Dataset, notes: list[Problem]) -> None:
    for kind, count in Counter(problem.kind for problem in notes).items():
        first = next(problem for problem in notes if problem.kind == kind)
        log.warning("%s: %s: %d, the first: %s", dataset.name, kind, count, first)
