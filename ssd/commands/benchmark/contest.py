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
    slow: bool = False  # one call takes seconds


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


def hold(contest: Contest, pairs: int, device: torch.device) -> Timing:
    """Time both sides `pairs` times, in turns; who begins alternates too, since the second finds a warmer cache."""
    with _one_core() if contest.one_core else contextlib.nullcontext(), _no_collection():
        sides = [contest.ours, contest.theirs]
        repeats = [_repeats(side, device) for side in sides]
        times: list[list[float]] = [[], []]
        for pair in range(pairs):
            for side in (0, 1) if pair % 2 == 0 else (1, 0):
                seconds = _seconds(sides[side], repeats[side], device)
                times[side].append(1000 * seconds / repeats[side])
    return Timing(tuple(times[0]), tuple(times[1]))


def _repeats(call: Callable[[], object], device: torch.device) -> int:
    """How often to call within one measurement; the calls made to find out warm up caches and kernels."""
    _seconds(call, 1, device)
    return max(1, math.ceil(_LEAST_SECONDS / max(_seconds(call, 1, device), 1e-6)))


def _seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait(device)  # a launch returns before its kernel ends
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
    """Keep the garbage of one side from being collected on the other's time."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
