"""Images without labels beside a training set: complete for no class, so that nothing is learned from their labels."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd.data.dataset import Dataset
from ssd.data.joined_records import CompleteClasses, JoinedRecords
from ssd.images.decode import read_size
from ssd.structures import Record


def with_unlabelled(train: Dataset, images: Sequence[Path]) -> Dataset:
    """The training set with these images after its own.

    Raises:
        ImageDecodeError: one of them is no image.
    """
    records = tuple(_record(path) for path in images)
    kept = np.arange(len(train.class_names))
    joined = JoinedRecords([train.records, records], [kept, kept])
    before = train.complete or CompleteClasses((len(train),), np.ones((1, len(kept)), bool))
    nothing = np.zeros((1, len(kept)), bool)
    complete = CompleteClasses((*before.ends, len(joined)), np.concatenate([before.classes, nothing]))
    return dataclasses.replace(train, records=joined, complete=complete)


def _record(path: Path) -> Record:
    width, height = read_size(path)
    nothing = np.zeros(0, bool)
    return Record(
        path=str(path),
        image_id=path.name,
        width=width,
        height=height,
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        difficult=nothing,
        crowd=nothing,
        areas=np.zeros(0, np.float32),
    )
