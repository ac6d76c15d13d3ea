"""Kinds of mistakes and their cost in AP, after Bolya et al., "TIDE", 2020."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ssd.boxes import intersection_of_arrays, iou_of_arrays
from ssd.evaluation.metrics import average_precision
from ssd.evaluation.metrics.accumulator import CollectingMetric
from ssd.structures import ImageDetections, Record

FOREGROUND, BACKGROUND = 0.5, 0.1  # least IoU of a right box, and IoU below which a box is on background


class Kind(IntEnum):
    """The kind of a detection. The last five are mistakes; the sixth mistake, `missed`, is of objects."""

    CORRECT = 0
    SPARED = 1  # matches a difficult object or a crowd
    CLASSIFICATION = 2  # an object of another class, with an IoU of 0.5 or more
    LOCATION = 3  # an object of its class, with an IoU of 0.1 to 0.5
    BOTH = 4  # an object of another class, with an IoU of 0.1 to 0.5
    DUPLICATE = 5  # an object that a better-scored detection found
    BACKGROUND = 6  # no object


@dataclass(frozen=True)
class Judged:
    """Detections with their kinds, and the objects, of one image or of all."""

    scores: Float[np.ndarray, "D"]
    labels: Int[np.ndarray, "D"]
    kinds: Int[np.ndarray, "D"]
    targets: Int[np.ndarray, "D"]  # the object of a right detection, classification or location mistake, else -1
    object_labels: Int[np.ndarray, "N"]
    counted: Bool[np.ndarray, "N"]
    found: Bool[np.ndarray, "N"]
    missed: Bool[np.ndarray, "N"]  # not found, and not the object of a classification or location mistake


class ErrorBreakdown(CollectingMetric):
    """Counts of each kind of mistake, and the rise of AP50 without it (dAP).

    Each kind is corrected alone: a wrong class or place is corrected (or the box removed, if its object is found
    already), duplicates and background are removed, missed objects are no longer counted. AP50 is the area under the
    curve here, so it may differ from COCO's 101-point figure in the third digit.
    """

    name = "errors"
    headline = "AP50"

    def fresh(self, records: Sequence[Record]) -> "ErrorBreakdown":
        """An empty metric of the same settings over other records."""
        return ErrorBreakdown(records, self.class_names)

    def compute(self) -> dict[str, Any]:
        """`AP50`, and for each kind of mistake its `count` and `dAP`; dAP is None without objects."""
        judged = _join([judge(record, found) for record, found in self._collected])
        before = _ap50(judged)
        figures: dict[str, Any] = {"AP50": before}
        for kind in Kind:
            if kind > Kind.SPARED:
                after = _ap50(_mend(judged, kind))
                figures[kind.name.lower()] = {"count": int((judged.kinds == kind).sum()), "dAP": _rise(before, after)}
        figures["missed"] = {
            "count": int(judged.missed.sum()),
            "dAP": _rise(before, _ap50(judged, without_missed=True)),
        }
        return figures


def judge(record: Record, found: ImageDetections) -> Judged:
    """Determine the kind of every detection of one image, and the objects that were missed."""
    counted = ~(record.crowd | record.difficult)
    overlaps = iou_of_arrays(found.boxes, record.boxes)
    same = found.labels[:, None] == record.labels[None, :]
    matched = match_best_first(np.where(same & counted, overlaps, 0.0), found.scores)
    taken = np.isin(np.arange(len(counted)), matched)
    own, own_object = _best(np.where(same & counted, overlaps, 0.0))
    other, other_object = _best(np.where(~same & counted, overlaps, 0.0))
    kinds = np.select(
        [
            matched >= 0,
            ignored_detections(record, found),
            (own >= BACKGROUND) & (own < FOREGROUND),
            other >= FOREGROUND,
            own >= FOREGROUND,
            np.maximum(own, other) < BACKGROUND,
        ],
        [Kind.CORRECT, Kind.SPARED, Kind.LOCATION, Kind.CLASSIFICATION, Kind.DUPLICATE, Kind.BACKGROUND],
        default=Kind.BOTH,
    )
    mistaken = [kinds == Kind.LOCATION, kinds == Kind.CLASSIFICATION]
    targets = np.select(mistaken, [own_object, other_object], default=matched)
    meant = np.zeros(len(counted), dtype=bool)
    meant[targets[targets >= 0]] = True
    missed = counted & ~taken & ~meant
    return Judged(found.scores, found.labels, kinds, targets, record.labels, counted, taken, missed)


def match_best_first(overlaps: Float[np.ndarray, "D N"], scores: Float[np.ndarray, "D"]) -> Int[np.ndarray, "D"]:
    """Match each detection, best score first, to the free object it overlaps most, as COCO does; -1 for none."""
    matched, taken = np.full(overlaps.shape[0], -1), np.zeros(overlaps.shape[1], dtype=bool)
    able = np.flatnonzero((overlaps >= FOREGROUND).any(axis=1))
    for row in able[np.argsort(-scores[able], kind="stable")]:
        free = np.where(taken, 0.0, overlaps[row])
        best = int(free.argmax())
        if free[best] >= FOREGROUND:
            matched[row], taken[best] = best, True
    return matched


def _best(overlaps: Float[np.ndarray, "D N"]) -> tuple[Float[np.ndarray, "D"], Int[np.ndarray, "D"]]:
    if not overlaps.shape[1]:
        return np.zeros(len(overlaps)), np.zeros(len(overlaps), dtype=np.int64)
    return overlaps.max(axis=1), overlaps.argmax(axis=1)


def ignored_detections(record: Record, found: ImageDetections) -> Bool[np.ndarray, "D"]:
    """Which detections lie half inside a crowd, or on a difficult object, of their class."""
    if not (record.crowd | record.difficult).any():
        return np.zeros(len(found.labels), dtype=bool)
    same = found.labels[:, None] == record.labels[None, :]
    own = (found.boxes[:, 2:] - found.boxes[:, :2]).clip(min=0).prod(axis=1)
    inside = intersection_of_arrays(found.boxes, record.boxes) / np.maximum(own, 1e-9)[:, None]
    overlaps = np.where(record.crowd, inside, iou_of_arrays(found.boxes, record.boxes))
    ignored: np.ndarray = (same & (record.crowd | record.difficult) & (overlaps >= FOREGROUND)).any(axis=1)
    return ignored


def _join(images: Sequence[Judged]) -> Judged:
    """Concatenate images, with consecutive numbers for their objects."""
    if not images:
        return Judged(*(np.zeros(0, kind) for kind in (float, int, int, int, int, bool, bool, bool)))
    starts = np.cumsum([0, *(len(image.counted) for image in images)])
    shifted = [np.where(i.targets >= 0, i.targets + start, -1) for i, start in zip(images, starts[:-1], strict=True)]
    return Judged(
        np.concatenate([image.scores for image in images]),
        np.concatenate([image.labels for image in images]),
        np.concatenate([image.kinds for image in images]),
        np.concatenate(shifted),
        np.concatenate([image.object_labels for image in images]),
        np.concatenate([image.counted for image in images]),
        np.concatenate([image.found for image in images]),
        np.concatenate([image.missed for image in images]),
    )


def _mend(judged: Judged, kind: Kind) -> Judged:
    """Correct the mistakes of one kind where that finds an object, best score first, and remove the others."""
    mistaken = judged.kinds == kind
    kinds, labels = judged.kinds.copy(), judged.labels.copy()
    if kind in (Kind.LOCATION, Kind.CLASSIFICATION):
        rows = np.flatnonzero(mistaken)
        rows = rows[~judged.found[judged.targets[rows]]]
        rows = rows[np.argsort(-judged.scores[rows], kind="stable")]
        first = rows[np.unique(judged.targets[rows], return_index=True)[1]]
        kinds[first], labels[first] = Kind.CORRECT, judged.object_labels[judged.targets[first]]
        mistaken[first] = False
    kinds[mistaken] = Kind.SPARED
    return dataclasses.replace(judged, kinds=kinds, labels=labels)


def _ap50(judged: Judged, without_missed: bool = False) -> float | None:
    """Mean AP over the classes with objects. A class with no objects left after a correction counts as 1."""
    wanted = judged.counted & ~judged.missed if without_missed else judged.counted
    rows = np.flatnonzero(judged.kinds != Kind.SPARED)
    rows = rows[np.argsort(-judged.scores[rows], kind="stable")]
    labels, hits = judged.labels[rows], judged.kinds[rows] == Kind.CORRECT
    figures = []
    for label in np.unique(judged.object_labels[judged.counted]):
        positives = int((wanted & (judged.object_labels == label)).sum())
        figures.append(average_precision.area(hits[labels == label], positives) if positives else 1.0)
    return float(np.mean(figures)) if figures else None


def _rise(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
