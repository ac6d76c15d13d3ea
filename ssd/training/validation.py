"""The evaluation of a run in training: loss and AP of the averaged weights, and whether they are the best so far."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssd.evaluation.evaluate import Evaluation, evaluate
from ssd.evaluation.metrics.accumulator import Metric
from ssd.evaluation.searching import LossSums
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.structures import Predictions, Targets
from ssd.system import distributed
from ssd.tiles import plan_of
from ssd.training.parts import RunParts
from ssd.training.saving import save_averaged_weights, update_page


@dataclass(frozen=True)
class Validation:
    """The result of an evaluation during a run."""

    evaluation: Evaluation
    figures: dict[str, Any]  # the log row
    best: bool  # whether its AP is the best so far

    @property
    def line(self) -> str:
        """The figures in one line."""
        return "  ".join(f"{name} {value:.4f}" for name, value in self.figures.items() if isinstance(value, float))


def validate(parts: RunParts, epoch: int, stop: Callable[[], bool], *, progress: bool) -> Validation | None:
    """Evaluate the averaged weights after `epoch` (from 0), log the figures and save the weights.

    None after a request to stop.
    """
    metric = parts.new_metric()
    evaluation = _evaluate(parts, metric, stop, progress=progress)
    if evaluation is None:
        return None
    state = parts.state
    state.evaluated = state.step
    figures = {"step": state.step, "epoch": epoch + 1, **_finite(evaluation.metrics)}
    figures |= _finite({f"loss_{name}": value for name, value in (evaluation.loss or {}).items()})
    best = _is_best(parts, evaluation.metrics[metric.headline])
    if parts.logs is not None:
        parts.logs.val.write(figures)
        save_averaged_weights(parts, figures, best=best)
        update_page(parts.folder)
    return Validation(evaluation, figures, best)


def _evaluate(parts: RunParts, metric: Metric, stop: Callable[[], bool], *, progress: bool) -> Evaluation | None:
    def loss(predictions: Predictions, targets: Targets) -> LossSums:
        sums = parts.step.validation_sums(predictions, targets)
        each = {"box": float(sums.box), "confidence": float(sums.confidence), "total": float(sums.total)}
        return LossSums(each, int(sums.positives))

    device = str(parts.device)
    network = parts.state.average.network
    distributed.share_first(network.buffers())  # statistics of BatchNorm differ, and those of rank 0 are saved
    pipeline = NetworkPipeline(network, parts.settings, device=device, precision=parts.precision, backend="torch")
    settings = parts.settings
    return evaluate(
        Detector(pipeline),
        parts.val_set,
        metric,
        rules=settings.postprocessing,
        plan=plan_of(settings.tiles, settings.network.input_size),
        batch_size=max(1, parts.plan.batch_size // distributed.world_size()),
        loss=loss,
        stop=stop,
        progress=progress,
    )


def _is_best(parts: RunParts, ap: float | None) -> bool:
    """Whether this AP is the best so far; updates the best. NaN and None never are."""
    state = parts.state
    state.since_best += 1
    if ap is None or not math.isfinite(ap) or (state.best is not None and ap <= state.best):
        return False
    state.best, state.since_best = ap, 0
    return True


def _finite(metrics: dict[str, Any]) -> dict[str, float]:
    """The finite figures of a metric (JSON has no others); counts stay whole numbers."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float) and math.isfinite(value)}
