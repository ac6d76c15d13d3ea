"""The worker processes that make batches: how they are started, watched and ended."""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Generic, Literal, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from ssd.data.loading.batches import TrainBatches, WorkerResult
from ssd.data.loading.limits import IN_MAIN_PROCESS, check_limits, explain_death, explain_silence
from ssd.data.loading.main_guard import check_main_guard
from ssd.errors import DataWorkerError
from ssd.system.threads import usable_cores

Key = TypeVar("Key")

_TURN = 5.0  # seconds between two checks for dead workers
_SUSPENDED = 2  # a turn so many times longer than that included a suspension
_PREFETCH = 4  # batches ready per worker; as 8-bit images they are small
_TROUBLE = (RuntimeError, OSError, EOFError)  # raised by torch and multiprocessing when a worker is gone
_LAST_SECONDS = 60  # a worker ends so long after its first SIGTERM


def choose_workers(wanted: int | Literal["auto"], processes: int = 1) -> int:
    """How many workers to start for each of `processes` on this machine.

    `auto` leaves one core of each process to its training, but takes two workers on two cores, since they also wait for
    the disk. More than 16 are not worth their memory.
    """
    if wanted != "auto":
        return wanted
    share = usable_cores() // processes
    return max(1, min(share, 2), min(share - 1, 16))


class BatchSampler(Sampler[Key], Generic[Key]):
    """The keys of the next pass; workers persist, so these are replaced and not the loader."""

    def __init__(self) -> None:
        self.now: Iterable[Key] = ()

    def __iter__(self) -> Iterator[Key]:
        return iter(self.now)


class Workers:
    """A DataLoader with persistent, watched worker processes."""

    def __init__(
        self,
        batches: TrainBatches,
        keys: BatchSampler[Any],
        workers: int,
        timeout: float,
        *,
        pin_memory: bool = False,
    ) -> None:
        settings: dict[str, Any] = {}
        turn = min(_TURN, timeout) if timeout > 0 else _TURN
        if workers > 0:
            check_main_guard()
            check_limits(workers)
            settings = {"num_workers": workers, "timeout": turn, "multiprocessing_context": _context()}
            settings |= {"persistent_workers": True, "prefetch_factor": _PREFETCH, "worker_init_fn": _start_worker}
        # Without its own generator the loader would draw from the global one, and a resumed run would differ.
        generator = torch.Generator()
        self._loader: DataLoader[WorkerResult] = DataLoader(
            batches,
            sampler=keys,
            batch_size=None,
            collate_fn=_unchanged,
            generator=generator,
            pin_memory=pin_memory,
            **settings,
        )
        self._timeout, self._turn = timeout, turn
        self._processes: list[BaseProcess] = []

    def deliveries(self) -> Iterator[WorkerResult]:
        """Yield the results of the workers.

        Raises:
            DataWorkerError: one of them died or hung.
        """
        deliveries = self._start()
        while True:
            try:
                delivery = self._wait(deliveries)
            except StopIteration:
                return
            except DataWorkerError:
                for process in self._processes:  # a hung worker would keep this program from ending
                    process.kill()
                raise
            yield delivery

    def close(self) -> None:
        """End the worker processes; they ignore a first signal (see `_start_worker`)."""
        # Deleting the last reference to the iterator ends the workers and waits for them.
        del self._loader
        for process in self._processes:
            process.kill()

    def _start(self) -> Iterator[WorkerResult]:
        others = multiprocessing.active_children()
        try:
            deliveries = iter(self._loader)
        except _TROUBLE as error:
            problem = f"data workers could not be started ({error})"
            raise DataWorkerError(problem, remedy=IN_MAIN_PROCESS) from error
        self._processes += [child for child in multiprocessing.active_children() if child not in others]
        return deliveries

    def _wait(self, deliveries: Iterator[WorkerResult]) -> WorkerResult:
        """Wait in short turns, because DataLoader looks for dead workers only at the end of a wait.

        Time in which this process was stopped (Ctrl-Z, a suspended machine) does not count towards the timeout; it is
        recognised by a turn that took far too long.
        """
        waited = 0.0
        while True:
            began = time.monotonic()
            try:
                return next(deliveries)
            except _TROUBLE as error:
                if not self._loader.num_workers:
                    raise
                if "timed out" not in str(error):
                    codes = [process.exitcode for process in self._processes]
                    raise explain_death(str(error), codes, self._loader.num_workers) from error
                turn = time.monotonic() - began
                waited += turn if turn < _SUSPENDED * self._turn + 1 else 0.0
                if 0 < self._timeout <= waited:
                    raise explain_silence(self._timeout, self._loader.num_workers) from error


def _unchanged(delivery: Any) -> Any:
    return delivery


def _context() -> BaseContext:
    """Start workers from a server process that has imported their modules and never ran a thread.

    A fork of this process could inherit a lock held by a thread of OpenCV or PyTorch, and wait for it forever; a
    spawned worker needs seconds to import everything again. Platforms without fork spawn.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ssd.data.loading.loader", "ssd.data.augment.transforms"])
    # `timeout` and job schedulers send SIGTERM to every process of a group. The server starts with SIGTERM blocked, and
    # workers inherit that until `_start_worker` installs a handler.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    multiprocessing.forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _start_worker(_: int) -> None:
    """Prepare a worker: it uses one thread and ignores SIGINT and the first SIGTERM.

    The main process finishes its step, saves and then ends its workers. A second SIGTERM ends a worker at once.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _spend_first_sigterm)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _end_with_parent() -> None:
    """End this worker when the run was killed. PyTorch's own check watches the fork server, which lives on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _spend_first_sigterm(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "alarm"):
        # A process that ends with an exception also sends its workers one SIGTERM, and waits for them.
        signal.alarm(_LAST_SECONDS)
