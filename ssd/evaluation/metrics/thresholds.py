"""A score threshold for each class, chosen on annotated images.

The rules: `f1`, the greatest balance of precision and recall; `precision=P`, as many objects as can be found with at
least this precision; `recall=R`, as precise as can be with at least this recall. All at IoU 0.5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ssd.errors import ArgumentError
from ssd.evaluation.metrics.curves import Curve
from ssd.report.blocks import number
from ssd.report.text_table import aligned

FEW_OBJECTS = 10
"""A threshold from fewer objects of a class is mixed with that of all classes together."""
Goal = Literal["f1", "precision", "recall"]


@dataclass(frozen=True)
class Rule:
    """What a threshold is chosen for; `least` is the precision or recall that it shall have."""

    goal: Goal
    least: float = 0.0

    @staticmethod
    def parse(text: str) -> "Rule":
        """Read `f1`, `precision=0.95` or `recall=0.9`.

        Raises:
            ArgumentError: it is none of these.
        """
        goal, _, value = text.partition("=")
        remedy = "Use f1, precision=0.95 or recall=0.9."
        if goal == "f1" and not value:
            return Rule("f1")
        try:
            least = float(value)
        except ValueError:
            least = 0.0
        if goal not in get_args(Goal) or goal == "f1" or not 0 < least <= 1:
            raise ArgumentError(f"{text!r} is no rule for thresholds", place="set_thresholds", remedy=remedy)
        return Rule("precision" if goal == "precision" else "recall", least)

    def __str__(self) -> str:
        return self.goal if self.goal == "f1" else f"{self.goal}={self.least:g}"


@dataclass(frozen=True)
class ClassThreshold:
    """The threshold of one class, and what it gives on the images that it was chosen on."""

    name: str
    value: float
    objects: int
    precision: float | None
    recall: float | None
    reached: bool  # whether precision or recall is what the rule asks for

    @property
    def few(self) -> bool:
        """Whether it rests on so few objects that it was mixed with the threshold of all classes."""
        return self.objects < FEW_OBJECTS

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"value": self.value, "objects": self.objects, "precision": self.precision, "recall": self.recall}


def choose(
    curves: Mapping[str, Curve], overall: Curve, objects: Mapping[str, int], rule: Rule, least: float
) -> tuple[ClassThreshold, ...]:
    """Choose a threshold for each class, not below `least`, from which detections were looked at.

    A class with n < 10 objects gets n/10 of its own threshold and the rest of that of all classes together.
    """
    common = _best(overall, rule, least)
    chosen = []
    for name, curve in curves.items():
        share = min(1.0, objects[name] / FEW_OBJECTS)
        value = share * _best(curve, rule, least) + (1 - share) * common if share else common
        value = min(max(value, least), 1.0)
        precision, recall = _above(curve, value)
        figure = {"f1": 1.0, "precision": precision, "recall": recall}[rule.goal]
        reached = figure is not None and figure >= rule.least
        chosen.append(ClassThreshold(name, value, objects[name], precision, recall, reached))
    return tuple(chosen)


def as_text(chosen: Sequence[ClassThreshold]) -> str:
    """A table, and a line for each class whose threshold is doubtful."""
    rows = [["class", "objects", "threshold", "precision", "recall"]]
    rows += [
        [one.name, str(one.objects), number(one.value), number(one.precision), number(one.recall)] for one in chosen
    ]
    few = [f"{one.name} ({one.objects})" for one in chosen if one.few]
    missed = [one.name for one in chosen if not one.reached and not one.few]
    lines = [aligned(rows)]
    if few:
        lines.append(
            f"WARNING: fewer than {FEW_OBJECTS} objects, so mixed with the threshold of all classes: {', '.join(few)}"
        )
    if missed:
        lines.append(f"WARNING: no threshold gives the precision or recall asked for: {', '.join(missed)}")
    return "\n".join(lines)


def _best(curve: Curve, rule: Rule, least: float) -> float:
    """The threshold of one curve: in the middle of the gap below the last detection that is kept."""
    if not len(curve.scores) or not curve.recall.any():
        return max(0.5, least)  # nothing was found: the usual threshold
    if rule.goal == "f1":
        f1 = curve.f1
        top = int(f1.argmax())
        # What half an object changes is no reason for one threshold or another: the middle of all as good.
        good = f1 >= f1[top] - 0.5 * f1[top] / max(_found(curve), 1)
        first, last = top, top
        while first > 0 and good[first - 1]:
            first -= 1
        while last + 1 < len(good) and good[last + 1]:
            last += 1
        middle = (curve.scores[first] + curve.scores[last]) / 2
        kept = int((curve.scores >= middle).sum())
    elif rule.goal == "precision":
        right = np.flatnonzero(curve.precision >= rule.least)
        kept = 1 + int(right[-1] if len(right) else curve.precision.argmax())
    else:
        right = np.flatnonzero(curve.recall >= rule.least)
        kept = 1 + int(right[0]) if len(right) else len(curve.scores)
    below = float(curve.scores[kept]) if kept < len(curve.scores) else least
    least_kept = np.float32(curve.scores[kept - 1])
    # Between two neighbouring numbers the middle would round to one of them, perhaps to the score to be kept.
    return min((float(least_kept) + below) / 2, float(np.nextafter(least_kept, np.float32(0))))


def _found(curve: Curve) -> float:
    """About how many objects the curve finds at its best F1: recall is in steps of one object."""
    steps = np.diff(curve.recall, prepend=0.0)
    return float(curve.recall[-1] / max(steps[steps > 0].min(), 1e-9))


def _above(curve: Curve, threshold: float) -> tuple[float | None, float | None]:
    """Precision and recall of the detections above a threshold, as they are kept."""
    return curve.at(float(np.nextafter(np.float32(threshold), np.float32(2))))
