"""The tiles of a data set's images as images of their own, cut out when they are loaded: nothing is written to disk.

An object that a tile's border cuts is marked as a crowd region in that tile: the matcher leaves the default boxes on
it out of the loss, so its visible part is neither an object nor background. The windows of an image include the whole
image, so every object is whole in at least one of them; one that is smaller than the overlap is so in a tile too.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import SupportsIndex, TypeVar, overload

import numpy as np
from jaxtyping import Float

from ssd.data.dataset import Dataset
from ssd.data.index import sizes_of
from ssd.structures import Record, Sample
from ssd.tiles import OVERLAP, Tiles, Window, has_tiles, windows

Annotated = TypeVar("Annotated", Record, Sample)


def objects_in(image: Annotated, window: Window, height: int, width: int) -> Annotated:
    """The objects of an image of `height` x `width` pixels that show in a window, in pixels of the window.

    Those that it cuts become crowd regions, with the box of what shows. All else is as it was given.
    """
    inside: Float[np.ndarray, "N 4"] = image.boxes.clip(0, np.array([width, height] * 2, np.float32))
    shown = inside.clip(np.array(window[:2] * 2, np.float32), np.array(window[2:] * 2, np.float32))
    kept = (shown[:, 2:] > shown[:, :2]).all(axis=1)
    cut = (shown != inside).any(axis=1)
    moved = (shown - np.array(window[:2] * 2, np.float32)).astype(np.float32)
    return dataclasses.replace(
        image,
        boxes=moved[kept],
        labels=image.labels[kept],
        difficult=image.difficult[kept],
        crowd=(image.crowd | cut)[kept],
    )


class TiledRecords(Sequence[Record]):
    """The windows of every image, as records that are made when asked for.

    Neighbours are of different images, so that the ones after a bad image can stand in for it: round r has the window
    r + i of image i, counted around.
    """

    def __init__(self, records: Sequence[Record], tiles: Tiles, input_size: int) -> None:
        self.images = records
        sizes = sizes_of(records)
        self._plans = {
            (width, height): windows(height, width, tiles, OVERLAP, input_size)
            for width, height in set(map(tuple, sizes.tolist()))
        }
        counts = np.array([len(self._plans[width, height]) for width, height in sizes.tolist()], np.int64)
        owners = np.repeat(np.arange(len(counts)), counts)
        rounds = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = np.argsort(rounds, kind="stable")
        self._owners = owners[order]
        self._numbers = ((rounds + owners) % counts[owners])[order]

    def place(self, row: int) -> tuple[int, Window]:
        """The number of the image of a row, and its window."""
        image = int(self._owners[row])
        record = self.images[image]
        return image, self._plans[record.width, record.height][self._numbers[row]]

    def __len__(self) -> int:
        return len(self._owners)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Record, ...]: ...

    def __getitem__(self, place: SupportsIndex | slice) -> Record | tuple[Record, ...]:
        if isinstance(place, slice):
            return tuple(self[row] for row in range(*place.indices(len(self))))
        image, window = self.place(range(len(self))[place])
        whole = self.images[image]
        seen = objects_in(whole, window, whole.height, whole.width)
        left, top, right, bottom = window
        sides = seen.boxes[:, 2:] - seen.boxes[:, :2]
        return dataclasses.replace(seen, width=right - left, height=bottom - top, areas=sides.prod(axis=1))

    def __iter__(self) -> Iterator[Record]:
        return (self[row] for row in range(len(self)))


@dataclass(frozen=True)
class TiledDataset:
    """A data set for the loaders; each image is decoded once for every window of it."""

    whole: Dataset
    records: TiledRecords

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names; labels are indices into them."""
        return self.whole.class_names

    def __len__(self) -> int:
        return len(self.records)

    def load(self, index: int, shrink: int = 1) -> Sample:
        """Decode the image and cut the window out, at 1/`shrink` of its size or less where the window begins there."""
        image, window = self.records.place(index)
        left, top, right, bottom = window
        while left % shrink or top % shrink:
            shrink //= 2
        sample = self.whole.load(image, shrink)
        record = self.whole.records[image]
        seen = objects_in(sample, window, record.height, record.width)
        rows = slice(top // sample.shrink, -(-bottom // sample.shrink))
        columns = slice(left // sample.shrink, -(-right // sample.shrink))
        return dataclasses.replace(seen, image=sample.image[rows, columns])


def tiled(dataset: Dataset, tiles: Tiles, input_size: int) -> Dataset | TiledDataset:
    """The windows of a data set's images for a network with this input; the data set itself for a single tile."""
    return TiledDataset(dataset, TiledRecords(dataset.records, tiles, input_size)) if has_tiles(tiles) else dataset
