"""The losses since the last log row: their means, and a stop when one is not finite."""

import torch
from torch import Tensor

from ssd.errors import NonFiniteLossError
from ssd.multibox.loss import LossParts
from ssd.structures import Batch
from ssd.system import distributed
from ssd.training.dead_units import DeadUnits


class LossMonitor:
    """Losses since the last log row, kept on the device until they are read."""

    def __init__(self, unlogged: list[list[float]] | None = None, device: torch.device | None = None) -> None:
        """Start empty, or with what `unlogged` gave of the steps before a stop."""
        self.rows: list[tuple[Tensor, int, float, tuple[str, ...]]] = [
            (torch.tensor(row, device=device), 0, 0.0, ()) for row in unlogged or ()
        ]
        self.checked = len(self.rows)

    def unlogged(self) -> list[list[float]]:
        """The numbers of each step since the last log row, as means over the ranks."""
        if not self.rows:
            return []
        sums = distributed.sum_over_ranks(torch.stack([row[0] for row in self.rows]))
        means: list[list[float]] = (sums / distributed.world_size()).tolist()
        return means

    def add(self, step: int, lr: float, parts: LossParts, missed_best_box: Tensor, batch: Batch) -> None:
        """Add the losses of one step."""
        numbers = (parts.total, parts.box, parts.confidence, parts.positives, missed_best_box)
        self.rows.append((torch.stack([n.detach().float() for n in numbers]), step, lr, batch.paths))

    def check(self) -> None:
        """Stop all ranks if any loss of any rank is not finite.

        Raises:
            NonFiniteLossError: names the step, the learning rate, the parts and the images of the batch.
        """
        found, fresh = None, self.rows[self.checked :]
        # A single wait for the device, for any number of steps.
        finite = torch.isfinite(torch.stack([row[0] for row in fresh])).all(1).tolist() if fresh else []
        if not all(finite):
            numbers, step, lr, paths = fresh[finite.index(False)]
            parts = f"box {float(numbers[1]):.4g}, confidence {float(numbers[2]):.4g}"
            found = NonFiniteLossError(
                f"the loss is not finite ({parts}) at learning rate {lr:.3g}; images: {', '.join(paths)}",
                place=f"step {step}",
                remedy="Lower optim.lr, or look at these images. No checkpoint was written from this state.",
            )
        self.checked = len(self.rows)
        if distributed.any_rank(found is not None):
            raise found or NonFiniteLossError("another process's loss is not finite", remedy="See its message.")

    def summary(self, units: DeadUnits) -> dict[str, float]:
        """Return means over the steps since the last call, over all ranks, and the share of dead units of this rank.

        `positives` and `missed_best_box` are sums over the ranks, the latter over the steps too.

        Raises:
            NonFiniteLossError: as `check` does.
        """
        table = torch.stack([row[0] for row in self.rows])
        not_finite = (~torch.isfinite(table)).sum()
        sums = distributed.sum_over_ranks(torch.cat([table.mean(0), torch.stack([table[:, 4].sum(), not_finite])]))
        dead = table.new_zeros(1) if units.dead is None else units.dead[None]
        # A single wait for the device, for all numbers of the row.
        numbers = torch.cat([sums[:3] / distributed.world_size(), sums[3:4], sums[5:], dead]).cpu().tolist()
        total, box, confidence, positives, missed_best_box, bad, dead_units = numbers
        if bad:
            self.checked = 0
            self.check()
        lr = self.rows[-1][2]
        self.rows, self.checked = [], 0
        names = ("loss", "loss_box", "loss_confidence", "positives", "lr", "missed_best_box")
        row = dict(zip(names, (total, box, confidence, positives, lr, missed_best_box), strict=True))
        return row if units.dead is None else {**row, "dead_units": dead_units / units.observed}
