"""`compare`: two detectors on the same images, with intervals, and whether one is better."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.api.evaluate import EvaluationResult, MetricName, evaluate
from ssd.api.evaluation_data import find_config
from ssd.api.overrides import Overrides
from ssd.data.dataset import Dataset
from ssd.data.split_checks import shared_images
from ssd.errors import ArgumentError, SSDError, at_least, printable
from ssd.evaluation.comparison import Comparison, Verdict, as_text, compare_matches, conclusion
from ssd.evaluation.metrics.accumulator import annotation_hash
from ssd.evaluation.metrics.intervals import RESAMPLES
from ssd.evaluation.page.comparison_page import comparison_page
from ssd.experiment.data import open_split
from ssd.inference.detector import Detector
from ssd.inference.options import named_options
from ssd.report.page import check_figures_name, check_page_name, write_page
from ssd.system.files import check_writable, refuse_existing, refuse_one_file, write_json
from ssd.weights.resolve import config_beside


@dataclass(frozen=True, repr=False)
class ComparisonResult:
    """The comparison of B with A; `print(result.to_text())` shows the tables."""

    a: EvaluationResult
    b: EvaluationResult
    comparison: Comparison
    warnings: tuple[str, ...] = ()  # what makes the figures doubtful
    figures_file: Path | None = None
    report: Path | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether B is better or worse than A by AP, or cannot be told."""
        return self.comparison.verdict

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain JSON types."""
        dataset = self.b.dataset
        return {
            "a": self.a.weights,
            "b": self.b.weights,
            "data": dataset.name,
            "split": dataset.split,
            "annotation_hash": annotation_hash(dataset.records, dataset.class_names),
            **self.comparison.to_dict(),
            "warnings": list(self.warnings),
        }

    def to_text(self) -> str:
        """Which is which, the tables, and the conclusion as the last line."""
        head = [f"A: {self.a.weights}", f"B: {self.b.weights}", _data_line(self.b)]
        lines = [printable(line) for line in (*head, *(f"WARNING: {text}" for text in self.warnings))]
        return "\n".join(lines) + "\n\n" + as_text(self.comparison)

    def write_report(self, path: str | Path, *, force: bool = False) -> None:
        """Write an HTML page: the conclusion, figures with intervals, classes.

        Raises:
            ArgumentError: the file is there already, and `force` is not set.
        """
        refuse_existing(path, force=force)
        facts = {
            "A": self.a.weights,
            "A, detector": repr(self.a.detector).removeprefix("<Detector: ").rstrip(">"),
            "B": self.b.weights,
            "B, detector": repr(self.b.detector).removeprefix("<Detector: ").rstrip(">"),
            "data": _data_line(self.b),
        }
        write_page(comparison_page(self.comparison, self.a.weights, self.b.weights, facts, self.warnings), path)

    def __repr__(self) -> str:
        return f"<ComparisonResult: {conclusion(self.comparison)}>"


@named_options
def compare(
    a: str | Path | Detector,
    b: str | Path | Detector,
    data: str | Path | Dataset | None = None,
    *,
    split: str | None = None,
    format: str | None = None,
    metric: MetricName = "coco",
    overrides: Overrides = (),
    max_detections: int | None = None,
    resamples: int = RESAMPLES,
    batch_size: int = 8,
    workers: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    figures: str | Path | None = None,
    report: str | Path | None = None,
    force: bool = False,
    progress: bool = False,
) -> ComparisonResult:
    """Evaluate both on the same images, and say whether B is better than A or whether the images cannot tell.

    `a` and `b` are what `ssd.load` takes, or detectors. The data is found as `ssd.evaluate` finds it for A: its
    validation set, or `data` and `split`. Every figure has a 95 % interval from `resamples` random halves of the
    images, which are the same in every call; the difference is measured on the same images for both, so its interval
    is smaller than those of the figures. `figures` (JSON) and `report` (HTML) name files to write.

    Raises:
        EvaluationError: no data is known for A, or no class is in both.
        ArgumentError: a number out of its range, or a file that is there already (without `force`).
        ConfigError, DatasetError, CheckpointError: what is named cannot be used.
    """
    at_least(100, resamples=resamples)
    if metric not in ("coco", "voc"):
        raise ArgumentError(f"{metric!r} is unknown", place="metric", remedy="Use coco or voc.")
    check_page_name(report)
    check_figures_name(figures)
    refuse_one_file(figures, report)
    refuse_existing(figures, report, force=force)
    check_writable(figures, report)
    options: dict[str, Any] = {
        "metric": metric,
        "max_detections": max_detections,
        "batch_size": batch_size,
        "workers": workers,
        "device": device,
        "precision": precision,
        "backend": backend,
        "progress": progress,
    }
    first = evaluate(a, data, split=split, format=format, overrides=overrides, **options)
    second = evaluate(b, first.dataset, **options)
    comparison = compare_matches(first.matches[metric], second.matches[metric], resamples)
    places = [None if path is None else Path(path) for path in (figures, report)]
    result = ComparisonResult(first, second, comparison, _warnings(first, second), *places)
    if result.figures_file is not None:
        write_json(result.figures_file, result.to_dict())
    if result.report is not None:
        result.write_report(result.report, force=force)
    return result


def _data_line(result: EvaluationResult) -> str:
    return f"{result.dataset.name}, split {result.dataset.split}: {result.evaluation.images} images"


def _warnings(a: EvaluationResult, b: EvaluationResult) -> tuple[str, ...]:
    """What makes the comparison unfair, as far as the configs beside the weights say."""
    lines = []
    for letter, one in (("A", a), ("B", b)):
        shared = _trained_on(one)
        if shared:
            lines.append(
                f"{letter} was trained on {shared} of the {len(one.dataset)} images, so its figures are too good"
            )
        if one.evaluation.classes.missing:
            lines.append(f"{letter} does not know {', '.join(one.evaluation.classes.missing)}: their AP is 0")
    return tuple(lines)


def _trained_on(result: EvaluationResult) -> int:
    """How many of the images the weights were trained on; 0 where nothing says so."""
    if config_beside(result.weights) is None:
        return 0
    try:
        return shared_images(open_split(find_config(result.weights), "train"), result.dataset)
    except SSDError:  # the data is no longer there
        return 0
