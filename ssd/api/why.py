"""`why`: the cause of every missed object, what mending it would regain, and what to try first."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssd.api.evaluation_data import name_of, open_evaluation
from ssd.api.overrides import Overrides
from ssd.data.dataset import Dataset
from ssd.errors import at_least, printable
from ssd.evaluation.causes.evidence import EvidenceDetector
from ssd.evaluation.causes.explain import Cause, MissedObject, explain
from ssd.evaluation.causes.mended import Mending
from ssd.evaluation.causes.remedies import Situation, remedy
from ssd.evaluation.causes.text import CauseFigures, as_rows, cause_table, from_score, object_lines
from ssd.evaluation.evaluate import evaluate
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.page.missed_objects import write_missed_page
from ssd.experiment.config import Config
from ssd.inference.detector import Detector
from ssd.inference.options import named_options
from ssd.report.blocks import number
from ssd.report.page import check_page_name
from ssd.rules import READABLE_SCORE, ScoreThreshold
from ssd.system.files import check_writable, refuse_existing
from ssd.weights.hub import is_hub_address
from ssd.weights.resolve import PUBLISHED

_LOWEST = 0.01  # score from which a detection below the threshold is looked at


@dataclass(frozen=True, repr=False)
class WhyResult:
    """The missed objects of a split with their causes; `print(result.to_text())` shows them."""

    weights: str
    thresholds: Mapping[str, float]  # score from which a detection of a class counts
    objects: int  # that count: no crowd regions, no difficult objects
    ap50: float | None  # of the detections from the thresholds on
    ap50_mended: float | None  # the same with every missed object mended
    causes: tuple[CauseFigures, ...]  # the greatest gain first
    missed: tuple[MissedObject, ...]  # by cause in that order, then by image
    dataset: Dataset
    details: Details = field(repr=False)
    report: Path | None = None

    @property
    def found(self) -> int:
        """The objects that are not missed."""
        return self.objects - len(self.missed)

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain JSON types."""
        return {
            "weights": self.weights,
            "data": self.dataset.name,
            "split": self.dataset.split,
            "thresholds": dict(self.thresholds),
            "objects": self.objects,
            "found": self.found,
            "AP50": self.ap50,
            "AP50_mended": self.ap50_mended,
            **as_rows(self.causes, self.missed),
        }

    def to_text(self, show: int = 10) -> str:
        """The causes as a table, then at most `show` of the missed objects."""
        head = (
            f"{self.weights} on {self.dataset.name}, split {self.dataset.split}: {self.found} of {self.objects} "
            f"objects found, {len(self.missed)} missed from {from_score(self.thresholds)} (IoU 0.50)"
        )
        if not self.missed:
            return printable(head)
        sums = (
            f"AP50 of these detections {number(self.ap50)}, with every missed object mended {number(self.ap50_mended)}"
        )
        lines = object_lines(self.missed, show) if show else []
        return "\n\n".join([printable(head), cause_table(self.causes), sums, *(["\n".join(lines)] if lines else [])])

    def write_report(self, path: str | Path, *, force: bool = False) -> None:
        """Write an HTML page: the causes, and the missed objects of each with their surroundings.

        Raises:
            ArgumentError: the file is there already, and `force` is not set.
        """
        refuse_existing(path, force=force)
        write_missed_page(
            Path(path), self.to_dict(), self.causes, self.missed, self.details, self.dataset, self.thresholds
        )

    def __repr__(self) -> str:
        named = ", ".join(f"{row.objects} {row.cause.value}" for row in self.causes)
        return f"<WhyResult: {len(self.missed)} of {self.objects} objects missed{': ' * bool(named)}{named}>"


@named_options
def why(
    weights: str | Path | Detector | None = None,
    data: str | Path | Dataset | None = None,
    *,
    split: str | None = None,
    format: str | None = None,
    overrides: Overrides = (),
    score_threshold: ScoreThreshold | None = None,
    batch_size: int = 8,
    workers: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    report: str | Path | None = None,
    force: bool = False,
    progress: bool = False,
) -> WhyResult:
    """Find the cause of every object that no detection from `score_threshold` on finds with an IoU of 0.5.

    `score_threshold` is that of `Detector.detect`; by default the weights' own thresholds, or 0.5 where they have none.
    The causes are the stages of the pipeline (`Cause`). For each one its objects alone are mended and everything is
    evaluated again: that AP50, and the config key or option to try first. `weights`, `data`, `split`, `format`,
    `overrides` and `workers` are those of `ssd.evaluate`; `report` names an HTML page to write.

    Raises:
        ArgumentError: an exported graph, a number out of its range, or a file that is there already.
        EvaluationError: no data is known for the weights, or no class is in both.
        ConfigError, DatasetError, CheckpointError: what is named cannot be used.
    """
    at_least(1, batch_size=batch_size)
    at_least(0, workers=workers)
    check_page_name(report)
    refuse_existing(report, force=force)
    check_writable(report)
    name, runtime = name_of(weights), {"device": device, "precision": precision, "backend": backend}
    detector, dataset, config = open_evaluation(name, weights, data, split, format, overrides, **runtime)
    thresholds = _thresholds(detector, dataset, score_threshold)
    rules = detector.rules(score_threshold=min(_LOWEST, *thresholds.values()))
    tracer = EvidenceDetector(detector, dataset.records, dataset.class_names)
    details = Details(dataset.records, dataset.class_names)
    evaluate(tracer, dataset, details, rules=rules, batch_size=batch_size, workers=workers, progress=progress)
    named, run = _named(name, dataset), _of_run(config)
    situation = Situation(detector.settings, details, tracer.evidence, *named, thresholds, *run)
    result = _result(situation, name, dataset, report)
    if report is not None:
        result.write_report(report, force=force)
    return result


def _thresholds(detector: Detector, data: Dataset, threshold: ScoreThreshold | None) -> dict[str, float]:
    """The score from which a detection counts, of each class of the data."""
    if threshold is None:
        threshold = "own" if detector.settings.postprocessing.own_thresholds else READABLE_SCORE
    rules = detector.rules(score_threshold=threshold)
    known = dict(zip(detector.class_names, rules.class_thresholds, strict=False))
    return {name: known.get(name, rules.score_threshold) for name in data.class_names}


def _named(weights: str, data: Dataset) -> tuple[str, str]:
    """What remedies call the weights and the data: their names, as they are typed, where a command takes these."""
    named = Path(weights).exists() or weights in PUBLISHED or is_hub_address(weights)
    return shlex.quote(weights) if named else "RUN", shlex.quote(data.name) if Path(data.name).is_dir() else "FOLDER"


def _of_run(config: Config | None) -> tuple[int | None, bool]:
    """What remedies need of the run's config: its epochs, and whether stages of the backbone were not trained."""
    if config is None:
        return None, False
    pretrained = config.model.weights is not None or config.model.backbone_weights != "none"
    epochs = None if config.train.epochs == "auto" else config.train.epochs
    return epochs, pretrained and config.model.freeze_stages != 0


def _result(situation: Situation, name: str, data: Dataset, report: str | Path | None) -> WhyResult:
    details, evidence, thresholds = situation.details, situation.evidence, np.array([*situation.thresholds.values()])
    missed, usual = explain(details, evidence, situation.settings, thresholds)
    mending = Mending(details, evidence, usual, thresholds)
    before = mending.ap50()
    by_cause: dict[Cause, list[MissedObject]] = defaultdict(list)
    for item in missed:
        by_cause[item.cause].append(item)
    figures = [_figures(cause, items, mending, before, situation) for cause, items in by_cause.items()]
    figures.sort(key=lambda row: (-(row.gain or 0.0), -row.objects, row.cause.value))
    return WhyResult(
        weights=name,
        thresholds=situation.thresholds,
        objects=sum(int((~(record.crowd | record.difficult)).sum()) for record in data.records),
        ap50=before,
        ap50_mended=mending.ap50(missed) if missed else before,
        causes=tuple(figures),
        missed=tuple(item for row in figures for item in by_cause[row.cause]),
        dataset=data,
        details=details,
        report=None if report is None else Path(report),
    )


def _figures(
    cause: Cause, missed: Sequence[MissedObject], mending: Mending, before: float | None, situation: Situation
) -> CauseFigures:
    after = mending.ap50(missed)
    gain = None if before is None or after is None else after - before
    return CauseFigures(cause, len(missed), after, gain, remedy(cause, missed, situation))
