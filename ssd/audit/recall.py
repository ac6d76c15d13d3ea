"""The reach of the default boxes: the best IoU of every object, by its size.

An object with a best IoU below 0.5 is matched to that one default box alone (section 2.2), whose offsets are then
large; of objects with the same best default box all but one get another box. Both are known before training. Crowd
regions are never matched and not counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ssd.data.dataset import Dataset
from ssd.data.formats import paths as folders
from ssd.data.objects import SIZES, Objects, fractions
from ssd.multibox.best_overlaps import REACHED, best_overlaps
from ssd.multibox.default_boxes import default_boxes
from ssd.multibox.matcher import match
from ssd.settings import BoxSettings, LossRules
from ssd.structures import Record, Targets

_MATCHED_IMAGES = 500  # enough for a share, since the matcher computes all overlaps


@dataclass(frozen=True)
class Bucket:
    """The objects of one size."""

    objects: int
    recall: float | None  # share with a best IoU of 0.5 or more; None without objects
    mean: float | None  # of the best IoUs


@dataclass(frozen=True)
class Hard:
    """One object that its default box barely overlaps; sides in pixels of the network's input."""

    path: str
    name: str
    width: float
    height: float
    overlap: float


@dataclass(frozen=True)
class MissedBestBox:
    """Objects that are not matched to their best default box, because another object of the image is."""

    count: int
    objects: int  # number of objects that were examined


@dataclass(frozen=True)
class Reach:
    """How well one set of default boxes fits the objects of a split."""

    default_boxes: int
    buckets: Mapping[str, Bucket]  # all, small, medium, large
    unreached: int  # objects with a best IoU below 0.5
    overlaps: Float[Tensor, "N"]

    @property
    def recall(self) -> float | None:
        """The share of all objects with a best IoU of 0.5 or more."""
        return self.buckets["all"].recall


def measure(objects: Objects, settings: BoxSettings) -> Reach:
    """Overlap one set of default boxes with all objects of a split."""
    overlaps = best_overlaps(objects.boxes, settings)
    sizes = torch.from_numpy(objects.sizes())
    buckets = {"all": bucket(overlaps)}
    for place, size in enumerate(SIZES):
        buckets[size] = bucket(overlaps[sizes == place])
    return Reach(len(default_boxes(settings)), buckets, int((overlaps < REACHED).sum()), overlaps)


def bucket(overlaps: Float[Tensor, "N"]) -> Bucket:
    """Sum up the best overlaps of some objects."""
    if not len(overlaps):
        return Bucket(0, None, None)
    return Bucket(len(overlaps), float((overlaps >= REACHED).float().mean()), float(overlaps.mean()))


def hardest(
    dataset: Dataset, objects: Objects, overlaps: Float[Tensor, "N"], input_size: int, count: int = 10
) -> list[Hard]:
    """The objects of a data set with the smallest `overlaps`, as far as they are below 0.5."""
    order = overlaps.argsort(stable=True)[:count].tolist()
    found = []
    for row in order:
        if overlaps[row] >= REACHED:
            break
        record = dataset.records[objects.records[row]]
        low_x, low_y, high_x, high_y = objects.boxes[row].tolist()
        found.append(
            Hard(
                path=folders.relative(Path(record.path), Path(dataset.name)),
                name=dataset.class_names[objects.labels[row]],
                width=round((high_x - low_x) * input_size, 1),
                height=round((high_y - low_y) * input_size, 1),
                overlap=float(overlaps[row]),
            )
        )
    return found


def count_missed_best_box(dataset: Dataset, settings: BoxSettings) -> MissedBestBox:
    """Match the objects of a split to the default boxes, on an even sample where there are many images."""
    tiled = default_boxes(settings)
    count = objects = 0
    for record in dataset.records[:: -(-len(dataset) // _MATCHED_IMAGES) or 1]:
        here = int((~record.crowd).sum())
        objects += here
        if here > 1:  # a single object always gets its best box
            count += int(match(tiled, _targets(record), LossRules(match_iou=REACHED)).missed_best_box)
    return MissedBestBox(count, objects)


def _targets(record: Record) -> Targets:
    """An image's objects as a batch of one."""
    return Targets(
        boxes=torch.from_numpy(fractions(record))[None],
        labels=torch.from_numpy(record.labels)[None],
        crowd=torch.from_numpy(record.crowd)[None],
        valid=torch.ones(1, len(record.boxes), dtype=torch.bool),
    )
