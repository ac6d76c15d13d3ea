"""Batches for training and evaluation, and the worker processes that make them: started, watched, and ended."""

import logging
import multiprocessing
import multiprocessing.forkserver
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Generic, TypeVar

import cv2
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ssd.data.batches import BadImages, Delivery, EvalBatches, Source, TrainBatches, TrainKey, Transform
from ssd.data.sampler import EpochSampler, eval_batches, steps_per_epoch
from ssd.errors import DatasetError, DataWorkerError, ImageDecodeError
from ssd.settings import Preprocessing
from ssd.structures import Batch

Key = TypeVar("Key")

_log = logging.getLogger("ssd.data")

_TURN = 5.0  # seconds between two looks at whether a worker has died
_PREFETCH = 4  # batches in store per worker; as 8-bit pictures they are small
_BAD_IMAGES_LIMIT = 0.01  # of the data set may be undecodable under "skip"
_REMEDY = "Set data.workers=0 to load in the main process."
_LAST_SECONDS = 60  # how long a worker outlives its first SIGTERM
_TROUBLE = (RuntimeError, OSError, EOFError)  # what torch and multiprocessing raise when a worker is gone


def make_train_loader(
    source: Source,
    transform: Transform,
    *,
    batch_size: int,
    seed: int,
    workers: int = 0,
    timeout: float = 120.0,
    rank: int = 0,
    world_size: int = 1,
    bad_images: BadImages = "error",
) -> "TrainLoader":
    """Make the training batches of one process; `batch_size` counts pictures over all processes."""
    batches = TrainBatches(source, transform, seed, bad_images)
    return TrainLoader(batches, batch_size, workers, timeout, rank, world_size)


def make_eval_loader(
    source: Source,
    preprocessing: Preprocessing,
    size: int,
    *,
    batch_size: int,
    workers: int = 0,
    timeout: float = 120.0,
    rank: int = 0,
    world_size: int = 1,
) -> "EvalLoader":
    """Make the evaluation batches of one process; over all processes every picture comes exactly once."""
    share = eval_batches(len(source), batch_size=batch_size, rank=rank, world_size=world_size)
    return EvalLoader(EvalBatches(source, preprocessing, size), share, workers, timeout)


class TrainLoader:
    """Augmented batches, epoch by epoch. What a batch holds follows from (seed, epoch, step), not from the workers."""

    def __init__(
        self, batches: TrainBatches, batch_size: int, workers: int, timeout: float, rank: int, world_size: int
    ) -> None:
        self.steps_per_epoch = steps_per_epoch(len(batches.source), batch_size, world_size)
        self.bad_paths: set[str] = set()  # pictures that were left out so far, under bad_images="skip"
        self._batches = batches
        self._share: dict[str, int] = {"batch_size": batch_size, "rank": rank, "world_size": world_size}
        self._keys: _Keys[TrainKey] = _Keys()
        self._workers = _Workers(batches, self._keys, workers, timeout)

    def epoch(self, number: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from `start_step` on when a run resumes in its middle.

        Raises:
            DataWorkerError: a worker died, hung or met an unforeseen exception.
            SSDError: a picture or its objects are bad; the message names the file.
        """
        length = len(self._batches.source)
        order = EpochSampler(length, seed=self._batches.seed, epoch=number, start_step=start_step, **self._share)
        self._keys.now = [(number, indices) for indices in order]
        for delivery in self._workers.deliveries():
            self._note(delivery.bad)
            yield delivery.open()

    def close(self) -> None:
        """End the workers; afterwards there are no more epochs."""
        self._workers.close()

    def first_pictures(self, count: int) -> UInt8[Tensor, "B 3 S S"]:
        """Augmented pictures from the start of epoch 0, the same on every process; fewer if there are fewer."""
        length = len(self._batches.source)
        order = EpochSampler(length, seed=self._batches.seed, epoch=0, batch_size=min(count, length))
        delivery = self._batches[0, next(iter(order))]
        self._note(delivery.bad)
        images = delivery.open().images
        assert images.dtype == torch.uint8
        return images

    def _note(self, bad: Sequence[ImageDecodeError]) -> None:
        for error in bad:
            if error.place is None or error.place in self.bad_paths:
                continue
            self.bad_paths.add(error.place)
            _log.warning("%s Another picture stands in for it (%d so far).", error, len(self.bad_paths))
        count, length = len(self.bad_paths), len(self._batches.source)
        if count > max(1.0, _BAD_IMAGES_LIMIT * length):
            names = ", ".join(sorted(self.bad_paths)[:10])
            remedy = "Repair or remove them; tools/check_data.py lists them all."
            raise DatasetError(f"{count} of {length} pictures cannot be decoded: {names}", remedy=remedy)


class EvalLoader:
    """The pictures of a data set in order, as the network reads them. May be iterated again and again."""

    def __init__(self, batches: EvalBatches, share: Sequence[tuple[int, ...]], workers: int, timeout: float) -> None:
        self._keys: _Keys[tuple[int, ...]] = _Keys(share)
        self._workers = _Workers(batches, self._keys, workers, timeout)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Batch]:
        return (delivery.open() for delivery in self._workers.deliveries())


class _Keys(Sampler[Key], Generic[Key]):
    """The keys of the coming pass; workers persist, so the list is exchanged rather than the loader."""

    def __init__(self, now: Sequence[Key] = ()) -> None:
        self.now = list(now)

    def __len__(self) -> int:
        return len(self.now)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.now)


class _Workers:
    """A DataLoader whose processes persist and are watched."""

    def __init__(self, batches: TrainBatches | EvalBatches, keys: _Keys[Any], workers: int, timeout: float) -> None:
        settings: dict[str, Any] = {}
        if workers > 0:
            turn = min(_TURN, timeout) if timeout > 0 else _TURN
            settings = {"num_workers": workers, "timeout": turn, "multiprocessing_context": _context()}
            settings |= {"persistent_workers": True, "prefetch_factor": _PREFETCH, "worker_init_fn": _start_worker}
        # Without a generator of its own the loader draws from the global one, and a resumed run would differ.
        generator = torch.Generator()
        self._loader: DataLoader[Delivery] = DataLoader(
            batches, sampler=keys, batch_size=None, collate_fn=_unchanged, generator=generator, **settings
        )
        self._timeout = timeout
        self._processes: list[BaseProcess] = []

    def deliveries(self) -> Iterator[Delivery]:
        """Yield what the workers make.

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
                for process in self._processes:  # a hung one would keep this program from ending
                    process.kill()
                raise
            yield delivery

    def close(self) -> None:
        """End the worker processes, which a signal alone would not (see `_start_worker`)."""
        # The last reference to their iterator: when it goes, it sends them home and waits.
        del self._loader
        for process in self._processes:
            process.kill()

    def _start(self) -> Iterator[Delivery]:
        others = multiprocessing.active_children()
        try:
            deliveries = iter(self._loader)
        except _TROUBLE as error:
            raise DataWorkerError(f"data workers could not be started ({error})", remedy=_REMEDY) from error
        self._processes += [child for child in multiprocessing.active_children() if child not in others]
        return deliveries

    def _wait(self, deliveries: Iterator[Delivery]) -> Delivery:
        """Wait in short turns, for DataLoader looks for dead workers only when a wait is over."""
        asked = time.monotonic()
        while True:
            try:
                return next(deliveries)
            except _TROUBLE as error:
                if "timed out" not in str(error):
                    problem = f"a data worker died, perhaps for want of memory or of space in /dev/shm ({error})"
                    raise DataWorkerError(problem, remedy=_REMEDY) from error
                if 0 < self._timeout <= time.monotonic() - asked:
                    problem = f"no batch arrived within {self._timeout:g} seconds"
                    remedy = f"Raise data.timeout if the disk is slow. {_REMEDY}"
                    raise DataWorkerError(problem, place="data workers", remedy=remedy) from error


def _unchanged(delivery: Any) -> Any:
    return delivery


def _context() -> BaseContext:
    """Start workers from a server process that has imported what they need and never ran a thread.

    A fork of this process could inherit a lock that one of OpenCV's or PyTorch's threads holds, and wait for it
    forever; a spawned worker imports everything anew, seconds for each. Where there is no fork, workers are spawned.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ssd.data.loader", "ssd.data.transforms"])
    # `timeout` and job schedulers send SIGTERM to every process of a group. The server starts with it blocked; workers
    # inherit that, until `_start_worker` puts a handler in place.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    multiprocessing.forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _start_worker(_: int) -> None:
    """Prepare a worker: one thread, and deaf to the signals with which people and schedulers stop a run.

    The main process finishes its step, saves and then ends its workers. A second SIGTERM ends a worker all the same.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _spend_first_sigterm)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _spend_first_sigterm(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "alarm"):
        # A process that dies of a bug ends its workers by a SIGTERM too, once, and waits for them.
        signal.alarm(_LAST_SECONDS)
