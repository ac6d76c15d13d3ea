"""An evaluation as text and as plain JSON types."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssd.data.dataset import Dataset
from ssd.errors import printable
from ssd.evaluation.evaluate import Evaluation
from ssd.evaluation.metrics.accumulator import annotation_hash
from ssd.evaluation.metrics.coco import MOST_RECALL, recall_name
from ssd.evaluation.metrics.intervals import Estimate, Intervals, ends
from ssd.inference.detector import Detector
from ssd.report.blocks import number
from ssd.report.text_table import aligned
from ssd.system.environment import environment

# (heading, metric, figure) of the columns of the class table
_COLUMNS = (
    ("AP", "coco", "AP"),
    ("AP50", "coco", "AP50"),
    ("VOC", "voc", "AP"),
    ("VOC07", "voc", "AP07"),
)
_SUMMARIES = {
    "coco": ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", MOST_RECALL, "ARs", "ARm", "ARl"],
    "voc": ["AP", "AP07"],
}


def as_text(evaluation: Evaluation, dataset: Dataset, weights: str, intervals: Mapping[str, Intervals]) -> str:
    """Tables of classes and of mistakes, the figures over all classes, and the data they were measured on."""
    figures = {name: evaluation.by_metric[name] for name in _SUMMARIES if name in evaluation.by_metric}
    parts = [
        printable(f"{weights} on {dataset.name}, split {dataset.split}: {evaluation.images} images"),
        figure_table(figures, intervals),
        "\n".join([*(summary_line(name, values) for name, values in figures.items()), *_interval_lines(intervals)]),
        error_table(evaluation.by_metric["errors"]),
        f"{evaluation.images_per_second:.1f} images/s, {evaluation.seconds:.1f} s",
    ]
    if evaluation.classes.missing:
        parts.append(printable(f"unknown to the detector, so AP 0: {', '.join(evaluation.classes.missing)}"))
    crowded = _crowded(evaluation, dataset)
    if crowded:
        parts.append(crowded)
    if evaluation.dropped:
        parts.append(f"{evaluation.dropped} detections of classes that the data does not have were dropped")
    return "\n\n".join(parts)


def as_dict(
    evaluation: Evaluation,
    dataset: Dataset,
    detector: Detector,
    weights: str,
    intervals: Mapping[str, Intervals],
) -> dict[str, Any]:
    """The evaluation in plain JSON types, with the facts needed to repeat it."""
    return {
        "weights": weights,
        "data": dataset.name,
        "split": dataset.split,
        "images": evaluation.images,
        "annotation_hash": annotation_hash(dataset.records, dataset.class_names),
        **evaluation.by_metric,
        "intervals": {name: _plain(found) for name, found in intervals.items()},
        "classes_missing": list(evaluation.classes.missing),
        "classes_unused": list(evaluation.classes.unused),
        "detections_dropped": evaluation.dropped,
        "bad_objects_left_out": len(dataset.dropped),
        "detector": repr(detector),
        "postprocessing": dataclasses.asdict(evaluation.rules or detector.settings.postprocessing),
        "seconds": round(evaluation.seconds, 3),
        "images_per_second": round(evaluation.images_per_second, 2),
        **environment(),
    }


def _crowded(evaluation: Evaluation, dataset: Dataset) -> str:
    """A line on images with more objects of a class than detections that count; empty if there are none."""
    coco = evaluation.by_metric.get("coco")
    if coco is None:
        return ""
    limit = int(recall_name(coco).removeprefix("AR"))
    objects = [record.labels[~record.crowd] for record in dataset.records]
    counts = [int(np.bincount(labels, minlength=1).max()) for labels in objects]
    most, many = max(counts, default=0), sum(count > limit for count in counts)
    if not many:
        return ""
    # The option also sets how many detections of an image are kept, of all classes together.
    kept = 0 if evaluation.rules is None else evaluation.rules.max_detections
    return (
        f"{many} of {len(counts)} images have more than {limit} objects of a class (up to {most}), and COCO's figures "
        f"count {limit} detections of each: --max-detections {max(kept, *map(len, objects))} counts all"
    )


def figure_table(by_metric: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Intervals] | None = None) -> str:
    """One row per class, in the order of the data, and the mean; `n/a` where a class has no objects.

    The interval is that of the first column.
    """
    columns = [column for column in _COLUMNS if column[1] in by_metric]
    first = next(iter(by_metric.values()))
    _, metric, figure = columns[0]
    known = (intervals or {}).get(metric, {}).get(figure)
    rows = [["class", "objects", *(heading for heading, _, _ in columns)]]
    for name, own in first["per_class"].items():
        cells = (by_metric[metric]["per_class"][name][figure] for _, metric, figure in columns)
        rows.append([name, str(own["objects"]), *map(number, cells)])
    means = (by_metric[metric][figure] for _, metric, figure in columns)
    rows.append(["mean", str(first["objects"]), *map(number, means)])
    if known is not None:
        texts = [f"{columns[0][0]}, 95 %", *(ends(known[name]) for name in (*first["per_class"], ""))]
        rows = [[*row[:3], text, *row[3:]] for row, text in zip(rows, texts, strict=True)]
    return aligned(rows)


def _interval_lines(intervals: Mapping[str, Intervals]) -> list[str]:
    """The intervals of the figures over all classes, on one line for each set of rules."""
    return [
        f"{metric.upper():4}  "
        + "  ".join(f"{name} {ends(by_class[''])}" for name, by_class in found.items())
        + "  (95 %)"
        for metric, found in intervals.items()
    ]


def _plain(intervals: Intervals) -> dict[str, Any]:
    """[low, high] by figure, and by class and figure; None where the images do not say."""

    def pair(estimate: Estimate) -> list[float] | None:
        return None if estimate.low is None or estimate.high is None else [estimate.low, estimate.high]

    classes = [name for name in next(iter(intervals.values()), {}) if name]
    per_class = {name: {figure: pair(found[name]) for figure, found in intervals.items()} for name in classes}
    return {figure: pair(found[""]) for figure, found in intervals.items()} | {"per_class": per_class}


def summary_line(metric: str, figures: dict[str, Any]) -> str:
    """The figures over all classes, on one line."""
    names = (recall_name(figures) if name == MOST_RECALL else name for name in _SUMMARIES[metric])
    return f"{metric.upper():4}  " + "  ".join(f"{name} {number(figures[name])}" for name in names)


def error_table(errors: dict[str, Any]) -> str:
    """The counts of each kind of mistake, and how much AP50 would rise without it."""
    rows = [["mistake", "count", "costs AP50"]]
    rows += [[kind, str(row["count"]), number(row["dAP"])] for kind, row in errors.items() if isinstance(row, dict)]
    return aligned(rows)
