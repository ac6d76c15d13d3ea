"""Confusions between classes, kinds of mistakes, and calibration of the scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from ssd.evaluation.metrics.calibration import Calibration
from ssd.report.axes import Axis
from ssd.report.blocks import Cell, Row, Section, Table, Text, number, percent
from ssd.report.charts import bar_chart

_CLASSES = 16  # most rows of a readable confusion matrix
_PAIRS = 12
_NARROW = 4  # most classes of a matrix with space for a table beside it
_MEANINGS = {
    "classification": "right place, wrong class",
    "location": "right class, IoU of 0.1 to 0.5",
    "both": "wrong class, IoU of 0.1 to 0.5",
    "duplicate": "an object that is found already",
    "background": "nothing is there",
    "missed": "an object that no detection meant",
}


def confusion_section(matrix: Int[np.ndarray, "C C"], class_names: Sequence[str], threshold: float) -> Section:
    """The matrix, or its most confused part, and the most frequent confusions."""
    names = [*class_names, "nothing"]
    kept, folded = _most_confused(matrix), ""
    if len(kept) < len(names):
        matrix, names = _fold(matrix, kept), [*(names[place] for place in kept[:-1]), "other classes", "nothing"]
        folded = f" The {_CLASSES} most confused of {len(class_names)} classes, the others together."
    sums = matrix.sum(axis=1)
    rows: list[Row] = [
        [name, *(Cell(str(count), shade=count / max(total, 1)) if count else "" for count in row.tolist()), str(total)]
        for name, row, total in zip(names, matrix, sums.tolist(), strict=True)
    ]
    note = (
        "A row is what is there, a column what was said: the column nothing counts missed objects, the row nothing "
        f"false alarms. Coloured by the share of the row.{folded}"
    )
    half = len(names) <= _NARROW
    blocks = [Table(["there is", *names, "together"], rows, note=note, half=half), _pairs(matrix, names)]
    intro = f"Detections from {threshold:.2f} on, each on the object it overlaps most, whatever its class (IoU 0.50)."
    return Section("confusion", "Confusion", blocks, intro)


def error_section(errors: Mapping[str, Any]) -> Section:
    """Kinds of mistakes and their cost in AP."""
    kinds = {kind: row for kind, row in errors.items() if isinstance(row, Mapping)}
    greatest = max([row["dAP"] or 0.0 for row in kinds.values()], default=0.0) or 1.0
    rows: list[Row] = [
        [kind, _MEANINGS.get(kind, ""), str(row["count"]), Cell(number(row["dAP"]), bar=(row["dAP"] or 0.0) / greatest)]
        for kind, row in kinds.items()
    ]
    intro = (
        "How much AP50 would rise without each kind of mistake, mended alone (after TIDE, Bolya et al., 2020). AP50 is "
        f"the mean area under the curves above here, {number(errors.get('AP50'))}; COCO's, on top, reads the same "
        "curves at 101 points. Work on the longest bar. Counts include detections of any score."
    )
    return Section("errors", "Kinds of mistakes", [Table(["mistake", "", "count", "costs AP50"], rows, words=2)], intro)


def calibration_section(calibration: Calibration) -> Section:
    """The reliability diagram, its bins and the expected calibration error."""
    edges = [f"{edge:g}" for edge in calibration.edges.round(3).tolist()]
    right = [None if np.isnan(share) else float(share) for share in calibration.right]
    every, confident = calibration.error(), calibration.error(0.3)
    chart = bar_chart(
        "Reliability",
        edges,
        {"share that is right": right},
        x="score",
        y=Axis(0, 1, "share that is right"),
        diagonal=True,
        note="On the dashed line a score is a probability. Bars below it promise too much, bars above it too little.",
    )
    rows: list[Row] = [
        [f"{low} to {high}", str(count), number(score, 2), percent(share)]
        for low, high, count, score, share in zip(
            edges, edges[1:], calibration.counts.tolist(), calibration.scores, calibration.right, strict=False
        )
    ]
    text = (
        f"Expected calibration error: {number(every)} over all detections, {number(confident)} over those from 0.3 on "
        "(0 is perfect)."
    )
    bins = Table(["score", "detections", "mean score", "right"], rows, half=True)
    return Section("calibration", "Calibration", [Text(text), chart, bins])


def _most_confused(matrix: Int[np.ndarray, "C C"]) -> list[int]:
    """Rows to show: all of them, or those with the most mistakes; "nothing" is always the last."""
    classes = len(matrix) - 1
    if classes <= _CLASSES:
        return list(range(classes + 1))
    between = matrix[:classes, :classes] * (1 - np.eye(classes, dtype=matrix.dtype))
    confused = between.sum(axis=0) + between.sum(axis=1)
    wrong = (matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal())[:classes]
    order = np.lexsort((-wrong, -confused))  # by confusions, then by missed objects and false alarms
    return [*sorted(order[:_CLASSES].tolist()), classes]


def _fold(matrix: Int[np.ndarray, "C C"], kept: Sequence[int]) -> Int[np.ndarray, "D D"]:
    """Sum the rows and columns that are not kept; their sum comes before the last."""
    place = np.full(len(matrix), len(kept) - 1)
    place[list(kept)] = [*range(len(kept) - 1), len(kept)]
    folded = np.zeros((len(kept) + 1, len(kept) + 1), dtype=matrix.dtype)
    np.add.at(folded, (place[:, None], place[None, :]), matrix)
    return folded


def _pairs(matrix: Int[np.ndarray, "C C"], names: Sequence[str]) -> Table | Text:
    """The most frequent confusions of one class with another."""
    wrong = matrix[:-1, :-1] * (1 - np.eye(len(matrix) - 1, dtype=matrix.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    rows: list[Row] = [
        [names[row], names[column], str(wrong[row, column])]
        for row, column in zip(*(axis.tolist() for axis in np.unravel_index(order, wrong.shape)), strict=True)
        if wrong[row, column]
    ]
    if not rows:
        return Text("No class was taken for another.")
    return Table(["there is", "taken for", "times"], rows, "Most frequent confusions", words=2, half=True)
