"""The training loop: learning rate, forward, match, loss, backward, step; then log, evaluate, save.

With several processes (`torchrun`) every rank gets its share of the same global batches, and losses are divided by the
matched boxes of all ranks. A request to stop or a non-finite loss on one rank is first shared with all.
"""

import logging
import shlex
import sys
import time
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from ssd.evaluation.evaluate import Evaluation
from ssd.experiment.config import Config, resolve
from ssd.multibox.loss import LossParts
from ssd.system import distributed
from ssd.system.device import training_switches
from ssd.training.announcements import Pace
from ssd.training.bounds import Advice, LoaderWait
from ssd.training.dead_units import DeadUnits, warn_about_start, watching
from ssd.training.loss_monitor import LossMonitor
from ssd.training.optim import set_lr
from ssd.training.parts import RunParts, build_parts
from ssd.training.run_folder import RunFolder
from ssd.training.saving import StateSaver
from ssd.training.signals import StopRequest, stop_on_signals
from ssd.training.validation import validate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    folder: RunFolder
    evaluation: Evaluation | None  # the last one
    steps: int  # batches done, including those before a resume
    best_ap: float | None = None
    exit_code: int = 0  # 143 or 130 when a signal stopped it


def train(config: Config, *, resume: str | None = None, progress: bool = True) -> Outcome:
    """Train by `config` into its run folder; resumable.

    Raises:
        SSDError: bad data, config, checkpoint or image, or a loss that is no longer finite.
    """
    config = resolve(config)
    device = distributed.local_device(config.train.device)
    with (
        distributed.process_group(device),
        training_switches(device),
        build_parts(config, device, resume) as parts,  # until its end there is nothing to save, and a signal ends it
        stop_on_signals() as stop,
    ):
        return Trainer(parts, stop, progress=progress and distributed.rank() == 0).run()


class Trainer:
    """The loop over the epochs of a run."""

    def __init__(self, parts: RunParts, stop: StopRequest, *, progress: bool) -> None:
        self.parts, self.stop, self.progress = parts, stop, progress
        self.evaluation: Evaluation | None = None
        self.saver = StateSaver(parts)
        self.advice = Advice()
        self.trained = (0.0, 0)  # seconds and steps of training since the last evaluation
        self.clock = (time.monotonic(), parts.state.step)  # of the last log row
        self.pace = Pace(parts.plan.steps - parts.state.step)

    def run(self) -> Outcome:
        """Train until the last epoch, until patience ends, or until a signal asks to stop."""
        plan, state = self.parts.plan, self.parts.state
        if self.parts.finished:
            return self._outcome()
        start, done = divmod(state.step, plan.steps_per_epoch)
        with self._progress_bar() as bar:
            # A run that was stopped during an evaluation repeats it.
            finished = not (done == 0 and start > 0) or self._finish_epoch(start - 1, bar)
            for epoch in range(start, plan.epochs):
                if not finished or self._out_of_patience():
                    break
                finished = self._train_epoch(epoch, done if epoch == start else 0, bar)
                finished = finished and self._finish_epoch(epoch, bar)
            if finished and state.step >= plan.steps and state.evaluated < state.step:  # fewer epochs than were trained
                finished = self._finish_epoch(plan.epochs - 1, bar)
        return self._outcome() if finished else self._stopped()

    def _train_epoch(self, epoch: int, done: int, bar: "tqdm[Any]") -> bool:
        """Train one epoch from batch `done` on; False after a request to stop."""
        plan, state, step = self.parts.plan, self.parts.state, self.parts.step
        step.train()
        self.clock = (time.monotonic(), state.step)
        monitor, state.unlogged = LossMonitor(state.unlogged, step.device), []
        wait, began = LoaderWait(step.device), (time.monotonic(), state.step)
        for index, batch in enumerate(wait.batches(self.parts.loader.epoch(epoch, done)), start=done):
            updates, update_due = plan.updates_before(epoch, index), plan.update_due(index)
            log_due, first = plan.log_due(state.step + 1, index), state.step == 0
            lr = self.parts.schedule.at(updates)
            set_lr(state.optimizer, lr)
            images, targets = step.to_device(batch.images, batch.targets)
            with step.accumulating(more=not update_due):
                with watching(state.network, self.parts.watched if log_due or first else ()) as units:
                    predictions = step.forward(images)
                matches = step.match(targets)
                losses = step.loss(predictions, targets, matches)
                step.backward(losses)
            if first:
                self._warn_about_start(losses, units)
            monitor.add(state.step, lr, losses, matches.missed_best_box, batch)
            if step.device.type == "cpu":
                monitor.check()  # on CUDA reading the loss waits for the device, so it is read with each log row there
            if update_due:
                step.update(updates + 1)
            state.step += 1
            bar.update(plan.batch_size)
            if distributed.rank() == 0:
                self.pace.step()
            if log_due:
                self._log(monitor.summary(units), bar)
            if update_due and distributed.any_rank(bool(self.stop)):
                monitor.check()
                state.unlogged = monitor.unlogged()
                return False
        self.trained = (self.trained[0] + time.monotonic() - began[0], self.trained[1] + state.step - began[1])
        if distributed.rank() == 0:
            self.advice.about_loader(wait.share(), self.parts.loader.workers)
        return True

    def _finish_epoch(self, epoch: int, bar: "tqdm[Any]") -> bool:
        """Save, and evaluate if it is due; False after a request to stop."""
        plan, state = self.parts.plan, self.parts.state
        last = epoch + 1 == plan.epochs
        if plan.evaluation_due(epoch) and state.evaluated < state.step:
            self.saver.save(must=False)  # the epoch is not lost if the evaluation is interrupted
            began = time.monotonic()
            validation = validate(self.parts, epoch, lambda: bool(self.stop), progress=self.progress)
            if validation is None:
                return False
            self.saver.save(must=validation.best or last or self._out_of_patience())
            self.evaluation = validation.evaluation
            if distributed.rank() == 0:
                bar.write(f"epoch {epoch + 1}: {validation.line}")
                self._compare_with_evaluation(time.monotonic() - began)
        else:
            self.saver.save(must=last)
        return True

    def _compare_with_evaluation(self, seconds: float) -> None:
        """Say so if the evaluation took longer than the training between two evaluations."""
        plan, (trained, steps) = self.parts.plan, self.trained
        if steps:  # none if a resumed run repeats an evaluation
            between = trained / steps * plan.steps_per_epoch * plan.eval_every
            self.advice.about_evaluation(seconds, between, plan.eval_every, plan.epochs)
        self.trained = (0.0, 0)

    def _stopped(self) -> Outcome:
        self.saver.save()
        folder, steps = self.parts.folder, self.parts.state.step
        log.warning("stopped after step %d; go on with --resume %s", steps, shlex.quote(str(folder.path)))
        return self._outcome(max(distributed.gather_objects(self.stop.exit_code)))

    def _outcome(self, exit_code: int = 0) -> Outcome:
        state = self.parts.state
        return Outcome(self.parts.folder, self.evaluation, state.step, state.best, exit_code)

    def _out_of_patience(self) -> bool:
        return self.parts.state.out_of_patience(self.parts.plan.patience)

    def _warn_about_start(self, losses: LossParts, units: DeadUnits) -> None:
        if distributed.rank() == 0:
            ratio = self.parts.step.rules.negative_ratio
            first_loss, dead = float(losses.total.detach()), units.share or 0.0
            warn_about_start(first_loss, dead, self.parts.settings.num_classes, ratio)

    def _log(self, row: dict[str, float], bar: "tqdm[Any]") -> None:
        plan, state = self.parts.plan, self.parts.state
        state.missed_best_box += int(row.pop("missed_best_box"))
        dead = row.pop("dead_units", None)
        before, step = self.clock
        self.clock = (time.monotonic(), state.step)
        rate = (state.step - step) * plan.batch_size / max(self.clock[0] - before, 1e-9)
        bar.set_postfix(loss=f"{row['loss']:.3f}", lr=f"{row['lr']:.1e}", refresh=False)
        if self.parts.logs is not None:
            epoch = (state.step - 1) // plan.steps_per_epoch + 1
            counts = {"missed_best_box": state.missed_best_box, "images_per_second": round(rate, 2)}
            counts |= {"dead_units": round(dead, 4)} if dead is not None else {}
            self.parts.logs.train.write({"step": state.step, "epoch": epoch, **row, **counts})

    def _progress_bar(self) -> "tqdm[Any]":
        plan = self.parts.plan
        # In a log file one line every half minute is enough.
        every = 0.5 if sys.stderr.isatty() else 30.0
        return tqdm(
            total=plan.steps * plan.batch_size,
            initial=self.parts.state.step * plan.batch_size,
            unit="img",
            disable=not self.progress,
            dynamic_ncols=True,
            mininterval=every,
            maxinterval=every,
        )
