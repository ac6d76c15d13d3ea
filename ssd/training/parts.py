"""The parts of a run, built from the config before the first step; nothing after this reads the config."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssd.data.dataset import Dataset
from ssd.data.fingerprint import fingerprint
from ssd.data.formats.grouping import COPIES
from ssd.data.loading.loader import TrainLoader
from ssd.errors import counted
from ssd.evaluation.metrics.accumulator import Metric
from ssd.experiment import config_file as configs
from ssd.experiment import data as experiment_data
from ssd.experiment import start as starting
from ssd.experiment.config import Config
from ssd.experiment.named_start import chosen
from ssd.report.run_log import RunLog, tensorboard_writer
from ssd.settings import Settings
from ssd.system import distributed
from ssd.system.device import choose_dtype
from ssd.tiles import has_tiles
from ssd.training.learner import class_weights_of, new_schedule, new_state, new_step, ready_network
from ssd.training.optim import Schedule
from ssd.training.plan import FEWEST_EPOCHS, Plan, choose_epochs
from ssd.training.preconditions import (
    check_agreement,
    check_batch_size,
    check_network,
    check_states,
    check_text,
)
from ssd.training.run_folder import RunFolder, check_folder, find_state, new_run, resumed_run
from ssd.training.state import TrainState, saved_start
from ssd.training.step import TrainStep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunLogs:
    """The logs of a run."""

    train: RunLog
    val: RunLog


@dataclass(frozen=True)
class RunParts:
    """The parts of a run. Training changes the parts, not this selection."""

    plan: Plan
    settings: Settings
    folder: RunFolder
    loader: TrainLoader
    schedule: Schedule
    state: TrainState
    step: TrainStep
    val_set: Dataset
    new_metric: Callable[[], Metric]
    precision: str  # of the config; the detector of an evaluation resolves it by the same rule
    watched: tuple[str, ...]  # new convolutions whose dead units are counted
    logs: RunLogs | None  # only in the first process
    finished: bool = False  # a resumed run that has nothing left to do: its folder stays as it is

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.step.device


@contextlib.contextmanager
def build_parts(config: Config, device: torch.device, resume: str | None) -> Iterator[RunParts]:
    """Build a run from a resolved config; the folder is locked for this process until the block ends.

    Steps that fail fast come first, and nothing is written before every part has been built that can fail because of
    the user's input.

    1. The network without its numbers: a config that no data could be trained with is an error at once.
    2. The folder and the state of a resumed run: so is a run that is still going, or a damaged state.
    3. The data sets and the metric. The class names determine the shape of the network.
    4. The network with its starting weights. Its settings (input size, mean) determine how images are prepared.
    5. The loader. Its number of steps determines the plan and the learning-rate schedule.
    6. Every image is decoded once, which takes longest.
    7. The folder of a new run.
    8. The new layers are scaled on the first images; then stages are frozen, since frozen layers are not scaled.
    9. Average, optimizer and scaler, which copy or refer to the final weights; then the saved state is restored.
    10. The training step, which wraps the network for several processes and compiles it.
    11. The logs, cut to the steps of the restored state. Nothing is written into the folder of a finished run.

    Raises:
        SSDError: bad data, config, checkpoint or image.
    """
    check_text(configs.to_dict(config))
    if resume is None:
        check_network(config, device)
    with contextlib.ExitStack() as cleanup:
        resumed, saved = _resumed(cleanup, config, resume)
        if resume is not None and saved is None:
            check_network(config, device)
        if distributed.rank() == 0:
            check_folder(resumed, config.output, config.name)
        config = _divided_as_started(config, saved)
        train_set, val_set, new_metric = _data(config)
        class_weights = class_weights_of(config, train_set.class_names, device)
        config = chosen(config if saved is None else _started_from(config, saved))
        start = _start(config, saved, train_set.class_names)
        loader = experiment_data.train_loader(config, train_set, start.settings, pin_memory=device.type == "cuda")
        cleanup.enter_context(contextlib.closing(loader))
        if saved is None:
            check_batch_size(config, loader.images_per_epoch, loader.steps_per_epoch)
        config = _with_epochs(config, loader.steps_per_epoch, saved)
        plan = _plan(config, loader.steps_per_epoch)
        skip = config.data.bad_images == "skip"
        log.info("decoding every %s once, to find damaged ones", "validation image" if skip else "image")
        experiment_data.check_images(*([] if skip else [train_set]), val_set)
        folder = resumed or _owned(cleanup, new_run(config.output, config.name))
        assert folder is not None
        if distributed.rank() == 0:
            log.info("%s: %s", folder.path, _announcement(config, plan, train_set, val_set, loader, device))
        network = ready_network(config, start, loader, device, fresh=saved is None)
        state = new_state(config, network, start, fingerprint(train_set.records), loader.steps_per_epoch, device)
        finished = saved is not None and _restore(state, saved, folder, plan) and folder is resumed
        writes = distributed.rank() == 0 and not finished
        if writes:
            folder.describe(configs.to_yaml(config), train_set.class_names, config.seed)
        yield RunParts(
            plan=plan,
            settings=start.settings,
            folder=folder,
            loader=loader,
            schedule=new_schedule(config, plan),
            state=state,
            step=new_step(config, state, class_weights, device),
            val_set=val_set,
            new_metric=new_metric,
            precision=config.train.precision,
            # Hooks would split the graph of a compiled network.
            watched=() if config.train.compile else start.fresh,
            logs=_logs(folder, state) if writes else None,
            finished=finished,
        )


def _resumed(
    cleanup: contextlib.ExitStack, config: Config, resume: str | None
) -> tuple[RunFolder | None, dict[str, Any] | None]:
    """The folder and the state of the run to resume, where they exist."""
    if resume is None:
        return None, None
    folder = _owned(cleanup, resumed_run(config.output, config.name, resume))
    # The other processes may be on machines that do not see the files of the first one.
    saved = distributed.from_first(find_state(folder, resume) if distributed.rank() == 0 else None)
    if saved is None:
        check_states(Path(config.output, config.name))
    return folder, saved


def _divided_as_started(config: Config, saved: dict[str, Any] | None) -> Config:
    """The config with the division of a resumed run that an earlier version started: by the names alone."""
    if saved is None or "group" in saved["config"]["data"]:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, group=COPIES))


def _started_from(config: Config, saved: dict[str, Any]) -> Config:
    """The config with the weights that a resumed run started from, where they were chosen then."""
    if config.model.weights is not None or config.model.backbone_weights != "auto":
        return config
    then = saved["config"]["model"]
    kept = {key: then[key] for key in ("weights", "backbone_weights") if key in then}
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **kept))


def _start(config: Config, saved: dict[str, Any] | None, class_names: tuple[str, ...]) -> starting.Initialised:
    """The network before training: that of the saved state, without its starting weights, else by the config."""
    kept = None if saved is None else saved_start(configs.to_dict(config), saved, class_names)
    return kept or starting.start(config, class_names)


def _owned(
    cleanup: contextlib.ExitStack, folder: contextlib.AbstractContextManager[RunFolder | None]
) -> RunFolder | None:
    """Lock a folder in the first process until the run ends; every process gets its paths."""
    return distributed.from_first(cleanup.enter_context(folder) if distributed.rank() == 0 else None)


def _data(config: Config) -> tuple[Dataset, Dataset, Callable[[], Metric]]:
    """The training set, the validation set, and a function that makes the metric of an evaluation."""
    train_set, val_set = experiment_data.open_sets(config)
    experiment_data.report_folder(config, train_set, val_set)
    check_agreement(config, train_set)
    new_metric = functools.partial(experiment_data.metric, config, val_set)
    new_metric()  # fail now, not after the first epoch, if an optional package is missing
    check_text({"class name": train_set.class_names})
    return train_set, val_set, new_metric


def _with_epochs(config: Config, steps_per_epoch: int, saved: dict[str, Any] | None) -> Config:
    """The config with its number of epochs: `auto` keeps that of a resumed run."""
    train = config.train
    if train.epochs != "auto":
        return config
    if saved is not None:
        epochs = saved["config"]["train"]["epochs"]
    else:
        epochs = choose_epochs(steps_per_epoch, train.batch_size, config.optim.accumulate)
        if epochs > FEWEST_EPOCHS and distributed.rank() == 0:
            steps = f"{epochs * steps_per_epoch} steps of {counted(train.batch_size, 'image')}"
            log.info("few images: %d epochs, %s, in place of %d (train.epochs)", epochs, steps, FEWEST_EPOCHS)
    return dataclasses.replace(config, train=dataclasses.replace(train, epochs=epochs))


def _plan(config: Config, steps_per_epoch: int) -> Plan:
    train = config.train
    assert train.epochs != "auto"
    return Plan(
        epochs=train.epochs,
        steps_per_epoch=steps_per_epoch,
        batch_size=train.batch_size,
        accumulate=config.optim.accumulate,
        log_every=train.log_every,
        eval_every=train.eval_every,
        patience=train.patience,
    )


def _announcement(
    config: Config, plan: Plan, train_set: Dataset, val_set: Dataset, loader: TrainLoader, device: torch.device
) -> str:
    """A summary of the run that starts, on one line."""
    model, processes = config.model, distributed.world_size()
    start = "from scratch" if model.backbone_weights == "none" else f"from {model.backbone} of {model.backbone_weights}"
    if model.weights is not None:
        start = f"from {model.weights}"
    given = {"tiles": has_tiles(config.data.tiles), "balance": bool(config.data.balance)}
    keys = " and ".join(f"data.{key}" for key, yes in given.items() if yes)
    shown = f" ({loader.images_per_epoch} samples an epoch, by {keys})" if keys else ""
    parts = (
        f"{counted(len(train_set), 'image')} to train on{shown}, {len(val_set)} to evaluate on, "
        f"{counted(len(train_set.class_names), 'class', 'classes')}",
        start,
        f"{counted(plan.epochs, 'epoch')}, {counted(plan.steps, 'step')} of {counted(plan.batch_size, 'image')}",
        f"{device}, {str(choose_dtype(config.train.precision, device)).removeprefix('torch.')}"
        f"{f', {processes} processes' if processes > 1 else ''}, {counted(loader.workers, 'data worker')}",
    )
    return "; ".join(parts)


def _restore(state: TrainState, saved: dict[str, Any], folder: RunFolder, plan: Plan) -> bool:
    """Restore a saved state; whether nothing is left to train or to evaluate."""
    written = configs.upgraded_state(saved["config"], folder.path)  # perhaps by an older version
    state.restore(saved | {"config": written}, folder.path)
    ended = state.step >= plan.steps or state.out_of_patience(plan.patience)
    finished = ended and state.evaluated == state.step
    what = "finished already, at step" if finished else "resuming after step"
    log.info("%s: %s %d", folder.path, what, state.step)
    return finished


def _logs(folder: RunFolder, state: TrainState) -> RunLogs:
    """The logs, cut to the steps of the restored state.

    An evaluation is logged before its state is saved: a run that is killed in between evaluates again.
    """
    board = tensorboard_writer(folder.path / "tensorboard", resume_step=state.step)
    return RunLogs(
        RunLog(folder.path, "train", resume_step=state.step, tensorboard=board),
        RunLog(folder.path, "val", resume_step=state.evaluated, tensorboard=board),
    )
