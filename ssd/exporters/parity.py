"""Compares the detections of an exported graph with those of its weights, on real images.

Every detection has a counterpart of its class in nearly the same place, or it is lost (gained, if it is the graph's). A
detection with a score near the threshold, or near the last one of a full image, does not count as lost or gained.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ssd.boxes import iou_of_arrays
from ssd.errors import ArgumentError
from ssd.inference.detections import Detections

_SAME_PLACE = 0.5  # least IoU of counterparts; suppression at 0.45 leaves no second one
_NEXT_TO = 0.05  # relative distance from a limit within which a detection may be missing


@dataclass(frozen=True)
class Tolerance:
    """The accepted differences. Boxes are in pixels of the network's input, so the image size does not matter."""

    box: float  # largest difference of a box coordinate, in those pixels
    score: float  # largest difference of a score
    missing: float  # share of detections that may be lost or gained
    least_score: float  # detections with lower scores on both sides are ignored
    ap: float  # largest fall of AP, if there are annotations

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


# In 16 and 8 bits weak detections move a lot without harm: only strong ones are compared, and AP covers the rest. On
# BCCD's 72 test images, with SSD300 trained on it, the differences were 4e-5 px and 2e-7 in fp32, 10 px and 0.02 in
# bf16, 17 px and 0.3 in int8; nothing was lost or gained.
TOLERANCES = {
    "fp32": Tolerance(box=0.1, score=0.001, missing=0.001, least_score=0.0, ap=0.001),
    "bf16": Tolerance(box=20.0, score=0.1, missing=0.02, least_score=0.5, ap=0.005),
    "int8": Tolerance(box=40.0, score=0.5, missing=0.05, least_score=0.5, ap=0.005),
}


@dataclass(frozen=True)
class Parity:
    """The largest differences over the compared images."""

    images: int = 0
    compared: int = 0  # detections of either side that were compared
    box: float = 0.0
    score: float = 0.0
    lost: int = 0
    gained: int = 0

    def plus(self, other: "Parity") -> "Parity":
        """The larger of both differences."""
        return Parity(
            self.images + other.images,
            self.compared + other.compared,
            max(self.box, other.box),
            max(self.score, other.score),
            self.lost + other.lost,
            self.gained + other.gained,
        )

    def failures(self, tolerance: Tolerance) -> list[str]:
        """Descriptions of the differences beyond the tolerance; empty if there are none."""
        missing = self.lost + self.gained
        found = []
        if self.compared == 0:
            found.append("nothing was detected that can be compared")
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
    """Compare the detections of one image by the weights and by the graph.

    Both have scores above `score_threshold`. The graph keeps `full` detections at most; where the weights' have one
    more, it is the first that is left out, and tells which of the others both must have.
    """
    height, width = before.image_size
    to_input = np.array([input_size / width, input_size / height] * 2, np.float32)
    missing, both = [], Parity(images=1)
    for some, others in ((before, after), (after, before)):
        last = before[full : full + 1] if len(before) > full else others[full - 1 : full]
        limit = float(last.scores[0]) if len(last) else score_threshold
        sure_to_be_there = limit + min(tolerance.score, _NEXT_TO)
        chosen = some[some.scores >= max(tolerance.least_score, sure_to_be_there)]
        has, twins = _twins(chosen, others)
        moved = np.abs(chosen.boxes[has] - twins.boxes) * to_input
        rescored = np.abs(chosen.scores[has] - twins.scores)
        missing.append(int((~has).sum()))
        both = both.plus(Parity(0, len(chosen), float(moved.max(initial=0)), float(rescored.max(initial=0))))
    return dataclasses.replace(both, lost=missing[0], gained=missing[1])


def _twins(some: Detections, others: Detections) -> tuple[Bool[np.ndarray, "N"], Detections]:
    """Which of `some` have a counterpart among `others`, and these counterparts."""
    overlaps = iou_of_arrays(some.boxes, others.boxes) * (some.labels[:, None] == others.labels)
    has = overlaps.max(axis=1, initial=0.0) >= _SAME_PLACE
    return has, others[overlaps[has].argmax(axis=1)] if has.any() else others[:0]
