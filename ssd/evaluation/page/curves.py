"""Precision-recall curves, and precision and recall by score threshold."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from ssd.evaluation.metrics.curves import Curve
from ssd.report.axes import Axis
from ssd.report.blocks import Section, number
from ssd.report.charts import COLORS, Series, line_chart

_POINTS = 200  # most points of a line
_BEST, _WORST = 3, 4  # classes with a colour if there are more classes than colours


def curve_section(curves: Mapping[str, Curve], overall: Curve, threshold: float) -> Section:
    """The section with both charts."""
    recall, precision = Axis(0, 1, "recall"), Axis(0, 1, "precision")
    share = Axis(0, 1, "share")
    many = len(curves) > COLORS
    note = (
        "With each class the area under its curve: the table's AP50 is COCO's reading of it at 101 points, and VOC "
        "matches detections to objects by other rules, so both may differ a little."
    )
    note += f" The {_BEST} best and {_WORST} worst of {len(curves)} classes, the others faint." if many else ""
    blocks = [
        line_chart("Precision and recall at IoU 0.50", _class_lines(curves), x=recall, y=precision, note=note),
        line_chart(
            "What a score threshold does",
            _threshold_lines(overall),
            x=Axis(0, 1, "score threshold"),
            y=share,
            marks=[(threshold, f"best F1 at {threshold:.2f}")],
            note=f"All classes together. F1, the balance of both, is greatest at {threshold:.2f} (dotted).",
        ),
    ]
    return Section("curves", "Precision and recall", blocks)


def envelope(curve: Curve) -> tuple[list[float], list[float]]:
    """Recall and precision of the monotone curve: at each recall the best precision there or beyond. Its area is AP.

    It begins at recall 0 and falls to 0 behind the last recall reached.
    """
    if not len(curve.recall):
        return [0.0, 1.0], [0.0, 0.0]
    end = float(curve.recall[-1])
    heights = np.maximum.accumulate(curve.precision[::-1])[::-1]
    recalls = np.linspace(0.0, end, _POINTS)
    # Many detections of low score hardly change recall, so points are evenly spread over recall.
    places = np.searchsorted(curve.recall, recalls - 1e-9).clip(max=len(heights) - 1)
    return [*recalls.tolist(), end, 1.0], [*heights[places].tolist(), 0.0, 0.0]


def at_thresholds(overall: Curve) -> tuple[list[float], dict[str, list[float]]]:
    """Precision, recall and F1 at even thresholds from 0 to 1; above every score there is no precision (NaN)."""
    thresholds = np.linspace(0.0, 1.0, _POINTS + 1)
    kept = np.searchsorted(-overall.scores, -thresholds, side="right")  # number of points of the curve

    def read(values: Float[np.ndarray, "P"], above: float) -> list[float]:
        return [*np.append(above, values)[kept].tolist()]

    columns = {"precision": (overall.precision, np.nan), "recall": (overall.recall, 0.0), "F1": (overall.f1, 0.0)}
    return thresholds.tolist(), {name: read(values, above) for name, (values, above) in columns.items()}


def _class_lines(curves: Mapping[str, Curve]) -> list[Series]:
    known = sorted(
        (name for name in curves if curves[name].area is not None), key=lambda name: -(curves[name].area or 0)
    )
    named = known if len(known) <= COLORS else [*known[:_BEST], *known[-_WORST:]]
    faint = [Series(name, *envelope(curves[name]), faint=True) for name in known if name not in named]
    bold = [
        Series(f"{name}, area {number(curves[name].area)}", *envelope(curves[name]), color=place % COLORS + 1)
        for place, name in enumerate(named)
    ]
    return [*faint, *bold]


def _threshold_lines(overall: Curve) -> list[Series]:
    thresholds, columns = at_thresholds(overall)
    return [Series(name, thresholds, values, color) for color, (name, values) in enumerate(columns.items(), start=1)]
