"""How long a detector takes for one image on this machine, in the slow cases too."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

Image = UInt8[np.ndarray, "_ _ 3"]
Clock = Callable[[], float]  # seconds

ROUNDS = 5
LEAST = 20  # calls of a round
_SECONDS = 0.8  # of a round: more calls for detectors that are faster
_WARM_UP = 3
_FIRST = 5  # calls of a new detector


@runtime_checkable
class Detects(Protocol):
    """A detector, or what stands for one in a test."""

    @property
    def precision(self) -> str:
        """What it computes in."""
        ...

    def detect(self, image: Image, /) -> object:
        """Resize, network and suppression of one decoded image."""
        ...


def busy() -> str | None:
    """The load by other programs that use at least half of the cores; None without such load, and on Windows."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores = os.cpu_count() or 1
    return None if load < max(1.0, cores / 2) else f"load {load:.1f} on {cores} cores in the last minute"


def p95(rounds: Sequence[float]) -> float:
    """The 95th percentile of a detector by those of its rounds: their median, so that two of five may be disturbed."""
    return statistics.median(rounds)


def rounds_in_turns(
    detectors: Sequence[Detects], images: Sequence[Image], *, clock: Clock = time.perf_counter
) -> list[tuple[float, ...]]:
    """For each detector the 95th percentiles, in milliseconds, of the calls of `ROUNDS` rounds.

    A round is `LEAST` calls or more, on decoded images in turns. The detectors take their rounds in turns, so that what
    disturbs the machine for some seconds disturbs one or two rounds of each, not all rounds of one.
    """
    found: list[list[float]] = [[] for _ in detectors]
    for _ in range(ROUNDS):
        for detector, own in zip(detectors, found, strict=True):
            took: list[float] = []
            detector.detect(images[-1])  # not timed: the caches hold another network
            while len(took) < LEAST or sum(took) < 1000 * _SECONDS:
                took.append(_call(detector, images[len(took) % len(images)], clock))
            own.append(float(np.percentile(took, 95)))
    return [tuple(own) for own in found]


def first_calls(detector: Detects, images: Sequence[Image], *, clock: Clock = time.perf_counter) -> list[float]:
    """The milliseconds of five calls of a new detector, after others that warm it up."""
    for call in range(_WARM_UP):
        detector.detect(images[-1 - call % len(images)])
    return [_call(detector, images[call % len(images)], clock) for call in range(_FIRST)]


def _call(detector: Detects, image: Image, clock: Clock) -> float:
    started = clock()
    detector.detect(image)
    return 1000 * (clock() - started)
