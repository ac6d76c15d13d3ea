"""The details behind the figures: curves, confusions, calibration, the worst mistakes.

All are at IoU 0.5, with the detections classified by `error_breakdown`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ssd.evaluation.metrics.accumulator import CollectingMetric, mean
from ssd.evaluation.metrics.calibration import Calibration, calibrate
from ssd.evaluation.metrics.confusion import confusion_matrix
from ssd.evaluation.metrics.curves import Curve, curve
from ssd.evaluation.metrics.error_breakdown import Judged, Kind, judge
from ssd.structures import ImageDetections, Record

USUAL_THRESHOLD = 0.5
"""The threshold if no detection is right, so that there is no best one."""


@dataclass(frozen=True)
class FalseAlarm:
    """A detection that is wrong; its box in pixels."""

    image: int  # place in the records
    box: tuple[float, float, float, float]
    label: int
    score: float
    kind: str  # classification, location, both, duplicate, background


@dataclass(frozen=True)
class Miss:
    """An object that is not found at the threshold; its box in pixels."""

    image: int
    box: tuple[float, float, float, float]
    label: int
    score: float  # of the detection that finds it below the threshold; 0 if there is none


class Details(CollectingMetric):
    """A metric with a short `compute` and methods for the details."""

    name = "details"
    headline = "AP50"

    def fresh(self, records: Sequence[Record]) -> "Details":
        """An empty metric of the same settings over other records."""
        return Details(records, self.class_names)

    def compute(self) -> dict[str, Any]:
        """`AP50`, the best threshold and the expected calibration error, in plain JSON types."""
        calibration = self.calibration()
        return {
            "AP50": mean([each.area for each in self.curves().values()]),
            "best_threshold": self.overall().best_threshold(),
            "calibration_error": calibration.error(),
        }

    def found(self, image: int) -> ImageDetections:
        """The detections of the image with this index in the records."""
        return self._images[image][1]

    def judged(self) -> list[Judged]:
        """The detections of every image with their kinds, in the order of the records."""
        return [judged for _, _, judged in self._images]

    def curves(self) -> dict[str, Curve]:
        """Precision and recall of every class."""
        scores, labels, hits = self._ranked
        objects = self._collected.objects_per_class()
        return {
            name: curve(scores[labels == label], hits[labels == label], int(objects[label]))
            for label, name in enumerate(self.class_names)
        }

    def objects(self) -> dict[str, int]:
        """Number of objects of each class that count."""
        return dict(zip(self.class_names, self._collected.objects_per_class().tolist(), strict=True))

    def overall(self) -> Curve:
        """Precision and recall of all classes together, for one threshold on all of them."""
        scores, _, hits = self._ranked
        return curve(scores, hits, int(self._collected.objects_per_class().sum()))

    def threshold(self) -> float:
        """The score with the greatest F1 over all classes; 0.5 if no detection is right."""
        best = self.overall().best_threshold()
        return USUAL_THRESHOLD if best is None else best

    def calibration(self, bins: int = 10) -> Calibration:
        """The scores compared with the shares of right detections."""
        scores, _, hits = self._ranked
        return calibrate(scores, hits, bins)

    def confusion(self, threshold: float) -> Int[np.ndarray, "C C"]:
        """The confusion matrix; see `confusion_matrix`."""
        pairs = ((record, found) for record, found, _ in self._images)
        return confusion_matrix(pairs, len(self.class_names), threshold)

    def false_alarms(self, threshold: float) -> list[FalseAlarm]:
        """Wrong detections with scores of at least `threshold`, the highest first."""
        alarms = [
            FalseAlarm(
                place,
                _box(found.boxes[row]),
                int(found.labels[row]),
                float(found.scores[row]),
                Kind(int(judged.kinds[row])).name.lower(),
            )
            for place, (_, found, judged) in enumerate(self._images)
            for row in np.flatnonzero((judged.kinds > Kind.SPARED) & (judged.scores >= threshold))
        ]
        return sorted(alarms, key=lambda alarm: -alarm.score)

    def misses(self, threshold: float) -> list[Miss]:
        """Objects not found at `threshold`: those never found first, then the largest first."""
        misses = []
        for place, (record, _, judged) in enumerate(self._images):
            scores = _found_at(judged)
            for row in np.flatnonzero(judged.counted & ((scores < threshold) | ~judged.found)):
                misses.append(Miss(place, _box(record.boxes[row]), int(record.labels[row]), float(scores[row])))
        return sorted(misses, key=lambda miss: (miss.score, -_area(miss.box)))

    def found_scores(self) -> Iterator[tuple[Record, Float[np.ndarray, "N"]]]:
        """Yield each record and the score that finds each of its objects: 0 for never, NaN if it does not count."""
        for record, _, judged in self._images:
            yield record, np.where(judged.counted, _found_at(judged), np.nan)

    @cached_property
    def _images(self) -> list[tuple[Record, ImageDetections, Judged]]:
        return [(record, found, judge(record, found)) for record, found in self._collected]

    @cached_property
    def _ranked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, labels and hits of all detections that count."""
        columns: list[list[np.ndarray]] = [[np.zeros(0, float)], [np.zeros(0, int)], [np.zeros(0, bool)]]
        for _, _, judged in self._images:
            counts = judged.kinds != Kind.SPARED
            hits = judged.kinds == Kind.CORRECT
            for column, values in zip(columns, (judged.scores, judged.labels, hits), strict=True):
                column.append(values[counts])
        scores, labels, hits = map(np.concatenate, columns)
        return scores, labels, hits


def _found_at(judged: Judged) -> Float[np.ndarray, "N"]:
    """The score of the detection that finds each object, 0 without one."""
    scores = np.zeros(len(judged.counted))
    right = judged.kinds == Kind.CORRECT
    scores[judged.targets[right]] = judged.scores[right]
    return scores


def _box(row: Float[np.ndarray, "4"]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = row.tolist()
    return x1, y1, x2, y2


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
