"""Two detectors on the same images: every figure with its interval, the difference, and whether it can be told."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from ssd.errors import EvaluationError
from ssd.evaluation.metrics.intervals import FEW_IMAGES, LEVEL, RESAMPLES, Draws, Estimate, choices, draw, ends
from ssd.evaluation.metrics.matches import Matches
from ssd.report.blocks import MISSING, number
from ssd.report.text_table import aligned

Verdict = Literal["better", "worse", "cannot be told"]
_POWER = 0.8  # chance with which a difference is told by the number of images that is named
_MOST_IMAGES = 1_000_000


@dataclass(frozen=True)
class Difference:
    """One figure of both detectors, and B minus A on the same images, each with its 95 % interval."""

    a: Estimate
    b: Estimate
    change: Estimate
    images: int  # that it was measured on

    @property
    def verdict(self) -> Verdict:
        """Whether B is better or worse than A; cannot be told where the interval of the difference holds 0."""
        if self.change.low is None or self.change.high is None or self.change.low <= 0 <= self.change.high:
            return "cannot be told"
        return "better" if self.change.low > 0 else "worse"

    @property
    def images_needed(self) -> int | None:
        """About how many images tell a difference of this size, with a chance of 80 %; None if it is about 0.

        More than there are where they do not tell it.
        """
        if not self.change.value or self.change.error is None:
            return None
        needed = self.images * (_standard_errors() * self.change.error / self.change.value) ** 2
        least = self.images + 1 if self.verdict == "cannot be told" else 1
        return max(math.ceil(needed), least) if needed <= _MOST_IMAGES else None

    @property
    def least_told(self) -> float | None:
        """About the least difference that as many images as these tell with a chance of 80 %."""
        if self.change.error is None:
            return None
        not_told = abs(self.change.value or 0.0) if self.verdict == "cannot be told" else 0.0
        return max(_standard_errors() * self.change.error, not_told)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "difference": self.change.to_dict(),
            "verdict": self.verdict,
            "images_needed": self.images_needed,
            "least_told": self.least_told,
        }


@dataclass(frozen=True)
class Comparison:
    """The differences by figure: over all classes, and of each class."""

    images: int
    objects: Mapping[str, int]  # of each class
    overall: Mapping[str, Difference]
    per_class: Mapping[str, Mapping[str, Difference]]  # by figure, then by class

    @property
    def headline(self) -> str:
        """The name of the first figure, AP, which decides."""
        return next(iter(self.overall))

    @property
    def verdict(self) -> Verdict:
        """Whether B is better or worse than A by the headline."""
        return self.overall[self.headline].verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "images": self.images,
            "verdict": self.verdict,
            "overall": {name: one.to_dict() for name, one in self.overall.items()},
            "per_class": {
                label: {name: by_class[label].to_dict() for name, by_class in self.per_class.items()}
                for label in self.objects
            },
        }


def compare_matches(a: Matches, b: Matches, resamples: int = RESAMPLES) -> Comparison:
    """Compare two detectors by their matches on the same images: both are drawn by the same choices.

    Raises:
        EvaluationError: the images, classes or rules differ.
    """
    if (a.images, a.class_names, a.figures) != (b.images, b.class_names, b.figures):
        raise EvaluationError("the two were measured on different data", remedy="Evaluate both on one data set.")
    chosen = choices(a.images, resamples)
    drawn_a, drawn_b = draw(a, chosen, resamples), draw(b, chosen, resamples)
    overall, per_class = {}, {}
    for figure in drawn_a:
        *classes, mean = _differences(drawn_a[figure], drawn_b[figure], a.images)
        overall[figure] = mean
        per_class[figure] = dict(zip(a.class_names, classes, strict=True))
    objects = {name: int(one.objects.sum()) for name, one in zip(a.class_names, a.tables[0], strict=True)}
    return Comparison(a.images, objects, overall, per_class)


def _differences(a: Draws, b: Draws, images: int) -> list[Difference]:
    change = b - a
    return [
        Difference(a.estimate(row), b.estimate(row), change.estimate(row), images) for row in range(len(a.measured))
    ]


def _standard_errors() -> float:
    """How many standard errors a difference must have to be told with the chance of `_POWER`: 2.8."""
    normal = NormalDist()
    return normal.inv_cdf((1 + LEVEL) / 2) + normal.inv_cdf(_POWER)


# Text


def as_text(comparison: Comparison) -> str:
    """Tables over all classes and of each class, and the conclusion as the last line."""
    headline = comparison.headline
    head = ["", "A", "", "B", "", "B - A", "", "B is", "images needed"]
    overall = [[name, *cells(one)] for name, one in comparison.overall.items() if one.change.value is not None]
    classes = [
        [f"{name} ({comparison.objects[name]})", *cells(one)] for name, one in comparison.per_class[headline].items()
    ]
    parts = [
        aligned([["over all classes", *head[1:]], *overall]),
        aligned([[f"{headline} of a class (objects)", *head[1:]], *classes]),
    ]
    return "\n\n".join([*parts, *notes(comparison), conclusion(comparison)])


def cells(one: Difference) -> list[str]:
    """The figures of a difference as the cells of a table: A, B and B - A, each with its interval; the verdict."""
    return [
        number(one.a.value),
        ends(one.a),
        number(one.b.value),
        ends(one.b),
        _signed(one.change.value),
        ends(one.change, signed=True),
        one.verdict if one.change.value is not None else MISSING,
        "" if one.verdict != "cannot be told" else _needed(one),
    ]


def conclusion(comparison: Comparison) -> str:
    """What can be said, in one or two sentences."""
    headline, one = comparison.headline, comparison.overall[comparison.headline]
    measured = f"{headline} {_signed(one.change.value)} ({ends(one.change, signed=True)}) on {one.images} images"
    if one.verdict != "cannot be told":
        return f"B is {one.verdict} than A: {measured}."
    if one.least_told is None:
        return f"It cannot be told which is better: {measured}, without any spread."
    least = f"{one.images} images tell differences from about {number(one.least_told)} on."
    return (
        f"It cannot be told which is better: {measured}. If the difference is as measured, "
        f"about {_needed(one)} images would tell it; {least}"
    )


def notes(comparison: Comparison) -> list[str]:
    """What to keep in mind with these figures."""
    lines = [
        f"Intervals are of {100 * LEVEL:.0f} %, from random halves of the images. Of twenty classes that are equal, "
        "one is called better or worse by chance; the figure over all classes decides."
    ]
    if comparison.images < FEW_IMAGES:
        lines.append(f"{comparison.images} images are too few: below {FEW_IMAGES} intervals are rough guesses.")
    return lines


def _needed(one: Difference) -> str:
    if one.change.error is None:
        return MISSING
    return f"{one.images_needed:,}" if one.images_needed is not None else "more than a million"


def _signed(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.3f}"


def rows_by_change(comparison: Comparison, figure: str) -> Sequence[tuple[str, Difference]]:
    """The classes with a difference, the greatest loss first."""
    known = [(name, one) for name, one in comparison.per_class[figure].items() if one.change.value is not None]
    return sorted(known, key=lambda row: row[1].change.value or 0.0)
