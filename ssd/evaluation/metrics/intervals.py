"""95 % intervals of figures, from random halves of the images.

A validation set is a sample of the images that a detector will meet. What another sample of the same size would have
given is seen by drawing halves of this one without replacement: figures of halves spread about the figure of the whole
as figures of such samples spread about that of all images (Politis, Romano and Wolf, "Subsampling", 1999). Unlike
resamples with replacement, the bootstrap, they also show that AP is too high on few images. The precision of its curve
is the greatest one at that recall or beyond, so that chance raises it, and more so for weak detectors.

The interval is that of Student's t on the arcsine scale, on which a share near 0 or 1 spreads as one near a half does;
a difference of figures stays on its own scale. Images on which nothing is missed do not show that nothing ever is, so
the lower end is at most `measured * 0.1 ** (1 / n)` for n objects, about 2.3 / n less: at that rate of misses one
sample in ten has none. This is the rule of three (Hanley and Lippman-Hand, "If nothing goes wrong, is everything all
right?", 1983) with 5 % at the lower end alone and mid-P.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ssd.evaluation.metrics.matches import Matches, figures_of, over_classes
from ssd.report.blocks import MISSING

LEVEL = 0.95
RESAMPLES = 1000
FEW_IMAGES = 20
"""Below so many images with objects an interval is a rough guess: see RESULTS.md for what was measured."""
_GROUPS = 200  # most groups of images that are left out in turn, for the standard error
_ROUNDING = 1e-9
_NO_MISS = 2 * (1 - LEVEL)  # chance of a sample without a miss, of which mid-P counts half
_ENOUGH = 6  # images after which a difference that each of them shows is not chance (a sign test: 2 ** -5)
_EXCESS = 1 / (2 ** (2 / 3) - 1)
"""The excess of a figure over that of all images, in terms of what halves exceed the whole by: it falls with the number
of images to the power of -2/3, as for other estimates that are forced to be monotone (Prakasa Rao 1969)."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; None where the images do not say (no object, or none found)."""

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
    """One figure for F rows (each class, then their mean): measured, in R halves, and with parts left out."""

    measured: Float[np.ndarray, "F"]
    in_halves: Float[np.ndarray, "F R"]
    left_out: Float[np.ndarray, "F G"]
    objects: Float[np.ndarray, "F"]  # of the class; of the mean, the number that has its variance in one class
    shares: bool = True  # from 0 to 1; false for differences
    # Images with objects of the class; of the mean, those of the class with the fewest.
    holders: Float[np.ndarray, "F"] | None = None

    def __sub__(self, other: "Draws") -> "Draws":
        """The differences on the same choices of images."""
        columns = (self.measured - other.measured, self.in_halves - other.in_halves, self.left_out - other.left_out)
        return Draws(*columns, self.objects, shares=False, holders=self.holders)

    def estimate(self, row: int) -> Estimate:
        """The figure of one row with its interval."""
        counted = self.objects if self.shares else self.holders
        measured, objects = float(self.measured[row]), 0.0 if counted is None else float(counted[row])
        return _estimate(measured, self.in_halves[row], self.left_out[row], objects, shares=self.shares)


def choices(images: int, resamples: int = RESAMPLES, seed: int = 0) -> Int[np.ndarray, "R I"]:
    """Which images count: all; then a random half, `resamples` times; then all but each part."""
    generator = np.random.default_rng(seed)
    ranks = generator.random((resamples, images)).argsort(axis=1)
    sizes = images // 2 + generator.integers(0, 1 + images % 2, resamples)  # half of an odd number: either side of it
    halves = (ranks < sizes[:, None]).astype(np.int64)
    groups = min(images, _GROUPS)
    part = np.arange(images) * groups // max(images, 1)
    left_out = (part[None] != np.arange(groups)[:, None]).astype(np.int64)
    return np.concatenate([np.ones((1, images), np.int64), halves, left_out])


def draw(matches: Matches, chosen: Int[np.ndarray, "R I"], resamples: int = RESAMPLES) -> dict[str, Draws]:
    """Every figure of `matches` for the rows of `choices`."""
    found, values = {}, figures_of(matches, chosen)
    for figure in matches.figures:
        of_classes = values[figure.name]
        rows = np.concatenate([of_classes, over_classes(of_classes)[None]])
        objects = np.array([one.objects.sum() for one in matches.tables[figure.area]], float)
        known = objects[objects > 0]
        of_mean = len(known) ** 2 / (1 / known).sum() if len(known) else 0.0
        counts = np.append(objects, of_mean)
        images = np.array([(one.objects > 0).sum() for one in matches.tables[figure.area]], float)
        holders = np.append(images, images[images > 0].min(initial=np.inf))
        halves, left_out = rows[:, 1 : 1 + resamples], rows[:, 1 + resamples :]
        found[figure.name] = Draws(rows[:, 0], halves, left_out, counts, holders=holders)
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


def _estimate(
    measured: float,
    in_halves: Float[np.ndarray, "R"],
    left_out: Float[np.ndarray, "G"],
    objects: float,
    *,
    shares: bool,
) -> Estimate:
    """Student's interval about the figure without its excess; its lower end allows for misses that were not seen."""
    if math.isnan(measured):
        return Estimate(None)
    unseen = measured * _NO_MISS ** (1 / objects) if objects > 0 else measured
    in_halves, left_out = in_halves[~np.isnan(in_halves)], left_out[~np.isnan(left_out)]
    if len(left_out) < 2 or len(in_halves) < 2 or np.ptp(in_halves) < _ROUNDING:
        always = objects > 0 and measured > 1 - _ROUNDING if shares else objects >= _ENOUGH and measured != 0
        return Estimate(measured, *sorted((unseen, measured))) if always else Estimate(measured)
    error = float(in_halves.std(ddof=1))
    scale, back = (_arcsine, _share) if shares else (np.asarray, np.asarray)
    figure, scaled = float(scale(measured)), scale(in_halves)
    middle = figure - _EXCESS * (float(scaled.mean()) - figure)
    reach = _student(len(left_out) - 1) * _widening(left_out, error) * float(scaled.std(ddof=1))
    low, high = float(back(middle - reach)), float(back(middle + reach))
    # a figure lies in its own interval, however great the excess
    low = min(low, unseen) if shares else low
    return Estimate(measured, min(low, measured), max(high, measured), error)


def _arcsine(share: Any) -> Any:
    return np.arcsin(np.sqrt(np.clip(share, 0, 1)))


def _share(arcsine: Any) -> Any:
    return np.sin(np.clip(arcsine, 0, np.pi / 2)) ** 2


def _widening(left_out: Float[np.ndarray, "G"], error: float) -> float:
    """How much the jackknife's standard error exceeds that of the halves, which is a little too small for few images.

    The jackknife's is on average too large rather than too small (Efron and Stein 1981). At most a quarter is added.
    """
    parts = len(left_out)
    jackknife = math.sqrt((parts - 1) / parts * float(((left_out - left_out.mean()) ** 2).sum()))
    return min(max(jackknife / error, 1.0), 1.25)


def _student(free: int) -> float:
    """The quantile of Student's t with so many degrees of freedom that bounds an interval of `LEVEL`.

    Cornish and Fisher's expansion, right to 1 % from 5 degrees of freedom on.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
