"""What every metric starts from: the records, and for each the detections that were handed in, checked once."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from ssd.errors import EvaluationError
from ssd.structures import ImageDetections, Record


@runtime_checkable
class Metric(Protocol):
    """Takes the detections of one image at a time, then gives figures; a class without objects has the figure None."""

    @property
    def name(self) -> str:
        """What the figures are filed under."""

    @property
    def headline(self) -> str:
        """The figure that sums up the others: 1 is perfect."""

    @property
    def records(self) -> tuple[Record, ...]:
        """The ground truth."""

    def fresh(self, records: Sequence[Record]) -> "Metric":
        """An empty metric of the same settings over other records."""

    def update(self, image_id: int | str, found: ImageDetections) -> None:
        """Hand in everything that was found in one image, in pixels; an image without detections is handed in too."""

    def compute(self) -> dict[str, Any]:
        """Figures in plain JSON types."""


class Collected:
    """The detections of a set of records, each record exactly once."""

    def __init__(self, records: Sequence[Record], class_names: Sequence[str]) -> None:
        self.records = tuple(records)
        self.class_names = tuple(class_names)
        self._known = {record.image_id for record in self.records}
        self._found: dict[int | str, ImageDetections] = {}
        if len(self._known) != len(self.records):
            twice = len(self.records) - len(self._known)
            raise EvaluationError(f"{twice} image ids occur twice", place="ground truth", remedy="Make them unique.")

    def add(self, image_id: int | str, found: ImageDetections) -> None:
        """Keep the detections of one image, in pixels.

        Raises:
            EvaluationError: the image is unknown or was handed in before, a number is not finite, or a label is not
                one of the classes. pycocotools would turn a NaN score into an AP of 1.0 without a word.
        """
        place = f"detections of image {image_id!r}"
        if image_id not in self._known:
            raise EvaluationError("no such image in the ground truth", place=place, remedy="Evaluate the same split.")
        if image_id in self._found:
            raise EvaluationError("handed in twice", place=place, remedy="Give each image to one process.")
        broken = ~(np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores))
        if broken.any():
            problem = f"{int(broken.sum())} of {len(found)} have a score or coordinate that is not finite"
            raise EvaluationError(problem, place=place, remedy="Are the weights finite? Try precision fp32.")
        outside = (found.labels < 0) | (found.labels >= len(self.class_names))
        if outside.any():
            problem = f"label {int(found.labels[outside][0])} is outside 0..{len(self.class_names) - 1}"
            raise EvaluationError(problem, place=place, remedy="Labels start at 0, without background.")
        self._found[image_id] = found

    def __iter__(self) -> Iterator[tuple[Record, ImageDetections]]:
        """Go through the records in their order; it is an error if one was never handed in."""
        missing = [record.image_id for record in self.records if record.image_id not in self._found]
        if missing:
            problem = f"{len(missing)} of {len(self.records)} images were never handed in, first {missing[0]!r}"
            raise EvaluationError(problem, place="detections", remedy="Hand in images without detections as well.")
        for record in self.records:
            yield record, self._found[record.image_id]

    def objects_per_class(self) -> Int[np.ndarray, "C"]:
        """How many objects of each class count: neither crowd nor difficult."""
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for record in self.records:
            np.add.at(counts, record.labels[~(record.crowd | record.difficult)], 1)
        return counts


def annotation_hash(records: Sequence[Record], class_names: Sequence[str]) -> str:
    """Name a ground truth by 16 hex digits: the same for the same annotations, wherever the images lie."""
    digest = hashlib.sha256("\0".join(class_names).encode())
    for record in records:
        digest.update(f"\0{record.image_id}\0{record.width}x{record.height}\0{len(record.labels)}\0".encode())
        digest.update(record.boxes.astype("<f4").tobytes() + record.labels.astype("<i8").tobytes())
        digest.update(record.difficult.tobytes() + record.crowd.tobytes() + record.areas.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the figures that exist; None where there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
