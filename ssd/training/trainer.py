"""The training loop: learning rate, forward, match, loss, backward, step; then log, evaluate, save.

One process or many (`torchrun`): every rank sees its share of the same global batches, losses are divided by the
matched boxes of all ranks, and what one rank finds alone (a request to stop, a loss that is not finite) is agreed on
first.
"""

import contextlib
import hashlib
import logging
import math
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ssd.data.dataset import Dataset
from ssd.errors import DatasetError, NonFiniteLossError
from ssd.evaluation.evaluate import Evaluation, evaluate
from ssd.experiment import config_file as configs
from ssd.experiment import data as experiment_data
from ssd.experiment import start as starting
from ssd.experiment.config import Config, resolve
from ssd.inference.detector import Detector
from ssd.model.initialise import fit_to_data_
from ssd.multibox.default_boxes import default_boxes
from ssd.multibox.loss import LossParts
from ssd.report.page import made_by
from ssd.report.run_log import RunLog, tensorboard_writer
from ssd.structures import Batch, Predictions, Targets
from ssd.system import distributed
from ssd.system.device import choose_dtype
from ssd.system.version import __version__
from ssd.training.dead_units import DeadUnits, warn_about_start, watching
from ssd.training.loss_monitor import LossMonitor
from ssd.training.optim import MOMENTUM, AveragedNetwork, build_schedule, parameter_groups, set_lr
from ssd.training.page import write_training_page
from ssd.training.run_folder import RunFolder, open_folder
from ssd.training.signals import StopRequest, stop_on_signals
from ssd.training.state import TrainState, fingerprint
from ssd.training.step import TrainStep, network_input
from ssd.weights.native import save_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    folder: RunFolder
    evaluation: Evaluation | None  # the last one
    exit_code: int = 0  # 143 or 130 when a signal stopped it


def train(config: Config, *, resume: str | None = None, progress: bool = True) -> Outcome:
    """Train as `config` says, into its run folder; resumable.

    Raises:
        SSDError: bad data, config, checkpoint or image, or a loss that is no longer finite.
    """
    config = resolve(config)
    device = distributed.local_device(config.train.device)
    with distributed.process_group(device), stop_on_signals() as stop:
        trainer = Trainer(config, device, resume, stop, progress=progress and distributed.rank() == 0)
        with contextlib.closing(trainer.loader):
            return trainer.run()


class Trainer:
    """One run: its parts are built first, then `run` loops over epochs."""

    def __init__(
        self, config: Config, device: torch.device, resume: str | None, stop: StopRequest, *, progress: bool
    ) -> None:
        self.config, self.device, self.stop, self.progress = config, device, stop, progress
        self.dtype = choose_dtype(config.train.precision, device)
        self.train_set = experiment_data.open_split(config, "train")
        self.val_set = experiment_data.open_split(config, "val", class_names=self.train_set.class_names)
        _agree(config, self.train_set)
        experiment_data.metric(config, self.val_set)  # what it needs is missed now, not after an epoch
        if config.data.bad_images == "error":
            experiment_data.check_images(self.train_set, self.val_set)
        self.folder = _shared_folder(config, resume)
        if distributed.rank() == 0:
            counts = len(self.train_set.records), len(self.val_set.records), len(self.train_set.class_names)
            log.info("%s: %d images to train on, %d to evaluate on, %d classes", self.folder.path, *counts)
        saved = self.folder.find_state(resume)
        begin = starting.start(config, self.train_set.class_names)
        self.settings = begin.settings
        self.loader = experiment_data.train_loader(config, self.train_set, begin.settings)
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.updates_per_epoch = -(-self.steps_per_epoch // config.optim.accumulate)
        self.schedule = build_schedule(config, self.updates_per_epoch * config.train.epochs)
        network = begin.network.to(device).to(memory_format=torch.channels_last)
        if saved is None and config.mode_rules.scale_new_layers:
            start_images = network_input(self.loader.first_images(16), device, begin.settings.preprocessing)
            fit_to_data_(network, start_images, begin.fresh)
        starting.freeze(network, config.model.freeze_stages, begin.pretrained)
        # Hooks would break a compiled network into pieces.
        self.watched = () if config.train.compile else begin.fresh
        self.state = self._new_state(network, begin.pretrained)
        if saved is not None:
            self.state.restore(saved, self.folder.path)
            done = self.state.step >= self.steps_per_epoch * config.train.epochs
            what = "finished already, at step" if done else "resuming after step"
            log.info("%s: %s %d", self.folder.path, what, self.state.step)
        self.batch_step = self._new_step()
        self.train_log, self.val_log = self._logs()
        self.evaluation: Evaluation | None = None
        self.clock = (time.monotonic(), self.state.step)  # of the last log row

    def run(self) -> Outcome:
        """Train until the last epoch, until patience ends, or until somebody asks to stop."""
        if distributed.rank() == 0:
            self.folder.describe(self.config, self.train_set.class_names)
        start, done = divmod(self.state.step, self.steps_per_epoch)
        with self._progress_bar() as bar:
            # A run stopped during an evaluation owes it.
            finished = not (done == 0 and start > 0) or self._finish_epoch(start - 1, bar)
            for epoch in range(start, self.config.train.epochs):
                if not finished or self._out_of_patience():
                    break
                finished = self._train_epoch(epoch, done if epoch == start else 0, bar)
                finished = finished and self._finish_epoch(epoch, bar)
        return Outcome(self.folder, self.evaluation) if finished else self._stopped()

    def _train_epoch(self, epoch: int, done: int, bar: "tqdm[Any]") -> bool:
        """Go through one epoch from batch `done` on; False when somebody asked to stop."""
        self.batch_step.train()
        self.clock = (time.monotonic(), self.state.step)
        watch = LossMonitor(self.device)
        for index, batch in enumerate(self.loader.epoch(epoch, done), start=done):
            last = index + 1 == self.steps_per_epoch
            update = last or (index + 1) % self.config.optim.accumulate == 0
            updates = epoch * self.updates_per_epoch + index // self.config.optim.accumulate
            lr = self.schedule.at(updates)
            set_lr(self.state.optimizer, lr)
            logs = last or (self.state.step + 1) % self.config.train.log_every == 0
            with watching(self.state.network, self.watched if logs or self.state.step == 0 else ()) as units:
                parts, missed_best_box = self._forward_backward(batch, sync=update)
            if self.state.step == 0:
                self._warn_about_start(parts, units)
            watch.add(self.state.step, lr, parts, missed_best_box, batch)
            if self.device.type == "cpu":
                watch.check()  # on CUDA a look at the loss waits for the device; there it is done with each log row
            if update:
                self._update(updates + 1)
            self.state.step += 1
            bar.update(self.config.train.batch_size)
            if logs:
                self._log(watch.summary(), units, bar)
            if update and distributed.any_rank(bool(self.stop), self.device):
                watch.check()
                return False
        return True

    def _finish_epoch(self, epoch: int, bar: "tqdm[Any]") -> bool:
        """Save, and evaluate where it is due; False when somebody asked to stop."""
        if self._due(epoch, self.config.train.eval_every) and self.state.evaluated < self.state.step:
            self._save()  # an evaluation takes a while; if it is cut short, the epoch is not lost
            if not self._evaluate(epoch, bar):
                return False
            self._save()
        else:
            self._save()
        return True

    def _forward_backward(self, batch: Batch, *, sync: bool) -> tuple[LossParts, Tensor]:
        """Add one batch's gradients; gives the loss and the number of objects that missed their best default box."""
        return self.batch_step.backward(batch.images, batch.targets, sync=sync)

    def _update(self, updates: int) -> None:
        """Clip, step, average."""
        self.batch_step.update(updates)

    def _evaluate(self, epoch: int, bar: "tqdm[Any]") -> bool:
        """Loss and AP of the averaged network in one pass; False when somebody asked to stop."""
        detector = Detector(
            self.state.average.network,
            self.settings,
            device=str(self.device),
            precision=self.config.train.precision,
            backend="torch",
        )
        metric = experiment_data.metric(self.config, self.val_set)
        evaluation = evaluate(
            detector,
            self.val_set,
            metric,
            batch_size=max(1, self.config.train.batch_size // distributed.world_size()),
            loss=self._validation_loss,
            stop=lambda: bool(self.stop),
            progress=self.progress,
        )
        if evaluation is None:
            return False
        self.evaluation, self.state.evaluated = evaluation, self.state.step
        ap = evaluation.metrics[metric.headline]
        row = {"step": self.state.step, "epoch": epoch + 1, **_scalars(evaluation.metrics)}
        row |= _scalars({f"loss_{name}": value for name, value in (evaluation.loss or {}).items()})
        self.state.since_best += 1
        better = ap is not None and math.isfinite(ap) and (self.state.best is None or ap > self.state.best)
        if better:
            self.state.best, self.state.since_best = ap, 0
        if self.val_log is not None:
            self.val_log.write(row)
            self._save_weights(row, best=better)
            self._write_page()
            bar.write(
                f"epoch {epoch + 1}: " + "  ".join(f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float))
            )
        return True

    def _validation_loss(self, predictions: Predictions, targets: Targets) -> dict[str, float]:
        parts, _ = self.batch_step.loss(predictions, targets, over_ranks=False)
        return {"box": float(parts.box), "confidence": float(parts.confidence), "total": float(parts.total)}

    def _save(self) -> None:
        """Commit the state to disk; the other ranks wait, so that no one is ahead of the file.

        A finite loss may still have had gradients that were not: such weights are never written.
        """
        if not all(bool(torch.isfinite(weights).all()) for weights in self.state.network.parameters()):
            raise NonFiniteLossError(
                "the weights are not finite after this step",
                place=f"step {self.state.step}",
                remedy="Lower optim.lr. No checkpoint was written from this state.",
            )
        if distributed.rank() == 0:
            self.folder.save_state(self.state.to_dict(), self.state.step)
        distributed.barrier()

    def _save_weights(self, row: dict[str, Any], *, best: bool) -> None:
        state = self.state.average.network.state_dict()
        # The auxiliary heads have done their work: a detector has none.
        weights = {name: t.contiguous() for name, t in state.items() if not name.startswith("backbone.auxiliary.")}
        extra = {"config": configs.to_dict(self.config), "validation": row}
        for path in (self.folder.last, *([self.folder.best] if best else [])):
            save_weights(path, weights, self.settings, extra=extra)

    def _write_page(self) -> None:
        """Bring the run's page up to date; whatever goes wrong there is no reason to lose a run."""
        try:
            write_training_page(self.folder.path, made_by(__version__))
        except Exception:
            log.warning("the page of the run could not be written", exc_info=True)

    def _stopped(self) -> Outcome:
        self._save()
        log.warning("stopped after step %d; go on with --resume %s", self.state.step, self.folder.path)
        code = max(distributed.gather_objects(self.stop.exit_code))
        return Outcome(self.folder, None, code)

    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience
        return patience is not None and self.state.since_best >= patience

    def _due(self, epoch: int, every: int) -> bool:
        return (epoch + 1) % every == 0 or epoch + 1 == self.config.train.epochs

    def _warn_about_start(self, parts: LossParts, units: DeadUnits) -> None:
        if distributed.rank() == 0:
            loss = self.config.loss
            warn_about_start(
                float(parts.total.detach()), units.share or 0.0, self.settings.num_classes, loss.negative_ratio
            )

    def _log(self, row: dict[str, float], units: DeadUnits, bar: "tqdm[Any]") -> None:
        self.state.missed_best_box += int(row.pop("missed_best_box"))
        before, step = self.clock
        self.clock = (time.monotonic(), self.state.step)
        rate = (self.state.step - step) * self.config.train.batch_size / max(self.clock[0] - before, 1e-9)
        bar.set_postfix(loss=f"{row['loss']:.3f}", lr=f"{row['lr']:.1e}", refresh=False)
        if self.train_log is not None:
            epoch = (self.state.step - 1) // self.steps_per_epoch + 1
            counts = {"missed_best_box": self.state.missed_best_box, "images_per_second": round(rate, 2)}
            if units.share is not None:
                counts["dead_units"] = round(units.share, 4)
            self.train_log.write({"step": self.state.step, "epoch": epoch, **row, **counts})

    def _new_state(self, network: nn.Module, pretrained: frozenset[str]) -> TrainState:
        optim = self.config.optim
        groups = parameter_groups(
            network,
            weight_decay=optim.weight_decay,
            bias_lr_factor=self.config.mode_rules.bias_lr_factor,
            pretrained=pretrained,
            pretrained_lr_factor=optim.backbone_lr_factor,
        )
        optimizer = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, fused=True)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        average = AveragedNetwork(network, optim.ema)
        data = fingerprint(self.train_set.records)
        return TrainState(network, average, optimizer, scaler, self.config, self.settings, data)

    def _new_step(self) -> TrainStep:
        state = self.state
        return TrainStep(
            state.network,
            state.average,
            state.optimizer,
            state.scaler,
            default_boxes=default_boxes(self.settings.boxes).to(self.device),
            preprocessing=self.settings.preprocessing,
            rules=self.config.loss,
            variances=self.settings.boxes.variances,
            dtype=self.dtype,
            clip_norm=self.config.optim.clip_norm,
            accumulate=self.config.optim.accumulate,
            compiled=self.config.train.compile,
        )

    def _logs(self) -> tuple[RunLog | None, RunLog | None]:
        if distributed.rank() > 0:
            return None, None
        path, step = self.folder.path, self.state.step
        board = tensorboard_writer(path / "tensorboard")
        return (
            RunLog(path, "train", resume_step=step, tensorboard=board),
            RunLog(path, "val", resume_step=step, tensorboard=board),
        )

    def _progress_bar(self) -> "tqdm[Any]":
        size = self.config.train.batch_size
        total = self.config.train.epochs * self.steps_per_epoch * size
        initial = self.state.step * size
        # In a log file a line every half minute will do.
        every = 0.5 if sys.stderr.isatty() else 30.0
        return tqdm(
            total=total,
            initial=initial,
            unit="img",
            disable=not self.progress,
            dynamic_ncols=True,
            mininterval=every,
            maxinterval=every,
        )


def _agree(config: Config, data: Dataset) -> None:
    """Every rank must train on the same data with the same config.

    Raises:
        DatasetError: they differ.
    """
    facts = repr((config, data.class_names, [record.path for record in data.records]))
    digest = hashlib.sha256(facts.encode()).hexdigest()
    if len(set(distributed.gather_objects(digest))) > 1:
        raise DatasetError("the processes disagree on the config or the data", remedy="Start all with the same.")


def _shared_folder(config: Config, resume: str | None) -> RunFolder:
    folder = open_folder(config, resume=resume) if distributed.rank() == 0 else None
    shared = distributed.from_first(folder)
    assert shared is not None
    return shared


def _scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """The finite figures among what a metric says (JSON has no other); counts stay whole numbers."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float) and math.isfinite(value)}
