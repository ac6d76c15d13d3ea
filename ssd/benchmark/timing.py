"""Comparisons of two implementations: checked for agreement, then timed in turns."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import torch

from ssd.system.garbage import collection_paused

_LEAST_SECONDS = 0.05  # a shorter call is repeated until a measurement takes this long


class DisagreementError(Exception):
    """The two implementations gave different results for the same input and weights, so timing them means nothing."""


class UnavailableError(Exception):
    """This stage needs hardware or a package that is missing."""


@dataclass(frozen=True)
class Comparison:
    """This package (`ours`) and a baseline; `check` describes their agreement or raises `DisagreementError`."""

    ours: Callable[[], object]
    theirs: Callable[[], object]
    check: Callable[[], str]
    one_core: bool = False
    repeats: int = 1  # least number of calls in a measurement; more for calls with random draws
    training: bool = False  # whether memory is handled as in `ssd train`
    pairs: int = 21  # default number of measurements; fewer where one call takes seconds
    precision: str | None = None  # of our layers, where a call computes the whole network
    images: int = 1  # in a call


@dataclass(frozen=True)
class Timing:
    """Milliseconds of each pair, in the order they were taken."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """The time of theirs divided by that of ours, for each pair: disturbances mostly affect both."""
        return tuple(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))

    def medians(self) -> tuple[float, float, float]:
        """Medians of ours, theirs and the ratios; the last is not the ratio of the first two."""
        return statistics.median(self.ours), statistics.median(self.theirs), statistics.median(self.ratios)


Clock = Callable[[int], float]  # calls a function so many times and returns the seconds


def clock(call: Callable[[], object], device: torch.device, *, one_core: bool = False) -> Clock:
    """A clock of this process."""

    def count(repeats: int) -> float:
        with _one_core() if one_core else contextlib.nullcontext(), collection_paused():
            return seconds(call, repeats, device)

    return count


def time_in_turns(ours: Clock, theirs: Clock, pairs: int, *, least: int = 1, warm_up: int = 2) -> Timing:
    """Time both `pairs` times, in turns and in alternating order, since the second has a warmer cache.

    `warm_up` calls come first, for caches, kernels and clocks; the last of them determines the number of calls in a
    measurement, which is at least `least`.
    """
    sides = (ours, theirs)
    repeats = [max(least, _repeats(side, warm_up)) for side in sides]
    times: list[list[float]] = [[], []]
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            times[side].append(1000 * sides[side](repeats[side]) / repeats[side])
    return Timing(tuple(times[0]), tuple(times[1]))


def _repeats(side: Clock, warm_up: int) -> int:
    for _ in range(warm_up - 1):
        side(1)
    return max(1, math.ceil(_LEAST_SECONDS / max(side(1), 1e-6)))


def seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Time `repeats` calls; on CUDA by the device's clock, from an idle device to the end of the last kernel."""
    if device.type == "cuda":
        return _seconds_on_cuda(call, repeats, device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


def _seconds_on_cuda(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()  # earlier kernels are not counted
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()  # a launch returns before its kernel ends
        milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1000


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Use one thread in PyTorch and one in OpenCV, as in a data worker."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
