"""Weights with a score threshold for each class, as chosen by an evaluation."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.data.dataset import Dataset
from ssd.errors import ArgumentError, is_number
from ssd.evaluation.metrics.accumulator import annotation_hash
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.metrics.thresholds import ClassThreshold, Rule, choose
from ssd.inference.detector import Detector
from ssd.inference.runtime.facts import is_graph
from ssd.rules import ScoreThreshold
from ssd.system.files import check_writable, refuse_existing
from ssd.weights.native import is_ours, load_weights, save_weights
from ssd.weights.resolve import find_weights, folder_of, read_weights


@dataclass(frozen=True)
class Plan:
    """By which rule thresholds are chosen, and the file that the copy of the weights becomes."""

    rule: Rule
    copy: Path

    def carry_out(
        self, weights: str, detector: Detector, dataset: Dataset, details: Details, least: float
    ) -> tuple[ClassThreshold, ...]:
        """Choose a threshold for each class, not below `least`, and write the copy of the weights."""
        chosen = choose_thresholds(details, self.rule, detector.class_names, least)
        source = {
            "data": dataset.name,
            "split": dataset.split,
            "images": len(dataset),
            "annotation_hash": annotation_hash(dataset.records, dataset.class_names),
        }
        write_with_thresholds(weights, self.copy, chosen, self.rule, source)
        return chosen


def plan(
    rule: str | None, weights: str, output: str | Path | None, looked_at: ScoreThreshold | None = None, *, force: bool
) -> Plan | None:
    """Check everything before the evaluation; None where no thresholds are asked for.

    Raises:
        ArgumentError: no rule, no weights that can be copied, a file that is there already (without `force`), an
            `output` without a rule, or detections `looked_at` from other scores in each class.
    """
    if rule is None:
        if output is not None:
            remedy = "Name a rule too: set_thresholds='f1' (--set-thresholds f1)."
            raise ArgumentError("goes with set_thresholds", place="weights_output", remedy=remedy)
        return None
    if looked_at is not None and not is_number(looked_at):
        remedy = "Leave it out: thresholds are chosen from all detections."
        raise ArgumentError("goes with one number for all classes", place="score_threshold", remedy=remedy)
    parsed, beside = Rule.parse(rule), place_beside(weights)
    copy = beside if output is None else Path(output)
    if copy.suffix != ".safetensors":
        problem = f"{str(copy)!r} is not a .safetensors file"
        raise ArgumentError(problem, place="weights_output", remedy="Name a .safetensors file.")
    refuse_existing(copy, force=force)
    check_writable(copy)
    return Plan(parsed, copy)


def place_beside(weights: str | Path) -> Path:
    """The file for the copy: beside the weights, `best.safetensors` -> `best.thresholds.safetensors`.

    Raises:
        ArgumentError: these are no weights that thresholds can be written into.
    """
    if str(weights).startswith("<") or is_graph(weights):
        problem = "thresholds are written into a copy of a weights file, and this is none"
        raise ArgumentError(problem, place=weights, remedy="Name the weights; then export the copy.")
    if folder_of(weights) is None:  # published weights lie in a cache
        return Path("runs") / f"{Path(str(weights)).name}.thresholds.safetensors"
    file = find_weights(weights)
    return file.with_name(f"{file.stem.removesuffix('.thresholds')}.thresholds.safetensors")


def choose_thresholds(
    details: Details, rule: Rule, class_names: Sequence[str], least: float
) -> tuple[ClassThreshold, ...]:
    """A threshold for each class of the detector; those that the data lacks get that of all classes together."""
    curves, objects = details.curves(), details.objects()
    nothing = next(iter(details.fresh(()).curves().values()))
    known = {name: curves.get(name, nothing) for name in class_names}
    return choose(known, details.overall(), {name: objects.get(name, 0) for name in class_names}, rule, least)


def write_with_thresholds(
    weights: str | Path, path: Path, chosen: Sequence[ClassThreshold], rule: Rule, source: Mapping[str, Any]
) -> None:
    """Write a copy of the weights with these thresholds; `source` says which images they were chosen on."""
    file = find_weights(weights)
    if is_ours(file):
        state, settings, extra = load_weights(file)
    else:
        (state, settings), extra = read_weights(file), {}
    rules = dataclasses.replace(settings.postprocessing, own_thresholds=tuple(one.value for one in chosen))
    facts = {"rule": str(rule), **source, "classes": {one.name: one.to_dict() for one in chosen}}
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.replace(settings, postprocessing=rules)
    save_weights(path, state, settings, extra={**extra, "thresholds": facts})
