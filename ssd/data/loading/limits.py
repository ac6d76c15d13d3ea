"""What the system allows data workers: open files, and shared memory through which they hand over batches."""

import os
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from ssd.errors import DataWorkerError

SHARED_MEMORY = Path("/dev/shm")
IN_MAIN_PROCESS = "Set data.workers=0 to load in the main process."
_MORE_FILES = "Raise it with `ulimit -n 4096`."
_FILES = 8  # that every worker opens in this process: pipes, and the memory of batches in flight
_BYTES = 2 * 2**20  # of shared memory, the least that batches of one worker take


def check_limits(workers: int) -> None:
    """Refuse to start workers that the system would not let live.

    Raises:
        DataWorkerError: too few files may be open, or /dev/shm has too little room.
    """
    allowed, opened = _open_files()
    needed = opened + _FILES * (workers + 1)
    if needed > allowed:
        problem = f"{allowed} files may be open, {opened} are, and {workers} data workers need {needed} in all"
        raise DataWorkerError(problem, place="the limit on open files", remedy=f"{_MORE_FILES} {IN_MAIN_PROCESS}")
    if _shared_memory_is_short(workers):
        raise _too_little_memory(workers)


def explain_death(message: str, codes: Iterable[int | None], workers: int) -> DataWorkerError:
    """The error for workers that ended with `codes` (negative: signals), of which PyTorch says `message`."""
    codes = set(codes)
    if _has_bus_error(codes) or "Bus error" in message or "shared memory" in message:
        return _too_little_memory(workers)
    if "Too many open files" in message or "Errno 24" in message:
        problem = f"too few ({_open_files()[0]}) for {workers} data workers"
        return DataWorkerError(problem, place="the limit on open files", remedy=f"{_MORE_FILES} {IN_MAIN_PROCESS}")
    problem = f"a data worker died, perhaps for want of memory ({message})"
    return DataWorkerError(problem, remedy=IN_MAIN_PROCESS)


def explain_silence(seconds: float, workers: int) -> DataWorkerError:
    """The error for workers that handed over nothing for so long; where /dev/shm is full, that is why."""
    if _shared_memory_is_short(workers):
        return _too_little_memory(workers)
    problem = f"no batch arrived within {seconds:g} seconds"
    remedy = f"Raise data.timeout if the disk is slow. {IN_MAIN_PROCESS}"
    return DataWorkerError(problem, place="data workers", remedy=remedy)


def _has_bus_error(codes: set[int | None]) -> bool:
    return hasattr(signal, "SIGBUS") and -signal.SIGBUS in codes


def _open_files() -> tuple[int, int]:
    """How many files may be open in this process, and how many are."""
    listed = Path("/proc/self/fd")
    if sys.platform == "win32" or not listed.is_dir():
        return sys.maxsize, 0
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (sys.maxsize if allowed == resource.RLIM_INFINITY else allowed), len(os.listdir(listed)) - 1  # noqa: PTH208


def _shared_memory_is_short(workers: int) -> bool:
    return SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free < _BYTES * workers


def _too_little_memory(workers: int) -> DataWorkerError:
    usage = shutil.disk_usage(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None
    size = f" ({usage.free / 1e6:.0f} of {usage.total / 1e6:.0f} MB free)" if usage else ""
    problem = f"too little shared memory for {workers} data workers{size}"
    remedy = f"Give it more room (docker run --shm-size=1g). {IN_MAIN_PROCESS}"
    return DataWorkerError(problem, place=SHARED_MEMORY, remedy=remedy)
