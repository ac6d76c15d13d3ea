"""What a run's checkpoint restores, and nothing else."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ssd import config as configs
from ssd.config import Config
from ssd.errors import CheckpointError
from ssd.optim import AveragedNetwork


@dataclass
class TrainState:
    """Everything a checkpoint restores. Sample order and augmentation follow from seed, epoch and index."""

    network: nn.Module
    average: AveragedNetwork
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    config: Config
    class_names: tuple[str, ...]
    step: int = 0  # batches done
    best: float | None = None
    evaluated: int = 0  # the step of the last evaluation
    since_best: int = 0  # evaluations since `best`
    missed_best_box: int = 0  # objects so far that had to take a second choice

    def to_dict(self) -> dict[str, Any]:
        """Plain types and tensors only, so that loading executes nothing."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict() if self.average.decay else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "config": configs.to_dict(self.config),
            "class_names": list(self.class_names),
            "step": self.step,
            "best": self.best,
            "evaluated": self.evaluated,
            "since_best": self.since_best,
            "missed_best_box": self.missed_best_box,
            "torch_rng": torch.get_rng_state(),
        }

    def restore(self, saved: dict[str, Any], place: object) -> None:
        """Take over a saved state.

        Raises:
            CheckpointError: it was trained on other classes, or with another network.
        """
        names = tuple(saved["class_names"])
        if names != self.class_names:
            raise CheckpointError(
                f"was trained on {', '.join(names)}; the data has {', '.join(self.class_names)}",
                place=place,
                remedy="To start from its weights with other classes, use model.weights=FILE without --resume.",
            )
        try:
            self.network.load_state_dict(saved["network"])
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise CheckpointError(
                f"belongs to another network ({detail})",
                place=place,
                remedy="Resume with the config the run was started with.",
            ) from None
        if self.average.decay:
            self.average.network.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.step, self.evaluated = saved["step"], saved["evaluated"]
        self.best, self.since_best = saved["best"], saved["since_best"]
        self.missed_best_box = saved["missed_best_box"]
        torch.set_rng_state(saved["torch_rng"])
