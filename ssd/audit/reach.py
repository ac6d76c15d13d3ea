"""What the default boxes can and cannot reach: the best overlap of every object, by its size.

An object whose best default box overlaps it by less than 0.5 is matched to that one box alone (section 2.2), which has
to learn a long way; objects of the same picture that want the same default box get another one. Both are known before
the first step of training. Crowd regions are never matched and not counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from ssd.boxes import area, to_cxcywh
from ssd.data import Dataset
from ssd.multibox.default_boxes import boxes_per_cell, default_boxes
from ssd.multibox.matcher import match
from ssd.settings import BoxSettings
from ssd.structures import Record, Targets

Size = Literal["small", "medium", "large"]
SIZES: tuple[Size, ...] = ("small", "medium", "large")
_SMALL, _LARGE = 32**2, 96**2  # COCO's limits, in pixels of the picture
_AT_ONCE = 4096  # objects; keeps the overlaps in the cache
_MATCHED_PICTURES = 2000  # enough for a share of second choices; whole overlaps are slow


@dataclass(frozen=True)
class Objects:
    """Every object that default boxes should reach, of all pictures of a split."""

    boxes: Float[Tensor, "N 4"]  # fractions of the picture, as the network sees them
    areas: Float32[np.ndarray, "N"]  # in pixels of the picture
    labels: Int[np.ndarray, "N"]
    records: Int[np.ndarray, "N"]  # which picture each is in

    def sizes(self) -> np.ndarray:
        """Place in `SIZES` of every object."""
        return np.digitize(self.areas, [_SMALL, _LARGE])


@dataclass(frozen=True)
class Bucket:
    """The objects of one size."""

    objects: int
    recall: float | None  # share whose best overlap is 0.5 or more; None without objects
    mean: float | None  # of the best overlaps


@dataclass(frozen=True)
class Reach:
    """How well one set of default boxes fits the objects of a split."""

    default_boxes: int
    buckets: Mapping[str, Bucket]  # all, small, medium, large
    unreached: int  # objects with a best overlap below 0.5
    second_choices: int  # objects that do not get their best default box, because another object of the picture does
    matched_objects: int  # among how many of them that was counted
    overlaps: Float[Tensor, "N"]

    @property
    def recall(self) -> float | None:
        """The share of all objects that is reached."""
        return self.buckets["all"].recall


def gather(dataset: Dataset) -> Objects:
    """Collect the objects of a split."""
    boxes, areas, labels, places = [], [], [], []
    for place, record in enumerate(dataset.records):
        real = ~record.crowd
        boxes.append(_fractions(record)[real])
        areas.append(record.areas[real])
        labels.append(record.labels[real])
        places.append(np.full(int(real.sum()), place, np.int64))
    return Objects(
        torch.from_numpy(np.concatenate([np.zeros((0, 4), np.float32), *boxes])),
        np.concatenate([np.zeros(0, np.float32), *areas]),
        np.concatenate([np.zeros(0, np.int64), *labels]),
        np.concatenate([np.zeros(0, np.int64), *places]),
    )


def measure(dataset: Dataset, settings: BoxSettings, threshold: float = 0.5) -> Reach:
    """Overlap one set of default boxes with all objects of a split."""
    objects = gather(dataset)
    overlaps = best_overlaps(objects.boxes, settings)
    sizes = torch.from_numpy(objects.sizes())
    buckets = {"all": _bucket(overlaps, threshold)}
    for place, size in enumerate(SIZES):
        buckets[size] = _bucket(overlaps[sizes == place], threshold)
    tiled = default_boxes(settings)
    second_choices, matched = _second_choices(dataset.records, tiled, threshold)
    unreached = int((overlaps < threshold).sum())
    return Reach(len(tiled), buckets, unreached, second_choices, matched, overlaps)


def best_overlaps(boxes: Float[Tensor, "N 4"], settings: BoxSettings) -> Float[Tensor, "N"]:
    """The IoU of every box with its best default box, without overlapping it with each of them.

    Default boxes of one shape lie on a grid, so width and height of the shared part are chosen apart: the best column
    and the best row together are the best cell. Hundreds of numbers a box stand for thousands of default boxes.
    """
    levels = _levels(settings)
    parts = [_best_of_levels(part, levels) for part in boxes.split(_AT_ONCE)]
    return torch.cat(parts) if parts else boxes.new_zeros(0)


def _levels(settings: BoxSettings) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Columns (G), rows (G) and shapes (A, 2) of every level, read off the tiled boxes so that clipping is in them."""
    counts = [grid * grid * each for grid, each in zip(settings.grids, boxes_per_cell(settings), strict=True)]
    levels = []
    for grid, level in zip(settings.grids, to_cxcywh(default_boxes(settings)).split(counts), strict=True):
        cells = level.view(grid, grid, -1, 4)  # row, column, shape
        levels.append((cells[0, :, 0, 0], cells[:, 0, 0, 1], cells[0, 0, :, 2:]))
    return levels


def _best_of_levels(boxes: Float[Tensor, "N 4"], levels: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Float[Tensor, "N"]:
    best = boxes.new_zeros(len(boxes))
    for columns, rows, shapes in levels:
        width = _shared(boxes[:, 0], boxes[:, 2], columns, shapes[:, 0])
        height = _shared(boxes[:, 1], boxes[:, 3], rows, shapes[:, 1])
        shared = width * height
        union = area(boxes)[:, None] + shapes.prod(dim=1) - shared
        best = torch.maximum(best, (shared / union).amax(dim=1))
    return best


def _shared(
    low: Float[Tensor, "N"], high: Float[Tensor, "N"], centres: Float[Tensor, "G"], sides: Float[Tensor, "A"]
) -> Float[Tensor, "N A"]:
    """The longest stretch that [low, high] shares with a stretch of each length, over all centres."""
    starts, ends = centres[:, None] - sides / 2, centres[:, None] + sides / 2  # G, A
    stretch = torch.minimum(high[:, None, None], ends) - torch.maximum(low[:, None, None], starts)
    return stretch.amax(dim=1).clamp_(min=0)


def _bucket(overlaps: Float[Tensor, "N"], threshold: float) -> Bucket:
    if not len(overlaps):
        return Bucket(0, None, None)
    return Bucket(len(overlaps), float((overlaps >= threshold).float().mean()), float(overlaps.mean()))


def _second_choices(records: Sequence[Record], tiled: Float[Tensor, "K 4"], threshold: float) -> tuple[int, int]:
    """How many objects have to take another than their best default box, and among how many that was counted."""
    step = max(1, len(records) // _MATCHED_PICTURES)
    count = matched = 0
    for record in records[::step]:
        objects = int((~record.crowd).sum())
        matched += objects
        if objects > 1:  # a lone object always gets its best
            count += int(match(tiled, _targets(record), threshold).second_choices)
    return count, matched


def _targets(record: Record) -> Targets:
    """A picture's objects as a batch of one."""
    return Targets(
        boxes=torch.from_numpy(_fractions(record))[None],
        labels=torch.from_numpy(record.labels)[None],
        crowd=torch.from_numpy(record.crowd)[None],
        valid=torch.ones(1, len(record.boxes), dtype=torch.bool),
    )


def _fractions(record: Record) -> Float32[np.ndarray, "N 4"]:
    return np.asarray(record.boxes / np.array([record.width, record.height] * 2, np.float32), np.float32)
