"""The tables of figures: average precision by class and by size."""

from collections.abc import Mapping
from typing import Any

from ssd.evaluation.page.curves import CurveLike
from ssd.report.blocks import Row, Table, number, shaded

# (heading, metric, figure)
_COLUMNS = (
    ("AP", "coco", "AP"),
    ("AP50", "coco", "AP50"),
    ("AP75", "coco", "AP75"),
    ("small", "coco", "APs"),
    ("medium", "coco", "APm"),
    ("large", "coco", "APl"),
    ("VOC", "voc", "AP"),
    ("VOC07", "voc", "AP07"),
)
_SIZES = (("all", "AP", "AR100"), ("small", "APs", "ARs"), ("medium", "APm", "ARm"), ("large", "APl", "ARl"))


def class_table(summary: Mapping[str, Any], curves: Mapping[str, CurveLike], threshold: float) -> Table:
    """One row a class and their mean: every AP that was measured, precision and recall at the threshold."""
    columns = [column for column in _COLUMNS if column[1] in summary]
    metric = summary[columns[0][1]]
    head = ["class", "objects", *(heading for heading, _, _ in columns), "precision", "recall", "best threshold"]
    rows: list[Row] = []
    for name, own in metric["per_class"].items():
        figures = [summary[metric_name]["per_class"][name].get(figure) for _, metric_name, figure in columns]
        at = [*map(number, curves[name].at(threshold)), number(curves[name].best_threshold(), 2)]
        rows.append([name, str(own["objects"]), shaded(figures[0]), *map(number, figures[1:]), *at])
    means = [summary[metric_name].get(figure) for _, metric_name, figure in columns]
    rows.append(["mean", str(metric["objects"]), shaded(means[0]), *map(number, means[1:]), "", "", ""])
    note = (
        f"Precision and recall are those from a score of {threshold:.2f} on; the best threshold of a class is where "
        "its F1 is greatest. n/a: there is no such object in this split, or nothing was said."
    )
    return Table(head, rows, "By class", note, total=True)


def size_table(coco: Mapping[str, Any]) -> Table:
    """AP and AR of all, small, medium and large objects."""
    rows: list[Row] = [[name, shaded(coco.get(ap)), shaded(coco.get(ar))] for name, ap, ar in _SIZES]
    return Table(
        ["size", "AP", "AR100"], rows, "By size", "AR100: recall with up to 100 detections a image, mean over IoU."
    )
