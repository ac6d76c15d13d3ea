"""The tiles of a data set's images as images of their own, cut out when they are loaded: nothing is written to disk.

An object that a tile's border cuts is marked as a crowd region in that tile: the matcher leaves the default boxes on
it out of the loss, so its visible part is neither an object nor background. The windows of an image include the whole
image, so every object is whole in at least one of them; one that is smaller than the overlap is so in a tile too.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from ssd.data.dataset import Dataset
from ssd.data.index import sizes_of
from ssd.data.lazy import LazySequence
from ssd.structures import Record, Sample
from ssd.tiles import OVERLAP, Tiles, Window, has_tiles, windows


@dataclass(frozen=True)
class _Shown:
    """The objects of an image that show in a window."""

    rows: Bool[np.ndarray, "N"]  # which of the image's
    boxes: Float32[np.ndarray, "M 4"]  # what shows of each, in pixels of the window
    cut: Bool[np.ndarray, "M"]


def _objects_in(boxes: Float32[np.ndarray, "N 4"], window: Window, height: int, width: int) -> _Shown:
    corner, end = (np.array(side * 2, np.float32) for side in (window[:2], window[2:]))
    inside = boxes.clip(0, np.array([width, height] * 2, np.float32))  # its own border cuts nothing
    shown = inside.clip(corner, end)
    rows = np.asarray((shown[:, 2:] > shown[:, :2]).all(axis=1))
    return _Shown(rows, (shown - corner)[rows], (shown != inside).any(axis=1)[rows])


def record_in(record: Record, window: Window) -> Record:
    """A window of an image as a record; objects that it cuts become crowd regions, with the box of what shows."""
    seen = _objects_in(record.boxes, window, record.height, record.width)
    return dataclasses.replace(
        record,
        width=window.right - window.left,
        height=window.bottom - window.top,
        boxes=seen.boxes,
        labels=record.labels[seen.rows],
        difficult=record.difficult[seen.rows],
        crowd=record.crowd[seen.rows] | seen.cut,
        areas=(seen.boxes[:, 2:] - seen.boxes[:, :2]).prod(axis=1),
    )


def sample_in(sample: Sample, window: Window, height: int, width: int, pixels: UInt8[np.ndarray, "_ _ 3"]) -> Sample:
    """A window with these pixels, of a sample of `height` x `width`; objects as for `record_in`."""
    seen = _objects_in(sample.boxes, window, height, width)
    return dataclasses.replace(
        sample,
        image=pixels,
        boxes=seen.boxes,
        labels=sample.labels[seen.rows],
        difficult=sample.difficult[seen.rows],
        crowd=sample.crowd[seen.rows] | seen.cut,
    )


class TiledRecords(LazySequence[Record]):
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
        self.owners = owners[order]  # the number of each row's image
        self._numbers = ((rounds + owners) % counts[owners])[order]

    def place(self, row: int) -> tuple[int, Window]:
        """The number of the image of a row, and its window."""
        image = int(self.owners[row])
        record = self.images[image]
        return image, self._plans[record.width, record.height][self._numbers[row]]

    def __len__(self) -> int:
        return len(self.owners)

    def item(self, row: int) -> Record:
        """The record of a row."""
        image, window = self.place(row)
        return record_in(self.images[image], window)


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
        rows = slice(top // sample.shrink, -(-bottom // sample.shrink))
        columns = slice(left // sample.shrink, -(-right // sample.shrink))
        return sample_in(sample, window, record.height, record.width, sample.image[rows, columns])


def tiled(dataset: Dataset, tiles: Tiles, input_size: int) -> Dataset | TiledDataset:
    """The windows of a data set's images for a network with this input; the data set itself for a single tile."""
    return TiledDataset(dataset, TiledRecords(dataset.records, tiles, input_size)) if has_tiles(tiles) else dataset
