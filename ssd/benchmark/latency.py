"""How long a detector takes for one decoded image on this machine, in the slow cases too."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from ssd.inference.detector import Detector

_WARM_UP = 3
_LEAST, _SECONDS = 40, 4.0  # calls, and seconds for more of them
_MOST = 400
_TRIED = 5  # calls after which a detector that is too slow is given up


def p95(
    detector: Detector,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    limit: float | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The milliseconds that 95 % of the calls of `detect` stay below: resize, network and suppression of one image.

    The images are decoded, and taken in turns. Where none of the first calls is within `limit` milliseconds, the figure
    is that of these few calls.
    """
    took: list[float] = []
    for call in range(-_WARM_UP, _MOST):
        started = clock()
        detector.detect(images[call % len(images)])
        if call < 0:
            continue
        took.append(1000 * (clock() - started))
        if limit is not None and len(took) == _TRIED and min(took) > limit:
            break
        if len(took) >= _LEAST and sum(took) > 1000 * _SECONDS:
            break
    return float(np.percentile(took, 95))
