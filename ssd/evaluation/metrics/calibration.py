"""Calibration of the scores as probabilities: reliability bins and the expected calibration error.

Of the detections with scores about 0.8, about 80 % should be right (Guo et al., 2017; Küppers et al., 2020, for
detectors). Training with hard negatives does not ensure that, so it is measured and shown.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Calibration:
    """Detections in bins of equal width over the scores from 0 to 1. The means of an empty bin are NaN."""

    edges: Float[np.ndarray, "E"]  # one more than there are bins
    counts: Int[np.ndarray, "M"]
    scores: Float[np.ndarray, "M"]  # mean score of each bin
    right: Float[np.ndarray, "M"]  # share of right detections in each bin

    def error(self, least: float = 0.0) -> float | None:
        """Expected calibration error: the mean of |share right - mean score|, weighted by the counts.

        `least` leaves out the bins below it, since nearly all detections have scores near 0, and rightly so. None
        without detections.
        """
        kept = (self.counts > 0) & (self.edges[:-1] >= least - 1e-9)
        if not kept.any():
            return None
        gaps = np.abs(self.right[kept] - self.scores[kept])
        return float((gaps * self.counts[kept]).sum() / self.counts[kept].sum())


def calibrate(scores: Float[np.ndarray, "D"], hits: Bool[np.ndarray, "D"], bins: int = 10) -> Calibration:
    """Sort detections into bins by score; the last bin includes 1."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    places = np.clip(np.digitize(scores, edges) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    known = np.where(counts > 0, counts, np.nan)
    sums = (np.bincount(places, weights=values, minlength=bins) for values in (scores, hits))
    score_sums, hit_sums = sums
    return Calibration(edges, counts, score_sums / known, hit_sums / known)
