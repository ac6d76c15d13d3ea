"""The length of a run, and when it updates, logs and evaluates."""

import math
from dataclasses import dataclass

FEWEST_EPOCHS, MOST_EPOCHS = 25, 200
_IMAGES = 600 * 8  # of all updates together: 600 updates of the default batch
_LARGEST = 16  # images of an update up to which the learning rate follows their number


@dataclass(frozen=True)
class Plan:
    """Counts of a run. A step is one batch; an update changes the weights after `accumulate` steps."""

    epochs: int
    steps_per_epoch: int
    batch_size: int  # images over all processes
    accumulate: int
    log_every: int  # steps
    eval_every: int  # epochs
    patience: int | None  # evaluations without a better AP before the run ends

    @property
    def steps(self) -> int:
        """Batches of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def updates_per_epoch(self) -> int:
        """Updates of the weights in one epoch; the last may have fewer batches than the others."""
        return -(-self.steps_per_epoch // self.accumulate)

    @property
    def updates(self) -> int:
        """Updates of the weights in the whole run."""
        return self.epochs * self.updates_per_epoch

    def updates_before(self, epoch: int, index: int) -> int:
        """Updates done when batch `index` of `epoch` begins, both from 0."""
        return epoch * self.updates_per_epoch + index // self.accumulate

    def update_due(self, index: int) -> bool:
        """Whether batch `index` of an epoch is the last one of its update."""
        return self._ends_epoch(index) or (index + 1) % self.accumulate == 0

    def log_due(self, step: int, index: int) -> bool:
        """Whether a row is logged after `step` steps, of which the last was batch `index` of its epoch."""
        return self._ends_epoch(index) or step % self.log_every == 0

    def evaluation_due(self, epoch: int) -> bool:
        """Whether the network is evaluated after this epoch, from 0."""
        return (epoch + 1) % self.eval_every == 0 or epoch + 1 == self.epochs

    def _ends_epoch(self, index: int) -> bool:
        return index + 1 == self.steps_per_epoch


def choose_epochs(steps_per_epoch: int, batch_size: int, accumulate: int) -> int:
    """The epochs of `train.epochs=auto`: 25, or as many as give 600 updates of 8 images, at most 200.

    Twice the images in an update, and with them twice the learning rate, take half the updates, down to 300.
    """
    updates = _IMAGES / min(batch_size * accumulate, _LARGEST)
    needed = math.ceil(updates / math.ceil(steps_per_epoch / accumulate))
    return min(max(needed, FEWEST_EPOCHS), MOST_EPOCHS)
