"""LabelMe: one JSON file for each image, beside it or in a folder of its own.

Rectangles are boxes; polygons, circles, masks and turned rectangles give the upright box around them. Points and lines
are left aside. An image without a JSON file is not used; one with an empty list of shapes has no objects.
"""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem, RawObject
from ssd.data.formats.entries import Entry, EntryFormat, Parsed
from ssd.data.formats.json_values import Box, box_around, load, points_of, starts_with, whole
from ssd.errors import AnnotationError

_MAX_BYTES = 64 * 2**20  # it may hold the image itself
_NO_BOXES = ("point", "points", "line", "linestrip")
_LEAST = {"polygon": 3, "circle": 2}  # points of a shape


def _is_own(path: Path) -> bool:
    return starts_with(path, b'"shapes"') and starts_with(path, b'"imagePath"', b'"imageData"', b'"flags"')


def _parse(path: Path, folder: Path) -> Parsed:
    content = load(path, _MAX_BYTES)
    source = folders.relative(path, folder)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise AnnotationError("is not LabelMe: it has no list 'shapes'", place=path, remedy="Move it out.")
    objects: list[RawObject] = []
    problems: list[Problem] = []
    left_aside: Counter[str] = Counter()
    for number, shape in enumerate(shapes, start=1):
        kind = shape.get("shape_type") or "polygon" if isinstance(shape, dict) else None
        if kind in _NO_BOXES:
            left_aside[kind] += 1
            continue
        item = _read_shape(shape, str(kind), number)
        if isinstance(item, RawObject):
            objects.append(item)
        else:
            problems.append(Problem(source, *item, index=number, unit="shape"))
    if left_aside:
        listed = ", ".join(f"{count} {kind}" for kind, count in left_aside.items())
        problems.append(Problem(source, "no_box", f"shapes without an area are left aside: {listed}", "note"))
    written = content.get("imagePath")
    name = written if isinstance(written, str) and written.strip() else path.stem
    if not folders.is_there(path.parent / name.replace("\\", "/")) and (beside := _image_beside(path)) is not None:
        name = beside
    sides = whole(content.get("imageWidth")), whole(content.get("imageHeight"))
    return Parsed([Entry(name, source, tuple(objects), *sides, unit="shape", folder=path.parent)], problems)


def _image_beside(path: Path) -> str | None:
    """The image of the same name, for one that was renamed with its file."""
    found = (path.with_suffix(suffix) for known in folders.IMAGE_SUFFIXES for suffix in (known, known.upper()))
    return next((image.name for image in found if folders.is_there(image)), None)


def _read_shape(shape: Any, kind: str, number: int) -> RawObject | tuple[str, str]:
    """A shape as an object, or its problem as (kind, message)."""
    if not isinstance(shape, dict):
        return "no_box", f"is {type(shape).__name__}, not a shape"
    name = shape.get("label")
    if not isinstance(name, str) or not name.strip():
        return "no_name", f"has the label {str(name)[:60]!r}"
    points = points_of(shape.get("points"))
    if len(points) < _LEAST.get(kind, 2):
        return "no_box", f"({name[:60]}) is a {kind[:60]} of {len(points)} points"
    return RawObject(number, name.strip(), _circle(points) if kind == "circle" else box_around(points))


def _circle(points: list[tuple[float, float]]) -> Box:
    """The box around a circle, which is a centre and a point of the edge."""
    (x, y), (other_x, other_y) = points[:2]
    radius = math.hypot(other_x - x, other_y - y)
    return x - radius, y - radius, x + radius, y + radius


FORMAT = EntryFormat(".json", _is_own, _parse, named_by_file=False)
