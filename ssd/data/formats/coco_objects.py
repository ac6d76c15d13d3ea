"""The annotations of a COCO file as columns, a part of the list at a time.

A part whose entries are all as usual is turned into arrays at once; of any other part each entry is looked at.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from ssd.data.formats.annotations import RawObject, rotated_box
from ssd.data.formats.coco_content import Content, as_float, as_whole, entries_of, is_number, is_whole
from ssd.data.formats.coco_rle import box_of_mask
from ssd.data.formats.columns import RawColumns

_TOO_LARGE = 2**63
_COLUMNS = [field.name for field in fields(RawColumns) if field.name != "names"]
_TRUE = (1, "1", "true", "True")  # True is 1


@dataclass(frozen=True)
class _Usual:
    """Entries with whole numbers as ids, four numbers as box, and no rotation."""

    keys: Int64[np.ndarray, "M"]
    images: Int64[np.ndarray, "M"]
    categories: Int64[np.ndarray, "M"]
    boxes: Float64[np.ndarray, "M 4"]  # left, top, width, height
    areas: Float64[np.ndarray, "M"]  # NaN where none is given
    crowd: Bool[np.ndarray, "M"]

    def __len__(self) -> int:
        return len(self.keys)

    def entries(self) -> list[dict[str, Any]]:
        """The entries again."""
        names = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        columns = (self.keys, self.images, self.categories, self.boxes, self.areas, self.crowd)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]


class Annotations:
    """The list `annotations`, of which images and categories may come later in the file."""

    def __init__(self) -> None:
        self._parts: list[_Usual | list[Any]] = []

    def add(self, entries: list[Any]) -> None:
        """Take the next entries."""
        usual = _usual(entries)
        self._parts.append(entries if usual is None else usual)

    def read(self, content: Content) -> RawColumns:
        """The objects of the images that the file lists, in the order of the file; problems go to `content`.

        The entries are given up.
        """
        reader = _Reader(content, self._repeated())
        parts, number = self._parts[::-1], 1
        self._parts = []
        while parts:
            part = parts.pop()
            reader.take(part, number)
            number += len(part)
        return reader.columns()

    def _repeated(self) -> Int64[np.ndarray, "_"]:
        """The ids that occur more than once, without those beyond 64 bits."""
        found, number = [np.zeros(0, np.int64)], 1
        for part in self._parts:
            found.append(part.keys if isinstance(part, _Usual) else _keys(part, number))
            number += len(part)
        keys = np.sort(np.concatenate(found))
        return np.unique(keys[1:][keys[1:] == keys[:-1]])


def _keys(entries: list[Any], number: int) -> Int64[np.ndarray, "_"]:
    given = (as_whole(entry.get("id", row)) for row, entry in enumerate(entries, number) if isinstance(entry, dict))
    return np.array([key for key in given if is_whole(key) and abs(key) < _TOO_LARGE], np.int64)


def _usual(entries: list[Any]) -> _Usual | None:
    """Entries as arrays; None if one of them is not as usual."""
    try:
        ids = [[entry[name] for entry in entries] for name in ("id", "image_id", "category_id")]
        boxes = [entry["bbox"] for entry in entries]
        numbers = list(chain.from_iterable(boxes))
    except (TypeError, KeyError):
        return None
    if (
        set(map(type, chain(*ids))) != {int}
        or set(map(type, boxes)) != {list}
        or set(map(len, boxes)) != {4}
        or not set(map(type, numbers)) <= {int, float}
        or any(_may_turn(entry["attributes"]) for entry in entries if "attributes" in entry)
    ):
        return None
    areas = [_area(entry.get("area")) for entry in entries]
    try:
        keys, images, categories = (np.array(column, np.int64) for column in ids)
        return _Usual(
            keys,
            images,
            categories,
            boxes=np.array(numbers, np.float64).reshape(-1, 4),
            areas=np.array([math.nan if area is None else area for area in areas], np.float64),
            crowd=np.array([entry.get("iscrowd") in _TRUE for entry in entries], bool),
        )
    except OverflowError:
        return None


def _may_turn(attributes: object) -> bool:
    return isinstance(attributes, dict) and bool(attributes.get("rotation"))


def _area(value: object) -> float | None:
    return as_float(value) if is_number(value) and 0 <= value < math.inf else None


class _Reader:
    def __init__(self, content: Content, repeated: Int64[np.ndarray, "_"]) -> None:
        self._content, self._repeated = content, repeated
        self._seen: set[int] = set()
        self._names = tuple(dict.fromkeys(content.categories.values()))
        self._codes = {name: code for code, name in enumerate(self._names)}
        named = {**content.merged, **content.categories}
        self._categories = _Lookup({key: self._codes[name] for key, name in named.items()})
        self._places = {key: place for place, key in enumerate(content.images)}
        self._images = _Lookup(self._places)
        self._columns: list[RawColumns] = []

    def columns(self) -> RawColumns:
        """All that was taken."""
        parts = self._columns or [RawColumns.of_items([], np.zeros(0, np.int64))]
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
        return RawColumns(self._names, **columns)

    def take(self, part: _Usual | list[Any], number: int) -> None:
        """Add the objects of a part whose first entry has this number."""
        if isinstance(part, _Usual):
            owners, codes = self._images.find(part.images), self._categories.find(part.categories)
            if not ((owners < 0) | (codes < 0) | np.isin(part.keys, self._repeated)).any():
                self._columns.append(self._of_usual(part, owners, codes))
                return
            part = part.entries()
        pairs = list(self._each(part, number))
        found = RawColumns.of_items([item for _, item in pairs], np.array([owner for owner, _ in pairs], np.int64))
        codes = np.array([self._codes[name] for name in found.names], np.int64)
        self._columns.append(replace(found, names=self._names, codes=codes[found.codes]))

    def _of_usual(self, part: _Usual, owners: Int[np.ndarray, "M"], codes: Int[np.ndarray, "M"]) -> RawColumns:
        with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is refused later
            corners = part.boxes[:, :2] + part.boxes[:, 2:]
        boxes = np.concatenate([part.boxes[:, :2], corners], axis=1)
        difficult = np.zeros(len(part), bool)
        return RawColumns(self._names, owners, codes, part.keys, boxes, part.areas, difficult, part.crowd)

    def _each(self, entries: list[Any], first: int) -> Iterator[tuple[int, RawObject]]:
        """The objects among entries, with the places of their images."""
        content, seen = self._content, self._seen
        for number, entry in entries_of(entries, "annotation", content, first):
            key, image = as_whole(entry.get("id", number)), as_whole(entry.get("image_id"))
            if not is_whole(key):
                content.report("bad_id", f"annotation {number} has the id {key!r}, not a whole number")
            elif key in seen:
                content.report("duplicate_id", "this annotation id is used more than once", index=key)
            elif is_whole(image) and image in content.lost:
                pass  # its image is a problem already
            elif not is_whole(image) or image not in content.images:
                content.report("no_image", f"belongs to image {image!r}, which the file does not list", index=key)
            else:
                item = _read_object(entry, key, content)
                if item is not None:
                    yield self._places[image], item
                seen.add(key)


class _Lookup:
    """A table of whole numbers; those beyond 64 bits are left out."""

    def __init__(self, table: Mapping[int, int]) -> None:
        keys = [key for key in table if abs(key) < _TOO_LARGE]
        given = np.array(keys, np.int64)
        order = np.argsort(given)
        self._keys = given[order]
        self._values = np.array([table[key] for key in keys], np.int32)[order]

    def find(self, keys: Int64[np.ndarray, "M"]) -> Int[np.ndarray, "M"]:
        """The numbers under these keys; -1 where there is none."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int32)
        rows = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        return np.where(self._keys[rows] == keys, self._values[rows], np.int32(-1))


def _read_object(entry: dict[str, Any], key: int, content: Content) -> RawObject | None:
    category, box = as_whole(entry.get("category_id")), entry.get("bbox")
    name = content.categories.get(category) or content.merged.get(category) if is_whole(category) else None
    if name is None:
        content.report("unknown_class", f"has category_id {category!r}, which the file does not list", "object", key)
        return None
    if not box and (around := _around(entry.get("segmentation"))) is not None:
        box = around
        content.outlined += 1
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(value) for value in box):
        content.report("no_box", f"has bbox {box!r}, not four numbers", "object", key)
        return None
    return RawObject(
        index=key,
        name=name,
        box=_corners(entry, [as_float(value) for value in box], key, content),
        crowd=entry.get("iscrowd") in _TRUE,
        area=_area(entry.get("area")),
    )


def _around(segmentation: object) -> list[float] | None:
    """The box around all polygons of an annotation or around its mask; None where it has neither."""
    if isinstance(segmentation, dict):
        return box_of_mask(segmentation)
    polygons = segmentation if isinstance(segmentation, list) else []
    numbers = [value for polygon in polygons if isinstance(polygon, list) for value in polygon]
    if len(numbers) < 6 or not all(is_number(value) for value in numbers):
        return None
    if any(not isinstance(polygon, list) or len(polygon) % 2 for polygon in polygons):
        return None
    x, y = [as_float(value) for value in numbers[0::2]], [as_float(value) for value in numbers[1::2]]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _corners(entry: dict[str, Any], box: list[float], key: int, content: Content) -> tuple[float, float, float, float]:
    """The box as corners; CVAT's `attributes.rotation` turns it about its centre, in degrees."""
    left, top, width, height = box
    attributes = entry.get("attributes")
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
    if not is_number(rotation) or not math.isfinite(turn := as_float(rotation)) or not turn % 360:
        return left, top, left + width, top + height
    content.report("rotated", f"is turned by {turn:g} degrees; the upright box around it is used", "note", key)
    return rotated_box(left + width / 2, top + height / 2, width, height, math.radians(turn))
