"""What limits a run besides its network: batches that come late, and evaluations longer than the training between."""

import logging
import math
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch

from ssd.data.loading.workers import choose_workers
from ssd.system import distributed

log = logging.getLogger(__name__)

_SHARE = 0.2  # of an epoch; less waiting is not worth a message
_SECONDS = 10.0  # least duration of an epoch or an evaluation that is judged

Item = TypeVar("Item")


class LoaderWait:
    """The part of an epoch in which the device has nothing to do, because the next batch is not ready.

    On CUDA it is measured between the end of one step and the start of the next, by the device's own clock: the host
    is ahead of the device, and waits for batches while the device still computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._began = time.monotonic()
        self._seconds = 0.0
        self._gaps: list[tuple[Any, Any]] = []

    def batches(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Pass on the batches and measure; the first of an epoch, for which workers start afresh, does not count."""
        iterator = iter(batches)
        first = next(iterator, None)
        self._began = time.monotonic()
        if first is None:
            return
        yield first
        while True:
            start, before = self._mark(), time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._seconds += time.monotonic() - before
            end = self._mark()
            if start is not None and end is not None:
                self._gaps.append((start, end))
            yield batch

    def _mark(self) -> Any:
        if not self._on_cuda:
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def share(self) -> float:
        """Share of the epoch, 0 to 1, at its end, after the last log row waited for the device; 0 if it was short."""
        duration = time.monotonic() - self._began
        if duration < _SECONDS:
            return 0.0
        if self._on_cuda:
            self._seconds = sum(start.elapsed_time(end) for start, end in self._gaps) / 1000
        return self._seconds / duration


class Advice:
    """Says once in a run that the loader, or evaluating, limits its speed, and what to change."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def about_loader(self, share: float, workers: int) -> None:
        """Log a line if `share` of the epoch went into waiting for batches of `workers` workers."""
        if share <= _SHARE:
            return
        more = choose_workers("auto", distributed.local_world_size())
        if workers < more:
            remedy = f"data.workers={more} uses more cores"
        else:
            remedy = "all cores are in use; images that were resized beforehand are decoded faster"
        self._say("loader", f"{share:.0%} of the epoch was waiting for images: {remedy}")

    def about_evaluation(self, seconds: float, training: float, every: int, epochs: int) -> None:
        """Log a line if an evaluation, due each `every` epochs, took longer than the `training` between, in seconds."""
        if seconds <= max(training, _SECONDS) or every >= epochs:
            return
        less = min(epochs, math.ceil(every * seconds / max(training, 1e-9)))
        text = f"evaluating took {seconds:.0f} s, training between two evaluations takes {training:.0f} s"
        self._say("evaluation", f"{text}: train.eval_every={less} evaluates less often")

    def _say(self, topic: str, text: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            log.warning("%s", text)
