"""`train`: train on a data set, or go on with a run that was stopped."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssd.api.overrides import Overrides, as_list
from ssd.errors import counted
from ssd.experiment.training_config import training_config
from ssd.inference.options import named_options
from ssd.training.page import PAGE
from ssd.training.trainer import train as train_config


@dataclass(frozen=True, repr=False)
class TrainResult:
    """How a run ended. A path is None where no such file was written, as before the first evaluation."""

    folder: Path
    best: Path | None  # weights of the evaluation with the best AP
    last: Path | None  # weights of the newest evaluation
    report: Path | None  # the page of the run
    metrics: dict[str, Any] = field(default_factory=dict)  # figures of the last evaluation of this call
    best_ap: float | None = None
    steps: int = 0  # batches done, those before a resume included
    exit_code: int = 0  # 143 or 130 when a signal stopped the run

    @property
    def stopped(self) -> bool:
        """Whether a signal stopped the run before its end; `ssd.train(resume=result.folder)` goes on."""
        return self.exit_code != 0

    @property
    def weights(self) -> Path | None:
        """The best weights, else the last ones."""
        return self.best or self.last

    def __repr__(self) -> str:
        end = "stopped" if self.stopped else "finished"
        ap = "no AP yet" if self.best_ap is None else f"best AP {self.best_ap:.3f}"
        return f"<TrainResult: {end} after {counted(self.steps, 'step')}, {ap}; {self.weights or self.folder}>"


@named_options
def train(
    data: str | Path | None = None,
    *,
    config: str | Path | None = None,
    overrides: Overrides = (),
    name: str | None = None,
    output: str | Path | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    weights: str | Path | None = None,
    device: str | None = None,
    resume: str | Path | None = None,
    progress: bool = False,
) -> TrainResult:
    """Train on a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...) into `<output>/<name>`.

    `config`: a YAML file, or one that comes with the package by its name ("ssd300_voc"). Without it the defaults are
    trained with, or, where `data` is missing too, "demo", which draws its images. `overrides`: other keys, as
    {"optim.lr": 1e-3} or as on the command line, ("optim.lr=1e-3",). `weights`: a detector to start from.

    `resume`: the folder of a run, or one of its states, to go on with, with that run's own config; or "auto" for the
    newest run of this name, if there is one.

    With `data.workers` above 0, a script calls this below `if __name__ == "__main__":`. SIGTERM and Ctrl-C end the run
    after its step and save it; the result then says `stopped`.

    Raises:
        SSDError: bad data, config, checkpoint or image, a run that is still going, or a loss that is no longer finite.
    """
    named = {
        "name": name,
        "output": None if output is None else str(output),
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "model.weights": None if weights is None else str(weights),
        "train.device": device,
    }
    changes = [*as_list(overrides), *((key, value) for key, value in named.items() if value is not None)]
    resume = None if resume is None else str(resume)
    outcome = train_config(training_config(config, data, changes, resume), resume=resume, progress=progress)
    folder = outcome.folder
    best, last, report = (path if path.is_file() else None for path in (folder.best, folder.last, folder.path / PAGE))
    metrics = {} if outcome.evaluation is None else outcome.evaluation.metrics
    return TrainResult(folder.path, best, last, report, metrics, outcome.best_ap, outcome.steps, outcome.exit_code)
