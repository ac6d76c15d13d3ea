"""Labels that are probably wrong, by what networks that never saw the image detect in it."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float

from ssd.boxes import iou_of_arrays
from ssd.evaluation.causes.evidence import Evidence
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.metrics.error_breakdown import BACKGROUND, FOREGROUND, Judged, Kind
from ssd.multibox.best_overlaps import REACHED
from ssd.structures import ImageDetections, Record

_LEAST = 0.05  # suspects below this score are not listed
_SEEN = 0.5  # score from which the network sees an object
_FREE = 0.3  # IoU with objects up to which a detection may be an object that is not annotated
_UNREACHED = 0.5  # factor for an object that no default box reaches: missing it says little about its label

Box = tuple[float, float, float, float]


class Fault(StrEnum):
    """What is probably wrong with a label."""

    MISSING = "missing"
    WRONG_CLASS = "wrong class"
    LOOSE = "loose"
    SPARE = "spare"


@dataclass(frozen=True)
class Suspect:
    """One label that is probably wrong; boxes in pixels of the image."""

    fault: Fault
    score: float  # 0 to 1: how much speaks for it
    image: int  # place in the records
    path: str
    object: int | None  # row in the record; None for a missing label
    box: Box  # as annotated; of a missing label the proposed one
    name: str  # its class as annotated; of a missing label the proposed one
    proposed_box: Box | None  # None: leave the object out
    proposed_name: str | None


def find_suspects(details: Details, evidence: Sequence[Evidence]) -> list[Suspect]:
    """Every suspect label, the most suspect first.

    A wrong class: a detection of another class has the object's place; its score, times what its own class lacks.
    Loose: a detection of its class overlaps it less than is usual; its score, times the difference. Spare: no box near
    it has a score of any class, although the networks see most objects. Missing: a detection where nothing is
    annotated; its score. An object has the fault with the highest score.
    """
    judged = details.judged()
    usual, recall = _usual_overlaps(details, judged), _seen(details, evidence)
    suspects = []
    for place, (record, image, own) in enumerate(zip(details.records, judged, evidence, strict=True)):
        searcher = _Image(details, place, record, image, own, usual, recall)
        suspects += searcher.suspects()
    return sorted(suspects, key=lambda item: (-item.score, item.image))


def _usual_overlaps(details: Details, judged: Sequence[Judged]) -> Float[np.ndarray, "C"]:
    """The median IoU of right detections with their objects, by class; over all classes where there are few."""
    overlaps: list[list[float]] = [[] for _ in details.class_names]
    least = details.threshold()  # outside the loop: it sorts the detections of all images
    for place, (record, image) in enumerate(zip(details.records, judged, strict=True)):
        pairs = iou_of_arrays(details.found(place).boxes, record.boxes)
        for row in np.flatnonzero((image.kinds == Kind.CORRECT) & (image.scores >= least)).tolist():
            overlaps[int(image.labels[row])].append(float(pairs[row, image.targets[row]]))
    every = [overlap for row in overlaps for overlap in row]
    typical = float(np.median(every)) if every else 1.0
    return np.array([np.median(row) if len(row) >= 10 else typical for row in overlaps])


def support(row: int, found: ImageDetections, evidence: Evidence, overlaps: Float[np.ndarray, "D N"]) -> float:
    """The best score of any class near an object, or of a detection that overlaps it by 0.1 and no object more."""
    own = (overlaps.argmax(axis=1) == row) & (overlaps[:, row] >= BACKGROUND)
    return max(float(evidence.any_scores[row]), float(found.scores[own].max(initial=0.0)))


def _seen(details: Details, evidence: Sequence[Evidence]) -> float:
    scores = [
        support(row, details.found(place), own, overlaps)
        for place, (record, own) in enumerate(zip(details.records, evidence, strict=True))
        if len(record.labels)
        for overlaps in [iou_of_arrays(details.found(place).boxes, record.boxes)]
        for row in range(len(record.labels))
    ]
    return float(np.mean(np.array(scores) >= _SEEN)) if scores else 0.0


@dataclass(frozen=True)
class _Image:
    """Searches one image for suspect labels."""

    details: Details
    place: int
    record: Record
    judged: Judged
    evidence: Evidence
    usual: Float[np.ndarray, "C"]
    recall: float  # share of all objects for which a score of 0.5 or more speaks

    @property
    def found(self) -> ImageDetections:
        """The detections of the image, in pixels."""
        return self.details.found(self.place)

    def suspects(self) -> list[Suspect]:
        """The annotated objects with a probable fault, then the missing ones."""
        overlaps = iou_of_arrays(self.found.boxes, self.record.boxes)
        own: list[int] = []  # detections that are of annotated objects
        found = []
        for row in range(len(self.record.labels)):
            detection = self._of_object(row, overlaps)
            own += [] if detection is None else [detection]
            if not (self.judged.counted[row] and self.evidence.known[row]):
                continue
            candidates: list[tuple[float, int | None, Fault]] = [
                (*self._other_class(row, overlaps), Fault.WRONG_CLASS),
                (self._looseness(row, detection, overlaps), detection, Fault.LOOSE),
                (self._spare(row, overlaps), None, Fault.SPARE),
            ]
            score, chosen, fault = max(candidates, key=lambda item: item[0])
            if score >= _LEAST:
                found.append(self._suspect(fault, score, row, chosen))
        return [*found, *self._missing(own, overlaps)]

    def _missing(self, own: list[int], overlaps: Float[np.ndarray, "D N"]) -> Iterator[Suspect]:
        """Yield the detections where nothing is annotated, one for each place."""
        kinds = self.judged.kinds
        free = (overlaps.max(axis=1, initial=0.0) < _FREE) & ~np.isin(kinds, (Kind.CORRECT, Kind.SPARED))
        taken = list(own)
        for row in np.argsort(-self.found.scores, kind="stable").tolist():
            score = float(self.found.scores[row])
            if not free[row] or score < _LEAST:
                continue
            if (iou_of_arrays(self.found.boxes[[row]], self.found.boxes[taken]) < FOREGROUND).all():
                taken.append(row)
                yield self._suspect(Fault.MISSING, score, None, row)

    def _other_class(self, row: int, overlaps: Float[np.ndarray, "D N"]) -> tuple[float, int | None]:
        other = (self.found.labels != self.record.labels[row]) & (self.judged.kinds != Kind.CORRECT)
        rows = np.flatnonzero(other & (overlaps[:, row] >= FOREGROUND))
        if not len(rows):
            return 0.0, None
        best = int(rows[self.found.scores[rows].argmax()])
        return float(self.found.scores[best]) * (1 - float(self.evidence.scores[row])), best

    def _of_object(self, row: int, overlaps: Float[np.ndarray, "D N"]) -> int | None:
        """The detection of its class that overlaps it most by its score, and no other object more."""
        same = (self.found.labels == self.record.labels[row]) & (overlaps.argmax(axis=1) == row)
        rows = np.flatnonzero(same & (overlaps[:, row] >= BACKGROUND))
        return int(rows[(self.found.scores[rows] * overlaps[rows, row]).argmax()]) if len(rows) else None

    def _looseness(self, row: int, detection: int | None, overlaps: Float[np.ndarray, "D N"]) -> float:
        if detection is None:
            return 0.0
        usual = float(self.usual[self.record.labels[row]])
        return float(self.found.scores[detection]) * max(0.0, 1 - float(overlaps[detection, row]) / usual)

    def _spare(self, row: int, overlaps: Float[np.ndarray, "D N"]) -> float:
        """Nothing speaks for the object, in a network that sees most objects."""
        score = self.recall * max(0.0, 1 - support(row, self.found, self.evidence, overlaps) / _SEEN)
        return score if self.evidence.default_overlaps[row] >= REACHED else _UNREACHED * score

    def _suspect(self, fault: Fault, score: float, row: int | None, detection: int | None) -> Suspect:
        names = self.details.class_names
        proposed_box = None if detection is None else _box(self.found.boxes[detection])
        proposed_name = None if detection is None else names[self.found.labels[detection]]
        if fault is Fault.WRONG_CLASS and row is not None:
            proposed_box = _box(self.record.boxes[row])
        if row is None:
            assert proposed_box is not None
            assert proposed_name is not None
            box, name = proposed_box, proposed_name
        else:
            box, name = _box(self.record.boxes[row]), names[self.record.labels[row]]
        return Suspect(fault, score, self.place, self.record.path, row, box, name, proposed_box, proposed_name)


def proposed(record: Record, suspects: Sequence[Suspect], class_names: Sequence[str]) -> Record:
    """The record with what its suspects propose."""
    boxes, labels = record.boxes.copy(), record.labels.copy()
    kept = np.ones(len(labels), bool)
    added: list[Suspect] = []
    for item in suspects:
        if item.object is None:
            added.append(item)
        elif item.proposed_box is None or item.proposed_name is None:
            kept[item.object] = False
        else:
            boxes[item.object], labels[item.object] = item.proposed_box, class_names.index(item.proposed_name)
    new_boxes = np.array([item.box for item in added], np.float32).reshape(-1, 4)
    all_boxes = np.concatenate([boxes[kept], new_boxes])
    nothing = np.zeros(len(added), bool)
    return dataclasses.replace(
        record,
        boxes=all_boxes,
        labels=np.concatenate([labels[kept], np.array([class_names.index(item.name) for item in added], np.int64)]),
        difficult=np.concatenate([record.difficult[kept], nothing]),
        crowd=np.concatenate([record.crowd[kept], nothing]),
        areas=(all_boxes[:, 2:] - all_boxes[:, :2]).prod(axis=1),
    )


def counts(suspects: Sequence[Suspect]) -> dict[Fault, int]:
    """How many suspects of each fault there are, in the order of the faults."""
    found = Counter(item.fault for item in suspects)
    return {fault: found[fault] for fault in Fault}


def _box(row: Float[np.ndarray, "4"]) -> Box:
    x1, y1, x2, y2 = (float(side) for side in row)
    return x1, y1, x2, y2
