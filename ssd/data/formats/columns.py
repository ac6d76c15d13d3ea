"""The objects of a split as arrays, as a large file gives them; images and objects are made when asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int

from ssd.data.formats.annotations import RawImage, RawObject
from ssd.data.lazy import LazySequence


@dataclass(frozen=True)
class RawColumns:
    """M objects of some images, image by image."""

    names: tuple[str, ...]  # without repetitions
    owners: Int[np.ndarray, "M"]  # places of their images
    codes: Int[np.ndarray, "M"]  # places of their names
    indexes: np.ndarray  # as `RawObject.index`; of Python's numbers where some are too large for 64 bits
    boxes: Float[np.ndarray, "M 4"]
    areas: Float[np.ndarray, "M"]  # NaN where none is given
    difficult: Bool[np.ndarray, "M"]
    crowd: Bool[np.ndarray, "M"]

    @staticmethod
    def of_items(items: Sequence[RawObject], owners: Int[np.ndarray, "M"]) -> "RawColumns":
        """Collect objects, given with the places of their images."""
        known: dict[str, int] = {}
        codes = [known.setdefault(item.name, len(known)) for item in items]
        return RawColumns(
            names=tuple(known),
            owners=owners,
            codes=np.array(codes, np.int64),
            indexes=whole_numbers([item.index for item in items]),
            boxes=np.array([item.box for item in items], np.float64).reshape(-1, 4),
            areas=np.array([math.nan if item.area is None else item.area for item in items], np.float64),
            difficult=np.array([item.difficult for item in items], bool),
            crowd=np.array([item.crowd for item in items], bool),
        )

    def __len__(self) -> int:
        return len(self.codes)

    def item(self, row: int) -> RawObject:
        """One object."""
        area = float(self.areas[row])
        left, top, right, bottom = self.boxes[row].tolist()
        return RawObject(
            index=int(self.indexes[row]),
            name=self.names[self.codes[row]],
            box=(left, top, right, bottom),
            difficult=bool(self.difficult[row]),
            crowd=bool(self.crowd[row]),
            area=None if math.isnan(area) else area,
        )

    def used_names(self) -> set[str]:
        """The names that some object has."""
        return {self.names[code] for code in np.flatnonzero(np.bincount(self.codes, minlength=1)).tolist()}

    def of_images(self, places: Sequence[int], count: int) -> "RawColumns":
        """The objects of some of `count` images, in the order of `places`."""
        new = np.full(count, -1, np.int64)
        new[np.asarray(places, np.int64)] = np.arange(len(places))
        owners = new[self.owners]
        order = np.argsort(owners, kind="stable")
        rows = order[np.count_nonzero(owners < 0) :]
        columns = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "names"}
        return RawColumns(self.names, **{**columns, "owners": owners[rows]})


class _Objects(LazySequence[RawObject]):
    """The objects in some rows."""

    def __init__(self, columns: RawColumns, rows: range) -> None:
        self._columns, self._rows = columns, rows

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, row: int) -> RawObject:
        """The object of a row."""
        return self._columns.item(self._rows[row])


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a `RawImage` has beside its objects, without `source`, which is made of `name`."""

    path: str
    image_id: int | str
    name: str
    width: int
    height: int


class ColumnImages(LazySequence[RawImage]):
    """Images whose objects are in columns; the source of each is the one file and its name in it."""

    def __init__(self, images: Sequence[ImageFacts], columns: RawColumns, source: str, unit: str) -> None:
        self.columns = columns
        self._images, self._source, self._unit = images, source, unit
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(columns.owners, minlength=len(images)))])

    def __len__(self) -> int:
        return len(self._images)

    def item(self, row: int) -> RawImage:
        """The image of a row."""
        image = self._images[row]
        objects = _Objects(self.columns, range(int(self._ends[row]), int(self._ends[row + 1])))
        source = f"{self._source}, {image.name}"
        return RawImage(image.path, image.image_id, source, image.width, image.height, objects, self._unit)


def columns_of(images: Sequence[RawImage]) -> RawColumns:
    """The objects of images as columns."""
    if isinstance(images, ColumnImages):
        return images.columns
    counts = np.array([len(image.objects) for image in images], np.int64)
    items = [item for image in images for item in image.objects]
    return RawColumns.of_items(items, np.repeat(np.arange(len(counts)), counts))


def whole_numbers(values: Sequence[int]) -> np.ndarray:
    """An array of whole numbers, of Python's where they do not fit."""
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array(values, object)
