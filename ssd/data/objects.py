"""The objects of a data set as arrays: boxes, areas, labels, and which image each is in."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from ssd.data.dataset import Dataset
from ssd.structures import Record

_SMALL, _LARGE = 32**2, 96**2  # COCO's limits, in pixels of the image
Size = Literal["small", "medium", "large"]
SIZES: tuple[Size, ...] = ("small", "medium", "large")


@dataclass(frozen=True)
class Objects:
    """Every object that default boxes should reach, of all images of a split."""

    boxes: Float[Tensor, "N 4"]  # fractions of the image, as the network sees them
    areas: Float32[np.ndarray, "N"]  # in pixels of the image
    labels: Int[np.ndarray, "N"]
    records: Int[np.ndarray, "N"]  # which image each is in

    def sizes(self) -> Int[np.ndarray, "N"]:
        """Place in `SIZES` of every object."""
        return np.asarray(np.digitize(self.areas, [_SMALL, _LARGE]))


def gather(dataset: Dataset) -> Objects:
    """Collect the objects of a split."""
    boxes, areas, labels, places = [], [], [], []
    for place, record in enumerate(dataset.records):
        real = ~record.crowd
        boxes.append(fractions(record)[real])
        areas.append(record.areas[real])
        labels.append(record.labels[real])
        places.append(np.full(int(real.sum()), place, np.int64))
    return Objects(
        torch.from_numpy(np.concatenate([np.zeros((0, 4), np.float32), *boxes])),
        np.concatenate([np.zeros(0, np.float32), *areas]),
        np.concatenate([np.zeros(0, np.int64), *labels]),
        np.concatenate([np.zeros(0, np.int64), *places]),
    )


def fractions(record: Record) -> Float32[np.ndarray, "N 4"]:
    """The boxes of an image as fractions of its sides."""
    return np.asarray(record.boxes / np.array([record.width, record.height] * 2, np.float32), np.float32)
