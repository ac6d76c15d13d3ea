"""Values of JSON files by strangers: parsed within limits, and checked for their types."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssd.data.formats import paths as folders
from ssd.errors import AnnotationError

Box = tuple[float, float, float, float]


def load(path: Path, most: int) -> Any:
    """The content of a JSON file of at most so many bytes.

    Raises:
        AnnotationError: it is missing, larger, or no JSON.
    """
    try:
        return json.loads(folders.read_bytes(path, most))
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"is not valid JSON ({error})", place=path) from None


def starts_with(path: Path, *words: bytes) -> bool:
    """Whether the start of a file has one of these words."""
    try:
        with path.open("rb") as file:
            start = file.read(65_536)
    except OSError:
        return False
    return any(word in start for word in words)


def whole(value: Any) -> int:
    """A side in pixels; 0 where it is none."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**9
    return int(value) if good else 0


def number(value: Any) -> float:
    """A number, also where it is text; NaN where it is none."""
    try:
        return math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def points_of(value: Any) -> list[tuple[float, float]]:
    """A list of [x, y]; what is no such pair comes as NaN."""
    if not isinstance(value, list):
        return []
    pairs = [pair if isinstance(pair, list) and len(pair) == 2 else (None, None) for pair in value]
    return [(number(x), number(y)) for x, y in pairs]


def box_around(points: Iterable[tuple[float, float]]) -> Box:
    """The upright box around points; a NaN stays, so that it is found."""
    columns = list(zip(*points, strict=True))
    if not columns or any(math.isnan(value) for column in columns for value in column):
        return (math.nan,) * 4
    (left, top), (right, bottom) = map(min, columns), map(max, columns)
    return left, top, right, bottom
