"""Average precision by the rules of the Pascal VOC development kit (VOCevaldet.m), 11-point and area."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ssd.boxes import iou_of_arrays
from ssd.evaluation.metrics import average_precision
from ssd.evaluation.metrics.accumulator import CollectingMetric, mean
from ssd.evaluation.metrics.matches import ClassMatches, Figure, Matches
from ssd.structures import ImageDetections, Record

_log = logging.getLogger(__name__)

_RESAMPLED = (Figure("AP", 0, 0, "area"), Figure("AP07", 0, 0, "eleven"))


@dataclass(frozen=True)
class _Ranked:
    """All detections, best score first."""

    images: Int[np.ndarray, "D"]  # place in the records
    labels: Int[np.ndarray, "D"]
    overlaps: Float[np.ndarray, "D"]  # IoU with the object it overlaps most among those of its class, 0 without one
    objects: Int[np.ndarray, "D"]  # which object that is, numbered over all images
    optional: Bool[np.ndarray, "D"]  # whether it is difficult or crowd, so that a match is neither right nor wrong


class VocMetric(CollectingMetric):
    """AP at one IoU threshold, per class and mean.

    A detection is matched to the object of its class that it overlaps most, matched or not. It is right if the IoU is
    at least the threshold and no detection with a higher score was matched to that object. Difficult objects and
    crowds, and the detections matched to them, are left out. A class without objects has AP None and is left out of the
    mean.

    The kit's corners are whole pixels that belong to the box, so its sides are `max - min + 1`. `inclusive` keeps that:
    the readers shift VOC corners but do not move the far ones outward, and other SSD code does the same.
    """

    name = "voc"
    headline = "AP"

    def __init__(
        self,
        records: Sequence[Record],
        class_names: Sequence[str],
        *,
        iou_threshold: float = 0.5,
        inclusive: bool = True,
    ) -> None:
        super().__init__(records, class_names)
        self._iou_threshold = iou_threshold
        self._inclusive = inclusive

    def fresh(self, records: Sequence[Record]) -> "VocMetric":
        """An empty metric of the same settings over other records."""
        return VocMetric(records, self.class_names, iou_threshold=self._iou_threshold, inclusive=self._inclusive)

    def compute(self) -> dict[str, Any]:
        """`AP` by area, `AP07` by 11 points, and both per class."""
        ranked = self._rank()
        if not len(ranked.labels):
            _log.warning("nothing was detected in %d images: every AP is 0", len(self.records))
        per_class: dict[str, dict[str, Any]] = {}
        objects = self._collected.objects_per_class()
        for label, name in enumerate(self.class_names):
            positives = int(objects[label])
            hits, counted = _hits(ranked, label, self._iou_threshold)
            hits = hits[counted]
            per_class[name] = {
                "AP": average_precision.area(hits, positives) if positives else None,
                "AP07": average_precision.eleven_point(hits, positives) if positives else None,
                "objects": positives,
            }
        means = {key: mean([figures[key] for figures in per_class.values()]) for key in ("AP", "AP07")}
        counts = {
            "images": len(self.records),
            "objects": int(objects.sum()),
            "detections": len(ranked.labels),
        }
        return {**means, "iou_threshold": self._iou_threshold, **counts, "per_class": per_class}

    def matches(self) -> Matches:
        """The matched detections, for figures of other choices of the images."""
        ranked, records = self._rank(), self.records
        table = []
        for label in range(len(self.class_names)):
            hits, counted = _hits(ranked, label, self._iou_threshold)
            objects = [int((record.labels == label)[~(record.crowd | record.difficult)].sum()) for record in records]
            images = ranked.images[ranked.labels == label]
            table.append(ClassMatches(images, hits[None], counted[None], np.array(objects, np.int64)))
        return Matches(self.class_names, len(records), (tuple(table),), _RESAMPLED)

    def _rank(self) -> _Ranked:
        images, overlaps, objects, optional, labels, scores = [], [], [], [], [], []
        first = 0
        for place, (record, found) in enumerate(self._collected):
            images.append(np.full(len(found), place))
            overlap, index = _answers_for(record, found, self._inclusive)
            overlaps.append(overlap)
            objects.append(first + index)
            # an image without objects has no overlaps, so the index does not matter
            ignored = np.append(record.difficult | record.crowd, False)
            optional.append(ignored[index])
            labels.append(found.labels)
            scores.append(found.scores)
            first += len(record.labels)
        if not labels:
            none = np.zeros(0, int)
            return _Ranked(none, none, np.zeros(0), none, np.zeros(0, bool))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        columns = (np.concatenate(column)[order] for column in (images, labels, overlaps, objects, optional))
        return _Ranked(*columns)


def _answers_for(
    record: Record, found: ImageDetections, inclusive: bool
) -> tuple[Float[np.ndarray, "D"], Int[np.ndarray, "D"]]:
    """The greatest IoU of each detection with an object of its class, and that object; ties go to the first."""
    if not len(record.labels):
        return np.zeros(len(found.labels)), np.zeros(len(found.labels), dtype=np.int64)
    overlaps = iou_of_arrays(found.boxes, record.boxes, inclusive=inclusive)
    overlaps[found.labels[:, None] != record.labels[None, :]] = 0.0
    best = overlaps.argmax(axis=1)
    return overlaps[np.arange(len(best)), best], best


def _hits(ranked: _Ranked, label: int, iou_threshold: float) -> tuple[Bool[np.ndarray, "H"], Bool[np.ndarray, "H"]]:
    """For each detection of one class, whether it is the first match of an object, and whether it counts at all."""
    mine = ranked.labels == label
    answers, objects = ranked.overlaps[mine] >= iou_threshold, ranked.objects[mine]
    ignored = answers & ranked.optional[mine]
    hits = np.zeros(len(answers), dtype=bool)
    rows = np.flatnonzero(answers)
    hits[rows[np.unique(objects[rows], return_index=True)[1]]] = True
    return hits & ~ignored, ~ignored
