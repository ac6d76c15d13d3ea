"""Precision and recall of ranked detections, as a curve and at a score threshold."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ssd.evaluation.metrics import average_precision


@dataclass(frozen=True)
class Curve:
    """Recall and precision at every score threshold.

    There is one point for every distinct score, the highest first, since a threshold cannot separate detections of
    equal score.
    """

    scores: Float[np.ndarray, "P"]
    recall: Float[np.ndarray, "P"]
    precision: Float[np.ndarray, "P"]
    area: float | None  # average precision, precision made monotone; None without objects

    @property
    def f1(self) -> Float[np.ndarray, "P"]:
        """Harmonic mean of precision and recall; 0 where both are 0."""
        means: np.ndarray = 2 * self.precision * self.recall / np.maximum(self.precision + self.recall, 1e-12)
        return means

    def best_threshold(self) -> float | None:
        """The score with the greatest F1, the highest of several; None if no detection is right."""
        f1 = self.f1
        return float(self.scores[f1.argmax()]) if f1.max(initial=0.0) > 0 else None

    def at(self, threshold: float) -> tuple[float | None, float | None]:
        """Precision and recall at a threshold; None without detections, and without objects, respectively."""
        kept = int((self.scores >= threshold).sum())
        precision = float(self.precision[kept - 1]) if kept else None
        recall = float(self.recall[kept - 1]) if kept else 0.0
        return precision, None if self.area is None else recall


def curve(scores: Float[np.ndarray, "D"], hits: Bool[np.ndarray, "D"], positives: int) -> Curve:
    """The curve of detections with their `hits` (right or wrong); `positives` is the number of objects."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    last = np.flatnonzero(np.append(scores[:-1] != scores[1:], True)[: len(scores)])  # of each run of equal scores
    found = np.cumsum(hits)[last]
    return Curve(
        scores[last].astype(float),
        found / max(positives, 1),
        found / (last + 1),
        average_precision.area(hits, positives) if positives else None,
    )
