"""Reads one COCO annotation file: images, classes and objects, and their problems."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from ssd.data.formats.annotations import Level, Problem, RawObject, rotated_box
from ssd.data.formats.coco_rle import box_of_mask
from ssd.errors import AnnotationError

_LONGEST_SIDE = 10**9  # pixels; what is more would not fit a float


@dataclass(frozen=True)
class ImageEntry:
    """One entry of `images`; a side is 0 where the file does not state it."""

    file_name: str
    width: int
    height: int


@dataclass
class Content:
    """The content of one file, with its problems; `categories` is in the order of the ids."""

    source: str
    images: dict[int, ImageEntry] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    objects: dict[int, list[RawObject]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    merged: dict[int, str] = field(default_factory=dict)  # categories whose name another one has
    outlined: int = 0  # objects whose box is taken from their polygons
    lost: set[int] = field(default_factory=set)  # images left out, with a problem of their own

    def report(self, kind: str, message: str, level: Level = "file", index: int | None = None) -> None:
        """Note a problem."""
        self.problems.append(Problem(self.source, kind, message, level, index, unit="annotation"))


def read_content(path: Path, source: str) -> Content:
    """Read a COCO file; `source` is its name in messages.

    Raises:
        AnnotationError: it is no JSON, or no COCO at its top level.
    """
    raw = _load(path)
    content = Content(source)
    _read_images(raw["images"], content)
    _read_categories(raw["categories"], content)
    _read_annotations(raw["annotations"], content)
    if content.outlined:
        content.report(
            "no_bbox",
            f"{content.outlined} annotations have no bbox; the box around their outlines is used",
            "note",
        )
    _drop_root(raw["categories"], content)
    _find_one_based(content)
    return content


def read_images(path: Path) -> Iterable[ImageEntry]:
    """The images that a COCO file lists, without the objects.

    Raises:
        AnnotationError: as `read_content`.
    """
    content = Content("")
    _read_images(_load(path)["images"], content)
    return content.images.values()


def _load(path: Path) -> dict[str, list[Any]]:
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"cannot be read ({error.strerror})", place=path) from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"is not valid JSON ({error})", place=path) from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(raw, dict) or not isinstance(raw.get(key), list):
            remedy = "A COCO file is an object with the lists images, annotations and categories."
            raise AnnotationError(f"has no list {key!r}", place=path, remedy=remedy)
    return raw  # type: ignore[no-any-return]


def _read_images(entries: list[Any], content: Content) -> None:
    named: dict[str, int] = {}
    for number, entry in _entries(entries, "image", content):
        key, name = _as_whole(entry.get("id")), entry.get("file_name")
        if not _is_whole(key):
            content.report("bad_id", f"image {number} has the id {key!r}, not a whole number")
        elif not isinstance(name, str) or not name:
            content.report("no_file_name", f"image {key} has no file_name")
        elif key in content.images:
            content.report("duplicate_id", f"image id {key} is used by {content.images[key].file_name} and {name}")
        elif name in named:
            content.lost.add(key)
            content.report("duplicate_file", f"{name} is listed under two image ids, {named[name]} and {key}; keep one")
        else:
            named[name] = key
            width, height = _as_whole(entry.get("width")), _as_whole(entry.get("height"))
            if not (_is_whole(width) and _is_whole(height) and min(width, height) > 0):
                width = height = 0
            content.images[key] = ImageEntry(name, min(width, _LONGEST_SIDE), min(height, _LONGEST_SIDE))


def _read_categories(entries: list[Any], content: Content) -> None:
    found: dict[int, str] = {}
    ids: dict[str, int] = {}
    for number, entry in _entries(entries, "category", content):
        key, name = _as_whole(entry.get("id")), entry.get("name")
        if not _is_whole(key):
            content.report("bad_id", f"category {number} has the id {key!r}, not a whole number")
        elif not isinstance(name, str) or not name.strip():
            content.report("no_name", f"category {key} has no name")
        elif key in found:
            content.report("duplicate_id", f"category id {key} is used by {found[key]!r} and {name!r}")
        elif name.strip() in ids:
            both = f"ids {ids[name.strip()]} and {key}"
            content.report("duplicate_name", f"two categories have the name {name!r} ({both}); rename or join them")
            content.merged[key] = name.strip()
        else:
            found[key] = name.strip()
            ids[name.strip()] = key
    content.categories.update(sorted(found.items()))


def _read_annotations(entries: list[Any], content: Content) -> None:
    seen: set[int] = set()
    for number, entry in _entries(entries, "annotation", content):
        key, image = _as_whole(entry.get("id", number)), _as_whole(entry.get("image_id"))
        if not _is_whole(key):
            content.report("bad_id", f"annotation {number} has the id {key!r}, not a whole number")
        elif key in seen:
            content.report("duplicate_id", "this annotation id is used more than once", index=key)
        elif _is_whole(image) and image in content.lost:
            continue  # its image is a problem already
        elif not _is_whole(image) or image not in content.images:
            content.report("no_image", f"belongs to image {image!r}, which the file does not list", index=key)
        else:
            item = _read_object(entry, key, content)
            if item is not None:
                content.objects.setdefault(image, []).append(item)
            seen.add(key)


def _read_object(entry: dict[str, Any], key: int, content: Content) -> RawObject | None:
    category, box, area = _as_whole(entry.get("category_id")), entry.get("bbox"), entry.get("area")
    name = content.categories.get(category) or content.merged.get(category) if _is_whole(category) else None
    if name is None:
        content.report("unknown_class", f"has category_id {category!r}, which the file does not list", "object", key)
        return None
    if not box and (around := _around(entry.get("segmentation"))) is not None:
        box = around
        content.outlined += 1
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        content.report("no_box", f"has bbox {box!r}, not four numbers", "object", key)
        return None
    return RawObject(
        index=key,
        name=name,
        box=_corners(entry, [_as_float(value) for value in box], key, content),
        crowd=entry.get("iscrowd") in (1, True, "1", "true", "True"),
        area=_as_float(area) if _is_number(area) and 0 <= area < float("inf") else None,
    )


def _around(segmentation: object) -> list[float] | None:
    """The box around all polygons of an annotation or around its mask; None where it has neither."""
    if isinstance(segmentation, dict):
        return box_of_mask(segmentation)
    polygons = segmentation if isinstance(segmentation, list) else []
    numbers = [value for polygon in polygons if isinstance(polygon, list) for value in polygon]
    if len(numbers) < 6 or not all(_is_number(value) for value in numbers):
        return None
    if any(not isinstance(polygon, list) or len(polygon) % 2 for polygon in polygons):
        return None
    x, y = [_as_float(value) for value in numbers[0::2]], [_as_float(value) for value in numbers[1::2]]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _corners(entry: dict[str, Any], box: list[float], key: int, content: Content) -> tuple[float, float, float, float]:
    """The box as corners; CVAT's `attributes.rotation` turns it about its centre, in degrees."""
    left, top, width, height = box
    attributes = entry.get("attributes")
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
    if not _is_number(rotation) or not math.isfinite(turn := _as_float(rotation)) or not turn % 360:
        return left, top, left + width, top + height
    content.report("rotated", f"is turned by {turn:g} degrees; the upright box around it is used", "note", key)
    return rotated_box(left + width / 2, top + height / 2, width, height, math.radians(turn))


def _find_one_based(content: Content) -> None:
    """In place of objects of a category one too high: the one problem that all ids are one too high."""
    ids = list(content.categories)
    unknown = [problem for problem in content.problems if problem.kind == "unknown_class"]
    if not ids or not unknown or ids != list(range(len(ids))):
        return
    used = {item.name for items in content.objects.values() for item in items}
    if content.categories[0] not in used and all(f"category_id {len(ids)}," in p.message for p in unknown):
        content.problems = [problem for problem in content.problems if problem.kind != "unknown_class"]
        message = f"category ids run from 0, and those of annotations look 1-based ({len(ids)} is used, 0 is not)"
        content.report("one_based", f"{message}; subtract 1 from every category_id")


def _drop_root(entries: list[Any], content: Content) -> None:
    """Leave out a class without objects that others name as their supercategory: Roboflow's root, not a class."""
    parents = {
        entry["supercategory"]
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("supercategory"), str)
        if entry.get("name") != entry["supercategory"]
    }
    used = {item.name for items in content.objects.values() for item in items}
    for key, name in list(content.categories.items()):
        if name in parents and name not in used:
            content.remarks.append(
                f"{content.source}: category {key} {name!r} has no objects and is the parent of others: left out"
            )
            del content.categories[key]


def _entries(entries: list[Any], what: str, content: Content) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a list with their numbers from 1; anything else in it is a problem."""
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, dict):
            yield number, entry
        else:
            content.report("not_an_object", f"{what} {number} is {type(entry).__name__}, not an object")


def _as_whole(value: object) -> object:
    """The number as an int where a tool wrote 1.0 for 1; anything else unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_float(value: int | float) -> float:
    """The number as a float; infinite where it is a whole number of hundreds of digits."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
