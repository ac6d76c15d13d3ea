"""Two ways to the same result: checked for agreement, then timed in turns."""

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import torch

_LEAST_SECONDS = 0.05  # a shorter call is repeated until a measurement takes this long


class DisagreementError(Exception):
    """Both sides had the same input and weights, and gave different results: timing them would compare nothing."""


class UnavailableError(Exception):
    """This stage needs what this machine or this installation does not have."""


@dataclass(frozen=True)
class Contest:
    """Ours against theirs. `check` runs both and says how well they agree, or raises `DisagreementError`."""

    ours: Callable[[], object]
    theirs: Callable[[], object]
    check: Callable[[], str]
    one_core: bool = False
    repeats: int = 1  # of a call within a measurement, at least; more where one draws anew each time
    training: bool = False  # timed as `ssd train` runs it
    pairs: int = 21  # unless the user says otherwise; fewer where one call takes seconds


@dataclass(frozen=True)
class Timing:
    """Milliseconds of each pair, in the order they were taken."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times as long theirs took, pair by pair: what disturbs the machine mostly disturbs both."""
        return tuple(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))

    def medians(self) -> tuple[float, float, float]:
        """Ours, theirs, and the ratio; the last is the median of the ratios, not the ratio of the medians."""
        return statistics.median(self.ours), statistics.median(self.theirs), statistics.median(self.ratios)


Clock = Callable[[int], float]  # calls something so many times and gives the seconds


def clock(call: Callable[[], object], device: torch.device, *, one_core: bool = False) -> Clock:
    """A clock of this process."""

    def count(repeats: int) -> float:
        with _one_core() if one_core else contextlib.nullcontext(), _no_collection():
            return seconds(call, repeats, device)

    return count


def hold(ours: Clock, theirs: Clock, pairs: int, *, least: int = 1, warm_up: int = 2) -> Timing:
    """Time both sides `pairs` times, in turns; who begins alternates too, since the second finds a warmer cache.

    `warm_up` calls are made beforehand, for caches, kernels and clocks; the last of them says how many calls make up a
    measurement: `least` or more.
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
    """Time `repeats` calls; on CUDA by the device's own clock, from an idle device to the end of the last kernel."""
    if device.type == "cuda":
        return _seconds_on_cuda(call, repeats, device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


def _seconds_on_cuda(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()  # what was launched before is not counted
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()  # a launch returns before its kernel ends
        milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1000


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Do as a data worker does: one thread in PyTorch and one in OpenCV."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Whatever garbage there is, it is collected between the measurements."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
