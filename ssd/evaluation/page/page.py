"""The page of an evaluation: figures, details, and the data and settings they were measured with."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from ssd.data.dataset import Dataset
from ssd.evaluation.metrics.curves import Curve
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.page.curves import curve_section
from ssd.evaluation.page.gallery import gallery_section
from ssd.evaluation.page.mistakes import calibration_section, confusion_section, error_section
from ssd.evaluation.page.speed import speed_section, time_stages
from ssd.evaluation.page.tables import class_table, reach_section, size_table
from ssd.inference.detector import Detector
from ssd.report.blocks import Block, Facts, Page, Section, Source, Text, Tile, number
from ssd.report.page import made_by, write_page
from ssd.system.version import __version__
from ssd.tiles import plan_of
from ssd.weights.resolve import config_beside

_CITED = ("AP", "AP50", "AP75")
_TRAINING_PAGE = "report.html"


def write_evaluation_page(
    path: Path, summary: Mapping[str, Any], details: Details, detector: Detector, dataset: Dataset
) -> None:
    """Write the page; `summary` is the content of the figures file.

    Raises:
        SSDError: the file cannot be written, or an image can no longer be read.
    """
    config = config_beside(summary["weights"])
    beside = path.with_name(_TRAINING_PAGE)
    page = evaluation_page(
        summary,
        details,
        detector,
        dataset,
        config=config.read_text(encoding="utf-8", errors="replace") if config is not None else None,
        training_page=_TRAINING_PAGE if beside.is_file() and beside != path else None,
    )
    write_page(page, path)


def evaluation_page(
    summary: Mapping[str, Any],
    details: Details,
    detector: Detector,
    dataset: Dataset,
    *,
    config: str | None = None,
    training_page: str | None = None,
) -> Page:
    """Lay out the page; `config` is the run's YAML, `training_page` the name of a file beside the page."""
    threshold, curves, overall = details.threshold(), details.curves(), details.overall()
    plan = plan_of(summary.get("tiles", 1), detector.input_size)
    sections = [
        _figures(summary, curves, threshold),
        curve_section(curves, overall, threshold),
        confusion_section(details.confusion(threshold), details.class_names, threshold),
        error_section(summary["errors"]),
        calibration_section(details.calibration()),
        reach_section(details, detector, dataset, threshold, plan),
        gallery_section(details, dataset, threshold),
        speed_section(summary, time_stages(detector, dataset, plan)),
        _setup(summary, config),
    ]
    return Page(
        title=f"Evaluation: {_short(summary['weights'])}",
        subtitle=f"{summary['data']}, split {summary['split']}: {summary['images']} images",
        sections=sections,
        tiles=_tiles(summary, overall, threshold),
        verdict=_verdict(summary, overall),
        links=[("training curves", training_page)] if training_page else [],
        made=made_by(__version__),
    )


def _short(weights: str) -> str:
    """The name of the run for its best weights, else that of the file."""
    path = PurePath(weights)
    return path.parent.name if path.stem in ("best", "last") and path.parent.name else path.name


def _tiles(summary: Mapping[str, Any], overall: Curve, threshold: float) -> list[Tile]:
    coco, voc = summary.get("coco", {}), summary.get("voc", {})
    notes = {"AP": "mean over IoU 0.50 to 0.95", "AP50": "IoU 0.50", "AP75": "IoU 0.75"}
    precision, recall = overall.at(threshold)
    return [
        *(Tile(name, number(coco.get(name)), f"COCO, {notes[name]}") for name in _CITED),
        Tile("VOC", number(voc.get("AP")), "IoU 0.50, area under the curve"),
        Tile(
            "best threshold",
            f"{threshold:.2f}",
            f"precision {number(precision, 2)}, recall {number(recall, 2)}",
        ),
        Tile("images/s", f"{summary['images_per_second']:.1f}", str(summary["detector"]).strip("<>").split(", ")[-1]),
    ]


def _verdict(summary: Mapping[str, Any], overall: Curve) -> Text | None:
    """A sentence on figures that need an explanation."""
    if not len(overall.scores):
        return Text("Nothing was detected: every figure is 0 or missing. Is the score threshold too high?", "bad")
    if overall.area is None:
        return Text("There is no object to find in this split, so there is no average precision.", "bad")
    missing = summary.get("classes_missing")
    if missing:
        return Text(f"The detector does not know {', '.join(missing)}: their AP is 0.", "bad")
    return None


def _figures(summary: Mapping[str, Any], curves: Mapping[str, Curve], threshold: float) -> Section:
    blocks: list[Block] = [class_table(summary, curves, threshold)]
    if "coco" in summary:
        blocks.append(size_table(summary["coco"]))
    intro = (
        "Average precision sums up the precision-recall curve of a class; 1 is perfect. AP is its mean over IoU 0.50 "
        "to 0.95, AP50 and AP75 are at one IoU. Small and medium are COCO's: up to 32 x 32 and 96 x 96 pixels."
    )
    return Section("figures", "Figures", blocks, intro)


def _setup(summary: Mapping[str, Any], config: str | None) -> Section:
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
    if config is not None:
        blocks.append(Source(config, "Config of the run"))
    return Section("setup", "Data and set-up", blocks)
