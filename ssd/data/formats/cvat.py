"""CVAT XML 1.1 (`CVAT for images`): one file with all images.

Boxes are read, turned ones and polygons, ellipses and masks as the upright boxes around them; points, polylines,
cuboids and tags are left aside. Images without shapes have no objects. In a project's export the subsets of the images
are the splits. Tracks of `CVAT for video` are not read.
"""

import html
import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem, RawObject, ellipse_box, rotated_box
from ssd.data.formats.entries import MAX_BYTES, Entry, EntryFormat, Parsed
from ssd.data.formats.json_values import Box, box_around, number, starts_with, whole
from ssd.errors import AnnotationError

_DEPTH = 30  # of nested elements; CVAT's own are 8 deep
_IMAGE = re.compile(r"<image\s[^<>]*>")
_SUBSET = re.compile(r"""\ssubset=(["'])([^<>]*?)\1""")
_NO_BOXES = ("points", "polyline", "cuboid", "tag", "skeleton")


def _is_own(path: Path) -> bool:
    return starts_with(path, b"<annotations") and starts_with(path, b"<image ", b"<image>", b"<meta")


def _subsets(path: Path) -> list[str]:
    """The subsets of the images; none where some image is in none. The file may be large, so it is not parsed."""
    try:
        tags = _IMAGE.findall(folders.read_text(path, MAX_BYTES))
    except AnnotationError:
        return []
    found = {html.unescape(match[2]).strip() if (match := _SUBSET.search(tag)) else "" for tag in tags}
    return [] if "" in found else sorted(found)


def _parse(path: Path, folder: Path) -> Parsed:
    source = folders.relative(path, folder)
    entries: list[Entry] = []
    problems: list[Problem] = []
    left_aside: Counter[str] = Counter()
    for place, image in enumerate(_images(path), start=1):
        name = (image.get("name") or "").strip()
        if not name:
            problems.append(Problem(source, "no_file_name", "has no name", "file", place, unit="image"))
            continue
        subset = (image.get("subset") or "").strip()
        where = f"{source}, {subset[:60]}/{name[:200]}" if subset else f"{source}, {name[:200]}"
        objects = []
        for index, shape in enumerate(image, start=1):
            if shape.tag in _NO_BOXES:
                left_aside[shape.tag] += 1
                continue
            item = _read_shape(shape, index)
            if isinstance(item, RawObject):
                objects.append(item)
            else:
                problems.append(Problem(where, *item, index=index, unit="shape"))
        width, height = (whole(number(image.get(key))) for key in ("width", "height"))
        entries.append(
            Entry(name, where, tuple(objects), width, height, unit="shape", folder=path.parent, subset=subset)
        )
    if left_aside:
        listed = ", ".join(f"{count} {kind}" for kind, count in left_aside.items())
        problems.append(Problem(source, "no_box", f"shapes that are no boxes are left aside: {listed}", "note"))
    return Parsed(entries, problems)


def _images(path: Path) -> Iterator[Element]:
    """The `<image>` elements, one at a time.

    Raises:
        AnnotationError: missing, too large, not XML, with a document type, nested too deep, or another tool's.
    """
    content = folders.read_bytes(path, MAX_BYTES)
    depth = 0
    try:
        for event, element in iterparse(io.BytesIO(content), events=("start", "end"), forbid_dtd=True):
            depth += 1 if event == "start" else -1
            if depth == 1 and event == "start" and element.tag != "annotations":
                problem = f"is not CVAT's: its root is <{element.tag[:60]}>, not <annotations>"
                raise AnnotationError(problem, place=path, remedy="Export CVAT for images 1.1.")
            if depth > _DEPTH:
                raise AnnotationError(f"is nested deeper than {_DEPTH} elements", place=path)
            if event == "start" and depth == 2 and element.tag == "track":
                remedy = "In CVAT choose Export, then CVAT for images, COCO 1.0, PASCAL VOC 1.1 or YOLO."
                raise AnnotationError("has the tracks of CVAT for video, which are not read", place=path, remedy=remedy)
            if event == "end" and depth == 1:
                if element.tag == "image":
                    yield element
                element.clear()
    except DefusedXmlException:
        raise AnnotationError("declares a document type or entities, refused for safety", place=path) from None
    except ParseError as error:
        raise AnnotationError(f"is not valid XML ({error})", place=path) from None
    except AnnotationError:
        raise
    except (ValueError, LookupError) as error:
        raise AnnotationError(f"has an encoding that cannot be read ({error})", place=path) from None


def _read_shape(shape: Element, index: int) -> RawObject | tuple[str, str]:
    """A shape as an object, or its problem as (kind, message)."""
    name = (shape.get("label") or "").strip()
    if not name:
        return "no_name", f"<{str(shape.tag)[:60]}> has no label"
    box = _box(shape)
    if box is None:
        return "no_box", f"<{str(shape.tag)[:60]}> is no known shape"
    if any(map(math.isnan, box)):
        return "not_a_number", f"<{shape.tag}> ({name[:60]}) lacks a number, or has one that is none"
    return RawObject(index, name, box)


def _box(shape: Element) -> Box | None:
    """The upright box around a shape, NaN where a number is missing; None for an unknown shape."""
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
        return box_around((number(pair[0]), number(pair[-1])) if len(pair) == 2 else (math.nan,) * 2 for pair in pairs)
    if shape.tag == "mask":
        left, top, width, height = (number(shape.get(key)) for key in ("left", "top", "width", "height"))
        return left, top, left + width, top + height
    turn = math.radians(number(shape.get("rotation") or 0))
    if shape.tag == "ellipse":
        x, y, across, down = (number(shape.get(key)) for key in ("cx", "cy", "rx", "ry"))
        return ellipse_box(x, y, across, down, turn) if math.isfinite(turn) else (math.nan,) * 4
    if shape.tag != "box":
        return None
    left, top, right, bottom = (number(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
    if not turn:
        return left, top, right, bottom
    sides = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return rotated_box(*sides, turn) if math.isfinite(turn) else (math.nan,) * 4


FORMAT = EntryFormat(".xml", _is_own, _parse, subsets=_subsets)
