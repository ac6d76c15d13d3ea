"""The cause of every missed object: the first stage of the pipeline at which it was lost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float, Int

from ssd.boxes import iou_of_arrays
from ssd.evaluation.causes.evidence import Evidence
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.metrics.error_breakdown import BACKGROUND, FOREGROUND, Judged, Kind
from ssd.multibox.best_overlaps import REACHED
from ssd.settings import Settings
from ssd.structures import ImageDetections, Record

_MOVED = 0.1  # of IoU, by which voting may separate two boxes of which one suppressed the other
_REPEATED = 0.9  # IoU of two objects of one class that are one object annotated twice
_NO_SUPPORT = 0.1  # a score below which the network sees nothing of a class
_WELL_PLACED = 0.75  # median IoU of right detections from which a confident box elsewhere puts a label in doubt
_SAME_SCORE = 1e-4
_FEW = 5  # right detections of a class, fewer of which say nothing
_RIGHT_CLASS, _RIGHT_PLACE = 0.8, 0.9  # shares of the detections on objects from which class or place is reliable


class Cause(StrEnum):
    """Why an object is missed, in the order of the pipeline."""

    UNKNOWN_CLASS = "unknown class"
    LABEL = "probably a wrong label"
    RESOLUTION = "below the input's resolution"
    DEFAULT_BOXES = "no default box reaches it"
    LOCATION = "found, but badly placed"
    SCORE = "reached and scored low"
    CLASS = "another class won"
    SUPPRESSION = "suppressed by a neighbour"
    THRESHOLD = "below the score threshold"


@dataclass(frozen=True)
class MissedObject:
    """One object that no detection finds at the threshold, and why; boxes in pixels of the image."""

    image: int  # place in the records
    object: int  # row in the record
    path: str
    box: tuple[float, float, float, float]
    name: str
    cause: Cause
    detail: str
    score: float  # best score of its class near it, before suppression
    other: str | None = None  # the class that won, or that it probably has
    detection: int | None = None  # row in the detections: the one that took its place, or that finds it below threshold


@dataclass(frozen=True)
class Confidence:
    """What is usual for the detections of each class."""

    scores: Float[np.ndarray, "C"]  # median of the right ones from the threshold on
    overlaps: Float[np.ndarray, "C"]  # median IoU of these with their objects; 0 where they are few
    sure_of_class: Float[np.ndarray, "C"]  # the lowest score from which the class is reliable; infinity for none
    sure_of_place: Float[np.ndarray, "C"]  # the same of the place, at least the median


def explain(
    details: Details, evidence: Sequence[Evidence], settings: Settings, thresholds: Float[np.ndarray, "C"]
) -> tuple[list[MissedObject], Confidence]:
    """The missed objects at the threshold of each class with their causes, and what is usual for the found ones.

    `details` holds the detections from the weights' own threshold on, `evidence` is that of the same records.
    """
    judged = details.judged()
    usual = _usual(details, judged, thresholds)
    useful = np.minimum(details.threshold(), thresholds)
    missed = []
    for place, (record, image, own) in enumerate(zip(details.records, judged, evidence, strict=True)):
        tracer = _Tracer(details, place, record, image, own, settings, usual, thresholds, useful)
        missed += list(tracer.missed())
    return missed, usual


def _usual(details: Details, judged: Sequence[Judged], thresholds: Float[np.ndarray, "C"]) -> Confidence:
    classes = range(len(details.class_names))
    scores: list[list[float]] = [[] for _ in classes]
    overlaps: list[list[float]] = [[] for _ in classes]
    classed: list[list[tuple[float, bool]]] = [[] for _ in classes]
    placed: list[list[tuple[float, bool]]] = [[] for _ in classes]
    for place, (record, image) in enumerate(zip(details.records, judged, strict=True)):
        found, right = details.found(place), image.kinds == Kind.CORRECT
        pairs = iou_of_arrays(found.boxes, record.boxes)
        on_objects = right | np.isin(image.kinds, (Kind.CLASSIFICATION, Kind.LOCATION))
        for row in np.flatnonzero(on_objects).tolist():
            label, score = int(found.labels[row]), float(found.scores[row])
            if image.kinds[row] != Kind.LOCATION:
                classed[label].append((score, bool(right[row])))
            if image.kinds[row] != Kind.CLASSIFICATION:
                placed[label].append((score, bool(right[row])))
            if right[row] and score >= thresholds[label]:
                scores[label].append(score)
                overlaps[label].append(float(pairs[row, image.targets[row]]))
    every = [score for row in scores for score in row]
    typical = np.full(len(thresholds), np.median(every)) if every else thresholds
    medians = np.array([np.median(row) if row else typical[label] for label, row in enumerate(scores)])
    return Confidence(
        scores=medians,
        overlaps=np.array([np.median(row) if len(row) >= _FEW else 0.0 for row in overlaps]),
        sure_of_class=np.array([_sure_from(row, _RIGHT_CLASS) for row in classed]),
        sure_of_place=np.maximum(medians, [_sure_from(row, _RIGHT_PLACE) for row in placed]),
    )


def _sure_from(detections: Sequence[tuple[float, bool]], reliable: float) -> float:
    """The lowest score from which at least that share is right; infinity if there is none."""
    ranked = sorted(detections, reverse=True)
    shares = np.cumsum([right for _, right in ranked]) / np.arange(1, len(ranked) + 1)
    places = np.flatnonzero(shares[_FEW - 1 :] >= reliable)
    return ranked[int(places[-1]) + _FEW - 1][0] if len(places) else float("inf")


@dataclass(frozen=True)
class _Tracer:
    """Traces the missed objects of one image through the pipeline."""

    details: Details
    place: int
    record: Record
    judged: Judged
    evidence: Evidence
    settings: Settings
    usual: Confidence
    thresholds: Float[np.ndarray, "C"]
    useful: Float[np.ndarray, "C"]  # the lowest thresholds that are worth setting: the one of the best F1, if lower

    @property
    def found(self) -> ImageDetections:
        """The detections of the image, in pixels, from the weights' own threshold on."""
        return self.details.found(self.place)

    def missed(self) -> Iterator[MissedObject]:
        """Yield the missed objects with their causes."""
        finder = np.full(len(self.record.labels), -1)
        right = np.flatnonzero(self.judged.kinds == Kind.CORRECT)
        finder[self.judged.targets[right]] = right
        overlaps = iou_of_arrays(self.found.boxes, self.record.boxes)
        for row in np.flatnonzero(self.judged.counted).tolist():
            by = int(finder[row])
            score = float(self.found.scores[by]) if by >= 0 else 0.0
            if by >= 0 and score >= self.thresholds[self.record.labels[row]]:
                continue
            if self._is_repeated(row, finder):
                cause, detail, other, detection = Cause.LABEL, "annotated twice with the same box", None, None
            else:
                cause, detail, other, detection = self._cause(row, by, score, overlaps[:, row])
            x1, y1, x2, y2 = self.record.boxes[row].tolist()
            yield MissedObject(
                image=self.place,
                object=row,
                path=self.record.path,
                box=(x1, y1, x2, y2),
                name=self.details.class_names[self.record.labels[row]],
                cause=cause,
                detail=detail,
                score=float(self.evidence.scores[row]),
                other=None if other is None else self.details.class_names[other],
                detection=detection,
            )

    def _cause(
        self, row: int, by: int, score: float, overlaps: Float[np.ndarray, "D"]
    ) -> tuple[Cause, str, int | None, int | None]:
        """Cause, detail, class that won, and the detection in question; `by` finds the object at `score`, -1: none."""
        evidence, own, label = self.evidence, float(self.evidence.scores[row]), int(self.record.labels[row])
        if not evidence.known[row]:
            return Cause.UNKNOWN_CLASS, "the detector does not have this class", None, None
        if own >= self.thresholds[label]:
            return self._suppressed(row)
        winner = self._free(overlaps >= FOREGROUND, same=False, label=label)
        if winner is not None and own < _NO_SUPPORT and self._is_sure(winner, self.usual.sure_of_class):
            text = f"{self._name(winner)}, {own:.2f} for its own class"
            return Cause.LABEL, text, int(self.found.labels[winner]), winner
        if winner is None and by >= 0 and score >= self.useful[label]:
            return Cause.THRESHOLD, f"found at {score:.2f} only", None, by
        width, height = evidence.sides[row].tolist()
        if min(width, height) < self.settings.boxes.steps[0]:
            return Cause.RESOLUTION, f"{width:.0f} x {height:.0f} pixels at the input", None, None
        if winner is not None:
            text = f"{self._name(winner)}, {own:.2f} for its own class"
            return Cause.CLASS, text, int(self.found.labels[winner]), winner
        reach = float(evidence.default_overlaps[row])
        if reach < REACHED:
            return Cause.DEFAULT_BOXES, f"best IoU with a default box {reach:.2f}", None, None
        beside = self._free(overlaps >= BACKGROUND, same=True, label=label)
        if beside is not None:
            return self._misplaced(row, beside, float(overlaps[beside]))
        return Cause.SCORE, f"at most {own:.2f} for its own class", None, None

    def _suppressed(self, row: int) -> tuple[Cause, str, int | None, int | None]:
        """The object has a right box above the threshold that did not become its detection."""
        found, own = self.found, float(self.evidence.scores[row])
        with_own = iou_of_arrays(found.boxes, self.evidence.boxes[row : row + 1].astype(np.float32))[:, 0]
        rivals = np.where((found.labels == self.record.labels[row]) & (found.scores > own - _SAME_SCORE), with_own, 0.0)
        rules = self.settings.postprocessing
        nearest, rival = rivals.max(initial=0.0), int(rivals.argmax()) if len(rivals) else 0
        if rules.box_voting and nearest > BACKGROUND and abs(found.scores[rival] - own) < _SAME_SCORE:
            return Cause.SUPPRESSION, f"box voting moved its detection of {own:.2f} away", None, rival
        if nearest > rules.iou_threshold - (_MOVED if rules.box_voting else 0):
            text = f"its box of {own:.2f} has an IoU of {rivals[rival]:.2f} with one of {found.scores[rival]:.2f}"
            return Cause.SUPPRESSION, text, None, rival
        text = (
            f"its box of {own:.2f} was not among the {rules.top_k} best of its class "
            f"or the {rules.max_detections} detections kept"
        )
        return Cause.SUPPRESSION, text, None, None

    def _misplaced(self, row: int, beside: int, overlap: float) -> tuple[Cause, str, int | None, int | None]:
        """A detection of its class that is no other object's overlaps it, by less than 0.5."""
        well = self.usual.overlaps[self.record.labels[row]] >= _WELL_PLACED
        text = f"IoU {overlap:.2f} with {self._name(beside)}"
        doubtful = well and self._is_sure(beside, self.usual.sure_of_place)
        return (Cause.LABEL if doubtful else Cause.LOCATION), text, None, beside

    def _free(self, near: np.ndarray, *, same: bool, label: int) -> int | None:
        """The best detection above the threshold, near the object and no other's, of its class or of another."""
        free = ~np.isin(self.judged.kinds, (Kind.CORRECT, Kind.SPARED))
        of_class = (self.found.labels == label) == same
        rows = np.flatnonzero(near & free & of_class & (self.found.scores >= self.thresholds[self.found.labels]))
        return int(rows[self.found.scores[rows].argmax()]) if len(rows) else None

    def _is_sure(self, detection: int, least: Float[np.ndarray, "C"]) -> bool:
        return bool(self.found.scores[detection] >= least[self.found.labels[detection]])

    def _name(self, detection: int) -> str:
        name = self.details.class_names[self.found.labels[detection]]
        return f"{name} {self.found.scores[detection]:.2f}"

    def _is_repeated(self, row: int, finder: Int[np.ndarray, "N"]) -> bool:
        """Whether another object of its class, which is found, has the same box."""
        scores = np.append(self.found.scores, 0.0)[finder]
        label = self.record.labels[row]
        twins = (finder >= 0) & (self.record.labels == label) & (scores >= self.thresholds[label])
        overlaps = iou_of_arrays(self.record.boxes, self.record.boxes[row : row + 1])[:, 0]
        return bool((twins & (overlaps >= _REPEATED)).any())
