"""What one COCO annotation file holds, and the values of its entries, which may be of any type."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np

from ssd.data.formats.annotations import Level, Problem
from ssd.data.formats.columns import RawColumns


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One entry of `images`; a side is 0 where the file does not state it."""

    file_name: str
    width: int
    height: int


@dataclass
class Content:
    """The content of one file, with its problems.

    `categories` is in the order of the ids; the owners of `objects` are places among `images`.
    """

    source: str
    images: dict[int, ImageEntry] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    objects: RawColumns = field(default_factory=lambda: RawColumns.of_items([], np.zeros(0, np.int64)))
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    merged: dict[int, str] = field(default_factory=dict)  # categories whose name another one has
    outlined: int = 0  # objects whose box is taken from their polygons
    lost: set[int] = field(default_factory=set)  # images left out, with a problem of their own

    def report(self, kind: str, message: str, level: Level = "file", index: int | None = None) -> None:
        """Note a problem."""
        self.problems.append(Problem(self.source, kind, message, level, index, unit="annotation"))


def entries_of(
    entries: Iterable[Any], what: str, content: Content, first: int = 1
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a list with their numbers from `first` on; anything else in it is a problem."""
    for number, entry in enumerate(entries, start=first):
        if isinstance(entry, dict):
            yield number, entry
        else:
            content.report("not_an_object", f"{what} {number} is {type(entry).__name__}, not an object")


def as_whole(value: object) -> object:
    """The number as an int where a tool wrote 1.0 for 1; anything else unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_float(value: int | float) -> float:
    """The number as a float; infinite where it is a whole number of hundreds of digits."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)
