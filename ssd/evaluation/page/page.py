"""The page of an evaluation: figures first, then what is behind them, then what they were measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from jaxtyping import Int

from ssd.evaluation.page.curves import CurveLike, curve_section
from ssd.evaluation.page.mistakes import CalibrationLike, calibration_section, confusion_section, error_section
from ssd.evaluation.page.tables import class_table, size_table
from ssd.report.blocks import (
    Block,
    Cell,
    Facts,
    Gallery,
    Image,
    Page,
    Row,
    Section,
    Source,
    Table,
    Text,
    Tile,
    number,
)

_CITED = ("AP", "AP50", "AP75")


@dataclass(frozen=True)
class SizeRow:
    """The objects of one size: how many there are, what the default boxes reach and the detector finds."""

    name: str
    objects: int
    reached: float | None  # share with an IoU of 0.5 with a default box
    found: float | None  # share found at any score the detector gives out
    found_above: float | None  # share found at the threshold


@dataclass(frozen=True)
class EvaluationFigures:
    """Everything that an evaluation's page shows."""

    summary: Mapping[str, Any]  # the figures file: weights, data, split, coco, voc, errors, versions, ...
    class_names: Sequence[str]
    curves: Mapping[str, CurveLike]  # of each class
    overall: CurveLike  # of all classes thrown together
    threshold: float  # at which confusions, misses and false alarms are counted
    confusion: Int[np.ndarray, "C C"]  # what is there by what was said; last row and column: nothing
    calibration: CalibrationLike
    sizes: Sequence[SizeRow]
    default_boxes: int
    stages: Mapping[str, float]  # milliseconds per image
    misses: Sequence[Image]
    miss_count: int
    false_alarms: Sequence[Image]
    false_alarm_count: int
    worst: Sequence[Image]  # whole images, truth beside detections
    config: str | None = None  # YAML
    training_page: str | None = None  # a file beside the page
    made: str = ""


def evaluation_page(figures: EvaluationFigures) -> Page:
    """Lay out the page."""
    summary = figures.summary
    sections = [
        _figures(figures),
        curve_section(figures.curves, figures.overall, figures.threshold),
        confusion_section(figures.confusion, figures.class_names, figures.threshold),
        error_section(summary["errors"]),
        calibration_section(figures.calibration),
        _sizes(figures),
        _images(figures),
        _speed(figures),
        _setup(figures),
    ]
    return Page(
        title=f"Evaluation: {_short(summary['weights'])}",
        subtitle=f"{summary['data']}, split {summary['split']}: {summary['images']} images",
        sections=sections,
        tiles=_tiles(figures),
        verdict=_verdict(figures),
        links=[("training curves", figures.training_page)] if figures.training_page else [],
        made=figures.made,
    )


def _short(weights: str) -> str:
    """The run's name for its best weights, else the file's."""
    path = PurePath(weights)
    return path.parent.name if path.stem in ("best", "last") and path.parent.name else path.name


def _tiles(figures: EvaluationFigures) -> list[Tile]:
    summary = figures.summary
    coco, voc = summary.get("coco", {}), summary.get("voc", {})
    notes = {"AP": "mean over IoU 0.50 to 0.95", "AP50": "IoU 0.50", "AP75": "IoU 0.75"}
    precision, recall = figures.overall.at(figures.threshold)
    return [
        *(Tile(name, number(coco.get(name)), f"COCO, {notes[name]}") for name in _CITED),
        Tile("VOC", number(voc.get("AP")), "IoU 0.50, area under the curve"),
        Tile(
            "best threshold",
            f"{figures.threshold:.2f}",
            f"precision {number(precision, 2)}, recall {number(recall, 2)}",
        ),
        Tile("images/s", f"{summary['images_per_second']:.1f}", str(summary["detector"]).strip("<>").split(", ")[-1]),
    ]


def _verdict(figures: EvaluationFigures) -> Text | None:
    """A sentence where the figures cannot speak for themselves."""
    if not len(figures.overall.scores):
        return Text("Nothing was detected: every figure is 0 or missing. Is the score threshold too high?", "bad")
    if figures.overall.area is None:
        return Text("There is no object to find in this split, so there is no average precision.", "bad")
    missing = figures.summary.get("classes_missing")
    if missing:
        return Text(f"The detector does not know {', '.join(missing)}: their AP is 0.", "bad")
    return None


def _figures(figures: EvaluationFigures) -> Section:
    blocks: list[Block] = [class_table(figures.summary, figures.curves, figures.threshold)]
    if "coco" in figures.summary:
        blocks.append(size_table(figures.summary["coco"]))
    intro = (
        "Average precision sums up the precision-recall curve of a class; 1 is perfect. AP is its mean over IoU 0.50 "
        "to 0.95, AP50 and AP75 are at one IoU. Small and medium are COCO's: up to 32 x 32 and 96 x 96 pixels."
    )
    return Section("figures", "Figures", blocks, intro)


def _sizes(figures: EvaluationFigures) -> Section:
    rows: list[Row] = [
        [row.name, str(row.objects), *map(_share, (row.reached, row.found, row.found_above))] for row in figures.sizes
    ]
    head = ["size", "objects", "reached", "found at any score", f"found from {figures.threshold:.2f} on"]
    intro = (
        f"What one of the {figures.default_boxes} default boxes overlaps by 0.5 is reached: it can be learned well. "
        "Where few are reached, other default boxes or a larger input help; where many are reached and few found, "
        "training does."
    )
    return Section("sizes", "Objects by size", [Table(head, rows)], intro)


def _share(value: float | None) -> Cell:
    return Cell(number(value), bar=value)


def _images(figures: EvaluationFigures) -> Section:
    mark = f"{figures.threshold:.2f}"
    blocks: list[Block] = []
    if figures.misses:
        note = "Never found at any score first, larger ones first; at most two of a image."
        blocks.append(Gallery(figures.misses, f"Missed objects ({figures.miss_count} below {mark})", note, 230))
    if figures.false_alarms:
        note = "The most confident first; at most two of a image."
        blocks.append(
            Gallery(figures.false_alarms, f"False alarms ({figures.false_alarm_count} from {mark} on)", note, 230)
        )
    if figures.worst:
        note = f"Truth on the left, detections from {mark} on the right."
        blocks.append(Gallery(figures.worst, "Images with the most mistakes", note, 420))
    if not blocks:
        blocks.append(Text(f"No mistake at the threshold {mark}.", "good"))
    colours = "Orange: the mistake. Green: what is there. Blue: what was found. What overlaps the mistake is named."
    intro = colours if figures.misses or figures.false_alarms else ""
    return Section("mistakes", "The worst mistakes", blocks, intro)


def _speed(figures: EvaluationFigures) -> Section:
    total = sum(figures.stages.values())
    rows: list[Row] = [
        [name, f"{milliseconds:.1f}", Cell(f"{milliseconds / total:.0%}", bar=milliseconds / total)]
        for name, milliseconds in figures.stages.items()
    ]
    rows.append(["together", f"{total:.1f}", ""])
    summary = figures.summary
    intro = (
        f"The whole evaluation went through {summary['images']} images in {summary['seconds']:.1f} s "
        f"({summary['images_per_second']:.1f} images/s, decoding in threads beside the network). The stages were timed "
        "afterwards, one after another, on a few of the images."
    )
    blocks: list[Block] = [Table(["stage", "ms a image", "share"], rows, total=True)] if figures.stages else []
    return Section("speed", "Speed", blocks, intro)


def _setup(figures: EvaluationFigures) -> Section:
    summary = figures.summary
    data = [
        ("weights", str(summary["weights"])),
        ("detector", str(summary["detector"]).strip("<>")),
        ("post-processing", ", ".join(f"{key} {value}" for key, value in summary["postprocessing"].items())),
        ("data", str(summary["data"])),
        ("split", str(summary["split"])),
        ("images", str(summary["images"])),
        ("annotation hash", str(summary["annotation_hash"])),
        ("bad objects left out", str(summary["bad_objects_left_out"])),
        ("detections dropped", f"{summary['detections_dropped']} of classes that the data does not have"),
    ]
    versions = [(name, str(version)) for name, version in summary["versions"].items()]
    versions += [(key, str(summary[key] or "unknown")) for key in ("python", "platform", "git_commit")]
    blocks: list[Block] = [Facts(data, "Measured on"), Facts(versions, "Versions")]
    if figures.config is not None:
        blocks.append(Source(figures.config, "Config of the run"))
    return Section("setup", "Data and set-up", blocks)
