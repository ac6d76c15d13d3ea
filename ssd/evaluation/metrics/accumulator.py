"""The basis of every metric: the records and their detections, checked once."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from ssd.errors import EvaluationError
from ssd.structures import ImageDetections, Record


@runtime_checkable
class Metric(Protocol):
    """Collects the detections image by image, then computes figures; a class without objects has the figure None."""

    @property
    def name(self) -> str:
        """The name of the metric."""

    @property
    def headline(self) -> str:
        """The name of its main figure, which is 1 for perfect detections."""

    @property
    def records(self) -> Sequence[Record]:
        """The ground truth."""

    def fresh(self, records: Sequence[Record]) -> "Metric":
        """An empty metric of the same settings over other records."""

    def update(self, image_id: int | str, found: ImageDetections) -> None:
        """Add the detections of one image, in pixels; required for an image without detections too."""

    def compute(self) -> dict[str, Any]:
        """The figures, in plain JSON types."""


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
            EvaluationError: the image is unknown or was added before, a number is not finite, or a label is not one
                of the classes. pycocotools would silently turn a NaN score into an AP of 1.0.
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
        """Yield the records in order with their detections; it is an error if an image was not added."""
        missing = [record.image_id for record in self.records if record.image_id not in self._found]
        if missing:
            problem = f"{len(missing)} of {len(self.records)} images were never handed in, first {missing[0]!r}"
            raise EvaluationError(problem, place="detections", remedy="Hand in images without detections as well.")
        for record in self.records:
            yield record, self._found[record.image_id]

    def objects_per_class(self) -> Int[np.ndarray, "C"]:
        """Number of objects of each class, without crowd regions and difficult objects."""
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for record in self.records:
            np.add.at(counts, record.labels[~(record.crowd | record.difficult)], 1)
        return counts


class CollectingMetric:
    """What the metrics share: they collect the detections of their records."""

    def __init__(self, records: Sequence[Record], class_names: Sequence[str]) -> None:
        self._collected = Collected(records, class_names)

    @property
    def records(self) -> tuple[Record, ...]:
        """The ground truth."""
        return self._collected.records

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self._collected.class_names

    def update(self, image_id: int | str, found: ImageDetections) -> None:
        """Add the detections of one image, in pixels; see `Collected.add`."""
        self._collected.add(image_id, found)


def annotation_hash(records: Sequence[Record], class_names: Sequence[str]) -> str:
    """A digest of the annotations as 16 hex digits, independent of the folder of the images."""
    digest = hashlib.sha256("\0".join(class_names).encode())
    for record in records:
        facts = f"\0{record.image_id}\0{record.width}x{record.height}\0{len(record.labels)}\0"
        digest.update(facts.encode("utf-8", "surrogatepass"))  # an id may be a file's name, which may be any bytes
        digest.update(record.boxes.astype("<f4").tobytes() + record.labels.astype("<i8").tobytes())
        digest.update(record.difficult.tobytes() + record.crowd.tobytes() + record.areas.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the figures that are not None; None if all are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
