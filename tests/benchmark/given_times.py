"""Detectors whose calls take given milliseconds, by a clock of their own."""

import itertools
from collections.abc import Sequence

import numpy as np

IMAGES = [np.zeros((8, 8, 3), np.uint8)] * 4


class GivenClock:
    """A clock that only the detectors made for it move."""

    def __init__(self) -> None:
        self.now = 0.0  # seconds

    def __call__(self) -> float:
        return self.now


class GivenTimes:
    """A detector whose calls take these milliseconds in turns; those before them warm it up."""

    precision = "fp32"

    def __init__(self, clock: GivenClock, times: Sequence[float]) -> None:
        self.clock, self.times, self.calls = clock, itertools.cycle(times), 0

    def detect(self, _: object) -> None:
        self.calls += 1
        self.clock.now += next(self.times) / 1000
