"""The two sides of the accuracy suite: each trains one network, or goes on with it, and gives its figures."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from ssd.benchmark.accuracy_rows import FIGURES, OURS, PEER, Score, Training
from ssd.benchmark.accuracy_sets import ImageSet
from ssd.benchmark.torchvision_training import Recipe, new_model, train, trains_in_bf16
from ssd.benchmark.train_torchvision import log_step, score
from ssd.data.dataset import open_dataset
from ssd.experiment.training_config import Override, training_config
from ssd.training.trainer import train as train_config

_RUNS, _STATES = "runs", "torchvision"  # folders of this package's runs, and of torchvision's states


class StoppedError(Exception):
    """A signal stopped a training, which is saved."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Machine:
    """Where and how trainings run; figures do not depend on it, up to rounding."""

    out: Path
    device: str = "cpu"
    workers: int = 0

    @property
    def precision(self) -> str:
        """The precision of both sides: bf16 where the device has instructions for it, else fp32."""
        return "bf16" if trains_in_bf16(torch.device(self.device)) else "fp32"


Trainer = Callable[[Training, ImageSet, Machine], Score]


def train_ours(training: Training, images: ImageSet, machine: Machine) -> Score:
    """Train with this package; the figures are those of the run's one evaluation, after its last epoch.

    Raises:
        StoppedError: a signal stopped the run.
    """
    overrides: list[Override] = [
        ("name", training.name),
        ("output", str(machine.out / _RUNS)),
        ("seed", training.seed),
        ("data.train", str(images.train_list(training.images))),
        ("data.val", str(images.scored_list())),
        ("data.bad_objects", "drop"),
        ("data.workers", machine.workers),
        ("model.backbone_weights", training.backbone),
        ("train.epochs", training.epochs),
        ("train.batch_size", training.batch_size),
        ("train.eval_every", training.epochs),
        ("train.device", machine.device),
        ("train.precision", machine.precision),
        *training.changes,
    ]
    config = training_config(None, images.folder, overrides, "auto")
    outcome = train_config(config, resume="auto", progress=False)
    if outcome.exit_code:
        raise StoppedError(outcome.exit_code)
    evaluations = _rows(outcome.folder.path / "val.jsonl")
    seconds = trained_seconds(_rows(outcome.folder.path / "train.jsonl"), training.batch_size)
    figures = {name: evaluations[-1][name] for name in FIGURES}
    return Score(figures, outcome.steps, seconds, scorings=len(evaluations))


def trained_seconds(rows: list[dict[str, Any]], batch_size: int) -> float:
    """Seconds of training by the rates in a training log, which hold however often the run was resumed."""
    seconds, done = 0.0, 0
    for row in rows:
        seconds += (row["step"] - done) * batch_size / max(row["images_per_second"], 0.01)
        done = row["step"]
    return seconds


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def train_torchvision(training: Training, images: ImageSet, machine: Machine) -> Score:
    """Train torchvision's SSD300, and score it after its last step."""
    recipe = Recipe(
        training.steps,
        training.batch_size,
        cast(float, training.lr),
        autocast=machine.precision == "bf16",
        workers=machine.workers,
        seed=training.seed,
    )
    data = open_dataset(images.folder, str(images.train_list(training.images)), bad_objects="drop")
    scored = open_dataset(images.folder, str(images.scored_list()), classes=data.class_names, bad_objects="drop")
    torch.manual_seed(recipe.seed)
    device, state = torch.device(machine.device), _state_of(training, machine)
    state.parent.mkdir(parents=True, exist_ok=True)
    model = new_model(len(data.class_names), training.backbone)
    seconds = train(model, data, recipe, device, functools.partial(log_step, every=max(1, recipe.steps // 20)), state)
    figures = score(model, scored, data.class_names, device).by_metric["coco"]
    return Score({name: figures[name] for name in FIGURES}, recipe.steps, seconds, scorings=1)


def remove_states(training: Training, machine: Machine) -> None:
    """Delete what a finished training was resumed from; the weights stay."""
    for path in (machine.out / _RUNS / training.name).glob("state-*.pt"):
        path.unlink()
    _state_of(training, machine).unlink(missing_ok=True)


def _state_of(training: Training, machine: Machine) -> Path:
    return machine.out / _STATES / f"{training.name}.pt"


TRAINERS: dict[str, Trainer] = {OURS: train_ours, PEER: train_torchvision}
