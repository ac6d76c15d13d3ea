"""Tables of average precision by class and by size, and of objects reached and found by size."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from torch import Tensor

from ssd.data.dataset import Dataset
from ssd.data.objects import SIZES, gather
from ssd.evaluation.metrics.coco import MOST_RECALL, recall_name
from ssd.evaluation.metrics.curves import Curve
from ssd.evaluation.metrics.details import Details
from ssd.inference.detector import Detector
from ssd.multibox.best_overlaps import REACHED, best_overlaps
from ssd.report.blocks import MISSING, Cell, Row, Section, Table, number, shaded
from ssd.tiles import Window

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
_SIZES = (("all", "AP", MOST_RECALL), ("small", "APs", "ARs"), ("medium", "APm", "ARm"), ("large", "APl", "ARl"))


def class_table(summary: Mapping[str, Any], curves: Mapping[str, Curve], threshold: float) -> Table:
    """One row per class and the mean: the measured APs, precision and recall at the threshold."""
    columns = [column for column in _COLUMNS if column[1] in summary]
    metric = summary[columns[0][1]]
    known = summary.get("intervals", {}).get(columns[0][1])
    headings = [heading for heading, _, _ in columns]
    head = [
        "class",
        "objects",
        headings[0],
        f"{headings[0]}, 95 %",
        *headings[1:],
        "precision",
        "recall",
        "best threshold",
    ]
    rows: list[Row] = []
    for name, own in metric["per_class"].items():
        figures = [summary[metric_name]["per_class"][name].get(figure) for _, metric_name, figure in columns]
        at = [*map(number, curves[name].at(threshold)), number(curves[name].best_threshold(), 2)]
        range_ = _interval(known and known["per_class"].get(name), columns[0][2])
        rows.append([name, str(own["objects"]), shaded(figures[0]), range_, *map(number, figures[1:]), *at])
    means = [summary[metric_name].get(figure) for _, metric_name, figure in columns]
    range_ = _interval(known, columns[0][2])
    rows.append(["mean", str(metric["objects"]), shaded(means[0]), range_, *map(number, means[1:]), "", "", ""])
    note = (
        f"Precision and recall are those from a score of {threshold:.2f} on; the best threshold of a class is where "
        "its F1 is greatest. n/a: there is no such object in this split, or nothing was said. 95 %: the interval in "
        "which the figure lies over all images of this kind, as far as these can say."
    )
    return Table(head, rows, "By class", note, total=True)


def _interval(known: Mapping[str, Any] | None, figure: str) -> str:
    ends = known.get(figure) if known else None
    return MISSING if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def size_table(coco: Mapping[str, Any]) -> Table:
    """AP and AR of all, small, medium and large objects."""
    most = recall_name(coco)
    rows: list[Row] = [
        [name, shaded(coco.get(ap)), shaded(coco.get(most if ar == MOST_RECALL else ar))] for name, ap, ar in _SIZES
    ]
    note = f"{most}: recall with up to {most.removeprefix('AR')} detections of a class in an image, mean over IoU."
    return Table(["size", "AP", most], rows, "By size", note)


def reach_section(
    details: Details,
    detector: Detector,
    dataset: Dataset,
    threshold: float,
    plan: Callable[[int, int], list[Window]] | None = None,
) -> Section:
    """The shares of objects that default boxes reach and that the detector finds, by size.

    With the `plan` of `plan_of` an object is reached in any of the windows that it lies in as a whole.
    """
    objects = gather(dataset)
    owners, boxes = (np.arange(len(objects.boxes)), objects.boxes) if plan is None else _in_windows(dataset, plan)
    best = np.zeros(len(objects.boxes), np.float32)
    np.maximum.at(best, owners, best_overlaps(boxes, detector.settings.boxes).numpy())
    reached = best >= REACHED
    scores = np.concatenate([np.zeros(0), *(scores[~record.crowd] for record, scores in details.found_scores())])
    counted, sizes = ~np.isnan(scores), objects.sizes()
    groups = {"all": counted} | {name: counted & (sizes == place) for place, name in enumerate(SIZES)}
    rows: list[Row] = [
        [name, str(int(group.sum())), *(_share(which[group]) for which in (reached, scores > 0, scores >= threshold))]
        for name, group in groups.items()
    ]
    head = ["size", "objects", "reached", "found at any score", f"found from {threshold:.2f} on"]
    intro = (
        f"What one of the {len(detector.default_boxes)} default boxes overlaps by 0.5 is reached: it can be learned "
        "well. Where few are reached, other default boxes or a larger input help; where many are reached and few "
        "found, training does."
    )
    return Section("sizes", "Objects by size", [Table(head, rows)], intro)


def _in_windows(
    dataset: Dataset, plan: Callable[[int, int], list[Window]]
) -> tuple[Int[np.ndarray, "N"], Float32[Tensor, "N 4"]]:
    """The objects in each window that holds them whole: places among all objects, and fractions of the window."""
    owners, boxes, before = [np.zeros(0, np.int64)], [np.zeros((0, 4), np.float32)], 0
    for record in dataset.records:
        real = record.boxes[~record.crowd]
        for left, top, right, bottom in plan(record.height, record.width):
            whole = (real[:, :2] >= (left, top)).all(axis=1) & (real[:, 2:] <= (right, bottom)).all(axis=1)
            moved = (real[whole] - (left, top, left, top)) / ((right - left, bottom - top) * 2)
            owners.append(before + np.flatnonzero(whole))
            boxes.append(moved.astype(np.float32))
        before += len(real)
    return np.concatenate(owners), torch.from_numpy(np.concatenate(boxes))


def _share(which: Bool[np.ndarray, "N"]) -> Cell:
    share = float(which.mean()) if len(which) else None
    return Cell(number(share), bar=share)
