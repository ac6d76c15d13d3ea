"""95 % intervals of figures, by drawing the images again and again (the bootstrap).

A validation set is a sample of the images that a detector will meet. What another sample of the same size would have
given is seen by drawing images from this one with replacement. The ends of an interval are percentiles of the figures
of these resamples, corrected for bias and skew (BCa: Efron, "Better bootstrap confidence intervals", 1987), and moved
outward as Student's t is wider than the normal distribution (Hesterberg, "What teachers should know about the
bootstrap", 2015), because plain percentiles are too narrow for small sets.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

from ssd.evaluation.metrics.matches import Matches, figures_of, over_classes
from ssd.report.blocks import MISSING

LEVEL = 0.95
RESAMPLES = 1000
FEW_IMAGES = 20
"""Below so many images with objects an interval is a rough guess: see RESULTS.md for what was measured."""
_GROUPS = 200  # most groups of images that are left out in turn, for the skew
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; None where the images do not say (no object, or no spread in the resamples)."""

    value: float | None
    low: float | None = None
    high: float | None = None
    error: float | None = None  # standard error

    def to_dict(self) -> dict[str, float | None]:
        """Plain JSON types."""
        return {"value": self.value, "low": self.low, "high": self.high}


Intervals = dict[str, dict[str, Estimate]]
"""By name of the figure, then by class; "" is the mean over the classes."""


@dataclass(frozen=True)
class Draws:
    """One figure for F rows (each class, then their mean): measured, in R resamples, and with parts left out."""

    measured: Float[np.ndarray, "F"]
    resampled: Float[np.ndarray, "F R"]
    left_out: Float[np.ndarray, "F G"]

    def __sub__(self, other: "Draws") -> "Draws":
        """The differences on the same choices of images."""
        return Draws(self.measured - other.measured, self.resampled - other.resampled, self.left_out - other.left_out)

    def estimate(self, row: int) -> Estimate:
        """The figure of one row with its interval."""
        return _estimate(float(self.measured[row]), self.resampled[row], self.left_out[row])


def choices(images: int, resamples: int = RESAMPLES, seed: int = 0) -> Int[np.ndarray, "R I"]:
    """How often each image counts: once; then as often as drawn, in every resample; then with each part left out."""
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    groups = min(images, _GROUPS)
    part = np.arange(images) * groups // max(images, 1)
    left_out = (part[None] != np.arange(groups)[:, None]).astype(np.int64)
    return np.concatenate([np.ones((1, images), np.int64), drawn, left_out])


def draw(matches: Matches, chosen: Int[np.ndarray, "R I"], resamples: int = RESAMPLES) -> dict[str, Draws]:
    """Every figure of `matches` for the rows of `choices`."""
    found = {}
    for name, values in figures_of(matches, chosen).items():
        rows = np.concatenate([values, over_classes(values)[None]])
        found[name] = Draws(rows[:, 0], rows[:, 1 : 1 + resamples], rows[:, 1 + resamples :])
    return found


def intervals(matches: Matches, resamples: int = RESAMPLES) -> Intervals:
    """Each figure with its interval."""
    drawn = draw(matches, choices(matches.images, resamples), resamples)
    names = (*matches.class_names, "")
    return {figure: {name: one.estimate(row) for row, name in enumerate(names)} for figure, one in drawn.items()}


def ends(estimate: Estimate, *, signed: bool = False) -> str:
    """An interval as text; n/a without one."""
    if estimate.low is None or estimate.high is None:
        return MISSING
    form = "+.3f" if signed else ".3f"
    return f"{estimate.low:{form}} to {estimate.high:{form}}"


def _estimate(measured: float, resampled: Float[np.ndarray, "R"], left_out: Float[np.ndarray, "G"]) -> Estimate:
    """BCa percentiles, with levels widened for the number of parts."""
    if math.isnan(measured):
        return Estimate(None)
    resampled, left_out = resampled[~np.isnan(resampled)], left_out[~np.isnan(left_out)]
    if len(left_out) < 2 or len(resampled) < 2 or np.ptp(resampled) == 0:
        return Estimate(measured)
    below = float(np.mean(resampled < measured) + np.mean(resampled == measured) / 2)
    edge = 1 / len(resampled)
    bias = _NORMAL.inv_cdf(min(max(below, edge), 1 - edge))
    distance = left_out.mean() - left_out
    spread = float((distance**2).sum())
    skew = float((distance**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
    error = float(resampled.std(ddof=1))
    reach = _reach(len(left_out)) * _widening(spread, len(left_out), error)
    levels = []
    for place in (-1, 1):
        shifted = bias + place * reach
        levels.append(_NORMAL.cdf(bias + shifted / max(1 - skew * shifted, 1e-6)))
    low, high = np.quantile(resampled, levels).tolist()
    # a figure lies in its own interval, even where bias and skew are extreme
    return Estimate(measured, min(low, measured), max(high, measured), error)


def _widening(spread: float, parts: int, error: float) -> float:
    """How much the jackknife's standard error exceeds the bootstrap's, which is a little too small for few images.

    The jackknife's is on average too large rather than too small (Efron and Stein 1981). At most a quarter is added.
    """
    jackknife = math.sqrt((parts - 1) / parts * spread)
    return min(max(jackknife / error, 1.0), 1.25) if error > 0 else 1.0


def _reach(parts: int) -> float:
    """How many standard errors the interval reaches: Student's t with `parts - 1` degrees of freedom, and n/(n - 1).

    The quantile is Cornish and Fisher's expansion, right to 1 % from 5 degrees of freedom on.
    """
    z, free = _NORMAL.inv_cdf((1 + LEVEL) / 2), parts - 1
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return t * math.sqrt(parts / free)
