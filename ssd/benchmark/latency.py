"""How long a detector takes for one image on this machine, in the slow cases too."""

import os
import time
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

Image = UInt8[np.ndarray, "_ _ 3"]

_WARM_UP = 3
_LEAST, _SECONDS = 40, 4.0  # calls, and seconds for more of them
_MOST = 400
_TRIED = 5  # calls after which a detector that is too slow is given up


def busy() -> str | None:
    """What makes times too long: other programs that use at least half of the cores; None without, or on Windows."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores = os.cpu_count() or 1
    if load < max(1.0, cores / 2):
        return None
    return f"the machine is busy (load {load:.1f} on {cores} cores in the last minute), so that times are too long"


def p95(
    detect: Callable[[Image], object],
    images: Sequence[Image],
    limit: float | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The milliseconds that 95 % of the calls of a detector's `detect` stay below: resize, network and suppression.

    The images are decoded, and taken in turns. If the first calls are all above `limit` milliseconds, the figure is
    that of these few.
    """
    took: list[float] = []
    for call in range(-_WARM_UP, _MOST):
        started = clock()
        detect(images[call % len(images)])
        if call < 0:
            continue
        took.append(1000 * (clock() - started))
        if limit is not None and len(took) == _TRIED and min(took) > limit:
            break
        if len(took) >= _LEAST and sum(took) > 1000 * _SECONDS:
            break
    return float(np.percentile(took, 95))
