"""`evaluate`: the figures of a detector on a data set, by the COCO or the VOC rules."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ssd.api.evaluation_data import figures_path, name_of, open_evaluation
from ssd.api.overrides import Overrides
from ssd.api.own_thresholds import plan
from ssd.data.dataset import Dataset
from ssd.errors import ArgumentError, at_least
from ssd.evaluation.evaluate import Evaluation
from ssd.evaluation.evaluate import evaluate as evaluate_detector
from ssd.evaluation.metrics.coco import LEAST_DETECTIONS, MAX_DETECTIONS, CocoMetric
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.metrics.error_breakdown import ErrorBreakdown
from ssd.evaluation.metrics.intervals import Intervals, intervals
from ssd.evaluation.metrics.matches import Matches
from ssd.evaluation.metrics.thresholds import ClassThreshold
from ssd.evaluation.metrics.thresholds import as_text as thresholds_as_text
from ssd.evaluation.metrics.voc import VocMetric
from ssd.evaluation.page.page import write_evaluation_page
from ssd.evaluation.text import as_dict, as_text, summary_line
from ssd.inference.detector import Detector
from ssd.inference.options import named_options
from ssd.report.page import check_figures_name, check_page_name
from ssd.rules import ScoreThreshold
from ssd.system import distributed
from ssd.system.files import check_writable, refuse_existing, refuse_one_file, write_json
from ssd.tiles import Tiles, plan_of

MetricName = Literal["coco", "voc"]
METRICS: tuple[MetricName, ...] = ("coco", "voc")
BESIDE_WEIGHTS = "auto"
"""As a file name: beside the weights, under a name that says which rules, data and weights it is about."""


@dataclass(frozen=True, repr=False)
class EvaluationResult:
    """Figures of a detector on one split of a data set; `print(result.to_text())` shows the tables."""

    weights: str
    evaluation: Evaluation
    detector: Detector
    dataset: Dataset
    tiles: Tiles = 1  # that were searched
    figures_file: Path | None = None
    report: Path | None = None
    thresholds: tuple[ClassThreshold, ...] = ()  # where they were asked for, of each class of the detector
    thresholds_file: Path | None = None  # the copy of the weights that has them
    matches: Mapping[str, Matches] = field(default_factory=dict)  # what intervals are computed from, by set of rules

    @property
    def metrics(self) -> dict[str, Any]:
        """Figures of the first set of rules: `AP` and so on, 1 is perfect, None without objects; `per_class`."""
        return self.evaluation.metrics

    @property
    def by_metric(self) -> dict[str, dict[str, Any]]:
        """Figures by `coco`, `voc` and `errors`."""
        return self.evaluation.by_metric

    @functools.cached_property
    def intervals(self) -> dict[str, Intervals]:
        """95 % intervals by set of rules, figure and class ("": the mean), from random halves of the images.

        Computed at first use, in seconds. There are none for `coco` with `coco_backend="fast"`, which does not say
        what it matched.
        """
        return {name: intervals(matches) for name, matches in self.matches.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain JSON types, with versions and settings: the content of the figures file."""
        facts = as_dict(self.evaluation, self.dataset, self.detector, self.weights, self.intervals)
        return {**facts, "tiles": self.tiles}

    def to_text(self) -> str:
        """Tables of classes and of mistakes, and the figures over all classes, with their intervals."""
        text = as_text(self.evaluation, self.dataset, self.weights, self.intervals)
        return "\n\n".join([text, thresholds_as_text(self.thresholds)] if self.thresholds else [text])

    def __repr__(self) -> str:
        name = next(name for name in METRICS if self.by_metric.get(name) is self.metrics)
        figures = summary_line(name, self.metrics).partition("  ")[2]
        data = f"{Path(self.dataset.name).name}, split {self.dataset.split}"
        return f"<EvaluationResult: {figures} ({name}; {data}: {self.evaluation.images} images)>"


@named_options
def evaluate(
    weights: str | Path | Detector | None = None,
    data: str | Path | Dataset | None = None,
    *,
    split: str | None = None,
    format: str | None = None,
    metric: MetricName | Sequence[MetricName] = "coco",
    overrides: Overrides = (),
    score_threshold: ScoreThreshold | None = None,
    box_voting: float | None = None,
    max_detections: int | None = None,
    tiles: Tiles | None = None,
    batch_size: int = 8,
    workers: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    coco_backend: Literal["pycocotools", "fast"] = "pycocotools",
    set_thresholds: str | None = None,
    weights_output: str | Path | None = None,
    figures: str | Path | None = None,
    results: str | Path | None = None,
    report: str | Path | None = None,
    force: bool = False,
    progress: bool = False,
) -> EvaluationResult:
    """Detect in every image of a split once and compare with the annotations.

    `weights`: what `ssd.load` takes, a detector, or None for the newest run in ./runs, without one for "coco".
    `data`: a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...), an opened data set, or None for the validation set
    that the weights were trained with; that of "coco" is val2017, which is downloaded.
    `metric`: "coco", "voc" or both.
    `workers`: decoding threads; None: 2 for a detector on the CPU, nearly as many as there are cores for one on a GPU.
    `max_detections` is how many detections of an image are kept, and how many of an image and class count in COCO's
    figures; None: the weights' own number, and COCO's 100. AR100 then has another name, such as AR500.
    `tiles` as for `Detector.detect`; None: as many as the weights were trained with (`data.tiles`).
    `overrides` are changes to the run's config: {"data.bad_objects": "drop"}, or ("data.bad_objects=drop",).

    `set_thresholds` chooses a score threshold for each class on these images, and writes a copy of the weights that has
    them, for `detect(score_threshold="own")`: "f1" (the greatest balance of precision and recall), "precision=0.95" (as
    many objects as can be found with that precision) or "recall=0.9". The copy is `weights_output`, or beside the
    weights: best.thresholds.safetensors.

    Files are written only where they are named: `figures` (JSON), `results` (detections in COCO's format, for
    metric="coco") and `report` (an HTML page). "auto" puts figures and report beside the weights.

    Under `torchrun` every process takes its share of the images and gets all figures; the first one writes.

    Raises:
        EvaluationError: no data is known for the weights, or no class is in both.
        ArgumentError: a number out of its range, or a file that is there already (without `force`).
        ConfigError, DatasetError, CheckpointError: what is named cannot be used.
    """
    chosen: tuple[MetricName, ...] = (metric,) if isinstance(metric, str) else tuple(metric)
    _check(chosen, coco_backend, figures, results, report, force=force)
    name = name_of(weights)
    thresholds = plan(set_thresholds, name, weights_output, score_threshold, force=force)
    at_least(1, batch_size=batch_size)
    at_least(0, workers=workers)
    at_least(LEAST_DETECTIONS, max_detections=max_detections)
    target = distributed.local_device(device)
    with distributed.process_group(target):
        first = distributed.rank() == 0
        # One process leaves the choice to the weights: exported graphs run on the CPU beside a GPU too.
        where = device if distributed.world_size() == 1 else str(target)
        runtime = {"device": where, "precision": precision, "backend": backend}
        detector, dataset, config = open_evaluation(name, weights, data, split, format, overrides, **runtime)
        rules = detector.rules(score_threshold=score_threshold, box_voting=box_voting, max_detections=max_detections)
        asked = {"score_threshold": score_threshold, "box_voting": box_voting, "max_detections": max_detections}
        beside = functools.partial(figures_path, chosen, name, config, dataset, **asked, tiles=tiles)
        places = _places(figures, report, beside)
        if first:
            check_writable(*places)
        tiles = detector.settings.tiles if tiles is None else tiles
        metrics = _metrics(chosen, dataset, coco_backend, max_detections, everything=report is not None)
        if thresholds is not None:
            metrics.setdefault("details", Details(dataset.records, dataset.class_names))
        evaluation = evaluate_detector(
            detector,
            dataset,
            *metrics.values(),
            rules=rules,
            plan=plan_of(tiles, detector.input_size),
            batch_size=batch_size,
            workers=workers,
            progress=progress and first,
        )
    assert evaluation is not None  # it is not asked to stop
    result = EvaluationResult(name, evaluation, detector, dataset, tiles, matches=_matches(metrics) if first else {})
    if not first:
        return result
    if thresholds is not None:
        by_class = thresholds.carry_out(name, detector, dataset, metrics["details"], rules.score_threshold)
        result = dataclasses.replace(result, thresholds=by_class, thresholds_file=thresholds.copy)
    if results is not None:
        Path(results).parent.mkdir(parents=True, exist_ok=True)
        metrics["coco"].write_results(results)
    result = dataclasses.replace(result, figures_file=places[0], report=places[1])
    _write(result, metrics)
    return result


def _check(
    chosen: tuple[MetricName, ...],
    coco_backend: str,
    figures: str | Path | None,
    results: str | Path | None,
    report: str | Path | None,
    *,
    force: bool,
) -> None:
    if not chosen or not set(chosen) <= set(METRICS):
        raise ArgumentError(f"{chosen!r} is unknown", place="metric", remedy="Use coco, voc or both.")
    of_coco = {"results": results is not None, "coco_backend": coco_backend != "pycocotools" and report is None}
    for place, asked in of_coco.items():
        if asked and "coco" not in chosen:
            raise ArgumentError("needs the COCO rules", place=place, remedy="Evaluate with metric='coco' (--coco).")
    check_page_name(None if report == BESIDE_WEIGHTS else report)
    check_figures_name(figures)
    if report == BESIDE_WEIGHTS and figures not in (None, BESIDE_WEIGHTS):
        report = Path(figures).with_suffix(".html")
    named = [path for path in (figures, results, report) if path not in (None, BESIDE_WEIGHTS)]
    refuse_one_file(*named)
    refuse_existing(*named, force=force)
    check_writable(*named)


def _metrics(
    chosen: tuple[MetricName, ...], dataset: Dataset, coco_backend: Any, limit: int | None, *, everything: bool
) -> dict[str, Any]:
    """The metrics by name, those that were asked for first; `everything` is what a report shows."""
    records, names = dataset.records, dataset.class_names
    make: dict[str, Callable[[], Any]] = {
        "coco": lambda: CocoMetric(
            records,
            names,
            dataset.category_ids,
            backend=coco_backend,
            keep_matches=True,
            max_detections=limit or MAX_DETECTIONS[-1],
        ),
        "voc": lambda: VocMetric(records, names),
        "details": lambda: Details(records, names),
        "errors": lambda: ErrorBreakdown(records, names),
    }
    wanted = dict.fromkeys([*chosen, *(make if everything else ()), "errors"])
    return {name: make[name]() for name in wanted}


def _matches(metrics: Mapping[str, Any]) -> dict[str, Matches]:
    kept = {name: metrics[name].matches() for name in METRICS if name in metrics}
    return {name: matches for name, matches in kept.items() if matches is not None}


def _places(
    figures: str | Path | None, report: str | Path | None, beside: Callable[[], Path]
) -> tuple[Path | None, Path | None]:
    """The files for figures and report; `beside` is the place of figures beside the weights."""
    if figures == BESIDE_WEIGHTS:
        figures = beside()
    if report == BESIDE_WEIGHTS:
        report = Path(figures or beside()).with_suffix(".html")
    return (None if figures is None else Path(figures)), (None if report is None else Path(report))


def _write(result: EvaluationResult, metrics: dict[str, Any]) -> None:
    """Write the files that the result names."""
    if result.figures_file is None and result.report is None:
        return
    summary = result.to_dict()
    if result.figures_file is not None:
        write_json(result.figures_file, summary)
    if result.report is not None:
        write_evaluation_page(result.report, summary, metrics["details"], result.detector, result.dataset)
