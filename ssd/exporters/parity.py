"""How far an exported graph's detections are from those of the weights it was made of, on real images.

Every detection has a twin on the other side, of its class and nearly in its place, or is lost (gained, if it is the
graph's). Weak ones may fall to either side of a limit: one that scores next to the threshold, or to the last of a full
image, is no loss.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ssd.boxes import iou_of_arrays
from ssd.errors import ArgumentError
from ssd.inference.detections import Detections

_SAME_PLACE = 0.5  # overlap from which two boxes of a class are one detection; suppression leaves no second at 0.45
_NEXT_TO = 0.05  # of a score: so near to a limit at most may a detection fall to its other side


@dataclass(frozen=True)
class Tolerance:
    """What counts as the same. Boxes are compared in pixels of the network's input, so image size does not matter."""

    box: float  # largest difference of a side's place, in those pixels
    score: float  # largest difference of a score
    missing: float  # share of detections that may be lost or gained
    least_score: float  # detections that score less on both sides are not looked at
    ap: float  # largest fall of AP, where there are annotations

    def changed(self, text: str) -> "Tolerance":
        """Apply one `name=value`.

        Raises:
            ArgumentError: no such name, or no number from 0 on.
        """
        name, _, value = text.partition("=")
        known = [field.name for field in dataclasses.fields(self)]
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if name not in known or not number >= 0:
            remedy = f"Write NAME=NUMBER with one of {', '.join(known)}."
            raise ArgumentError(f"{text!r} is no tolerance", place="tolerance", remedy=remedy)
        return dataclasses.replace(self, **{name: number})


# In 16 and 8 bits weak detections move a lot and hurt nobody: what is drawn is compared, and AP tells of the rest. What
# BCCD's 72 test images showed, with SSD300 trained on it: fp32 4e-5 px and 2e-7, bf16 10 px and 0.02, int8 17 px and
# 0.3, none of them anything lost or gained.
TOLERANCES = {
    "fp32": Tolerance(box=0.1, score=0.001, missing=0.001, least_score=0.0, ap=0.001),
    "bf16": Tolerance(box=20.0, score=0.1, missing=0.02, least_score=0.5, ap=0.005),
    "int8": Tolerance(box=40.0, score=0.5, missing=0.05, least_score=0.5, ap=0.005),
}


@dataclass(frozen=True)
class Parity:
    """The worst of all images compared."""

    images: int = 0
    compared: int = 0  # detections of either side that were looked for on the other
    box: float = 0.0
    score: float = 0.0
    lost: int = 0
    gained: int = 0

    def plus(self, other: "Parity") -> "Parity":
        """The worst of both."""
        return Parity(
            self.images + other.images,
            self.compared + other.compared,
            max(self.box, other.box),
            max(self.score, other.score),
            self.lost + other.lost,
            self.gained + other.gained,
        )

    def failures(self, tolerance: Tolerance) -> list[str]:
        """What is beyond the tolerance, in words; empty when all is well."""
        missing = self.lost + self.gained
        found = []
        if self.compared == 0:
            found.append("nothing was detected, so nothing was compared")
        if not self.box <= tolerance.box:
            found.append(f"a box is {self.box:.3g} px off, {tolerance.box:g} allowed")
        if not self.score <= tolerance.score:
            found.append(f"a score is {self.score:.2g} off, {tolerance.score:g} allowed")
        if missing > tolerance.missing * self.compared:
            found.append(f"{missing} of {self.compared} detections are lost or gained, {tolerance.missing:.2%} allowed")
        return found


def compare(
    before: Detections, after: Detections, tolerance: Tolerance, *, input_size: int, score_threshold: float, full: int
) -> Parity:
    """Compare one image's detections by the weights and by the graph.

    Both sides kept scores above `score_threshold`, and `full` detections at most.
    """
    height, width = before.image_size
    to_input = np.array([input_size / width, input_size / height] * 2, np.float32)
    missing, both = [], Parity(images=1)
    for some, others in ((before, after), (after, before)):
        sure_to_be_there = _limit(others, score_threshold, full) + min(tolerance.score, _NEXT_TO)
        chosen = some[some.scores >= max(tolerance.least_score, sure_to_be_there)]
        has, twins = _twins(chosen, others)
        moved = np.abs(chosen.boxes[has] - twins.boxes) * to_input
        rescored = np.abs(chosen.scores[has] - twins.scores)
        missing.append(int((~has).sum()))
        both = both.plus(Parity(0, len(chosen), float(moved.max(initial=0)), float(rescored.max(initial=0))))
    return dataclasses.replace(both, lost=missing[0], gained=missing[1])


def _twins(some: Detections, others: Detections) -> tuple[Bool[np.ndarray, "N"], Detections]:
    """Which of `some` have a twin among `others`, and these twins."""
    overlaps = iou_of_arrays(some.boxes, others.boxes) * (some.labels[:, None] == others.labels)
    has = overlaps.max(axis=1, initial=0.0) >= _SAME_PLACE
    return has, others[overlaps[has].argmax(axis=1)] if has.any() else others[:0]


def _limit(others: Detections, score_threshold: float, full: int) -> float:
    """The score from which the other side has kept everything."""
    return float(others.scores[-1]) if len(others) >= full else score_threshold
