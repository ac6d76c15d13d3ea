"""The result of the readers: annotations as in the files, not yet checked.

A reader turns a folder into a `RawSplit`; `records.py` checks every object of it and makes `Record`s.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ssd.errors import ImageDecodeError, SSDError

LONGEST_SIDE = 10**9
"""Pixels; a stated side of more would not fit a float, so that the image's own is read."""

Level = Literal["file", "object", "note"]

Form = Literal["corners", "sizes", "centres"]
"""What the files have of a box: corners, COCO's corner and size in pixels, or YOLO's centre and size in fractions."""


@dataclass(frozen=True)
class Problem:
    """One problem of a data set.

    `file` problems always stop the opening, `object` problems only under `bad_objects=error`; a `note` was mended
    (a box cut at the image's edge) or left aside, and is worth knowing.
    """

    path: str  # the annotation file or image, relative to the data folder
    kind: str  # one word for counting: no_area, not_finite, swapped, outside, clipped, unknown_class, ...
    message: str
    level: Level = "object"
    index: int | None = None  # the object's number in its file, from 1; COCO: the annotation's id
    name: str | None = None  # the object's class
    unit: str = "object"  # what `index` counts: object, line, annotation
    image: str | None = field(default=None, compare=False)  # path of the image to look at, where it is known
    box: tuple[float, float, float, float] | None = field(default=None, compare=False)  # pixels, where it is finite

    @classmethod
    def of_list(cls, values: list[Any]) -> "Problem":
        """The problem of which `dataclasses.astuple` gave the values."""
        named = dict(zip((one.name for one in fields(cls)), values, strict=True))
        return cls(**named | {"box": None if named["box"] is None else tuple(named["box"])})

    def __str__(self) -> str:
        place = self.path if self.index is None else f"{self.path}: {self.unit} {self.index}"
        return f"{place}: {self.message}" if self.name is None else f"{place} ({self.name}): {self.message}"


@dataclass(frozen=True, slots=True)
class RawObject:
    """One object as in its file; the box is xyxy in pixels and not checked."""

    index: int
    name: str
    box: tuple[float, float, float, float]
    difficult: bool = False
    crowd: bool = False
    area: float | None = None


@dataclass(frozen=True, slots=True)
class RawImage:
    """One image as in its annotation."""

    path: str
    image_id: int | str
    source: str  # the annotation, relative to the data folder, for messages
    width: int
    height: int
    objects: Sequence[RawObject]
    unit: str = "object"


@dataclass(frozen=True)
class RawSplit:
    """One split: images, the classes of the whole folder, and what could not be read."""

    images: Sequence[RawImage]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    problems: tuple[Problem, ...]
    form: Form = "corners"
    remarks: tuple[str, ...] = ()  # for the log
    only_named: bool = False  # whether nothing but one annotation file and the names in folders was looked at


def join(splits: Iterable[RawSplit]) -> RawSplit:
    """Several splits with the same classes as one."""
    parts = list(splits)
    return RawSplit(
        images=tuple(image for part in parts for image in part.images),
        class_names=parts[0].class_names,
        category_ids=parts[0].category_ids,
        problems=tuple(problem for part in parts for problem in part.problems),
        form=parts[0].form,
        remarks=tuple(remark for part in parts for remark in part.remarks),
    )


def rotated_box(x: float, y: float, width: float, height: float, angle: float) -> tuple[float, float, float, float]:
    """The upright box around one of that centre and those sides, turned by `angle` radians."""
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    half_width, half_height = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def ellipse_box(x: float, y: float, across: float, down: float, angle: float) -> tuple[float, float, float, float]:
    """The upright box around an ellipse of that centre and those radii, turned by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    half_width, half_height = math.hypot(across * cos, down * sin), math.hypot(across * sin, down * cos)
    return x - half_width, y - half_height, x + half_width, y + half_height


def unreadable(path: str, error: SSDError) -> Problem:
    """The problem of a file that could not be read; an image's error keeps the image's path."""
    about_another = error.place is not None and not error.place.endswith(path)
    message = f"{error.place}: {error.problem}" if about_another else error.problem
    if error.remedy:
        message = f"{message.rstrip('.')}. {error.remedy.rstrip('.')}"
    kind = "undecodable" if isinstance(error, ImageDecodeError) else "unreadable"
    return Problem(path, kind, message, "file")


def same_file(source: str, names: tuple[str, str], image: str) -> Problem:
    """The problem of two annotations for which one image is found, as where files of one name were put together."""
    message = f"{names[0]} and {names[1]} are both found as {image}; keep one, or put each image where it is annotated"
    return Problem(source, "duplicate_file", message, "file")
