"""Writes the state, the weights and the page of a run."""

import logging
import math
import time
from typing import Any

import torch
from torch import nn

from ssd.errors import NonFiniteLossError, SSDError
from ssd.report.page import made_by
from ssd.system import distributed
from ssd.system.version import __version__
from ssd.training.page import write_training_page
from ssd.training.parts import RunParts
from ssd.training.run_folder import RunFolder
from ssd.weights.native import save_weights

log = logging.getLogger(__name__)

# On a GPU an epoch of a small data set takes less time than saving its state.
SECONDS_BETWEEN = 60.0


class StateSaver:
    """Writes the state of a run to disk, and optional saves at most once a minute."""

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts
        self._last = -math.inf  # the first save is always due

    def save(self, *, must: bool = True) -> None:
        """Write the state, unless it need not be and one was written within `SECONDS_BETWEEN`.

        The other processes wait, so that none is ahead of the file.

        Raises:
            NonFiniteLossError: the weights are not finite, although the losses were; such weights are never written.
        """
        state = self._parts.state
        if not all_finite(state.network):
            raise NonFiniteLossError(
                "the weights are not finite after this step",
                place=f"step {state.step}",
                remedy="Lower optim.lr. No checkpoint was written from this state.",
            )
        first = distributed.rank() == 0  # whose clock counts
        if not must and not distributed.any_rank(first and time.monotonic() - self._last >= SECONDS_BETWEEN):
            return
        if first:
            self._parts.folder.save_state(state.to_dict(), state.step)
        distributed.barrier()
        self._last = time.monotonic()


def all_finite(network: nn.Module) -> bool:
    """Whether every weight is finite; a single wait for the device."""
    return bool(torch.stack([torch.isfinite(weights).all() for weights in network.parameters()]).all())


def save_averaged_weights(parts: RunParts, figures: dict[str, Any], *, best: bool) -> None:
    """Write the averaged weights as the run's last, and if `best` also as its best."""
    tensors = parts.state.average.network.state_dict()
    # Auxiliary heads are used in training only.
    weights = {name: t.contiguous() for name, t in tensors.items() if not name.startswith("backbone.auxiliary.")}
    extra = {"config": parts.state.config, "validation": figures}
    for path in (parts.folder.last, *([parts.folder.best] if best else [])):
        save_weights(path, weights, parts.settings, extra=extra)


def update_page(folder: RunFolder) -> None:
    """Update the run's page; a failure there must not stop the run."""
    try:
        write_training_page(folder.path, made_by(__version__))
    except SSDError as error:
        log.warning("the page of the run could not be written: %s", error)
    except Exception:
        log.warning("the page of the run could not be written", exc_info=True)
