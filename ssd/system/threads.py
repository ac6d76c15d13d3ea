"""Threads that work ahead: images are decoded and resized, or whole images searched, while earlier ones are awaited."""

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_MOST = 16  # more only wait for memory
_ONE_AT_A_TIME = threading.Lock()


def image_threads() -> ThreadPoolExecutor:
    """The threads of this process that read, decode and resize images; OpenCV releases the GIL.

    They start on first use. A forked process gets its own.
    """
    return _threads_of(os.getpid())


@functools.cache
def _threads_of(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_MOST, usable_cores() + 4), thread_name_prefix="ssd-images")


def single_threads(count: int) -> ThreadPoolExecutor:
    """So many threads of this process that each compute with one of PyTorch's compute threads.

    They start on first use. A forked process gets its own.
    """
    return _single_threads_of(os.getpid(), count)


@functools.cache
def _single_threads_of(process: int, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="ssd-single", initializer=compute_with, initargs=(1,))


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compute_with(threads: int) -> None:
    """Let PyTorch compute with so many threads what the calling thread asks for; other threads keep their number.

    PyTorch sets the number of the calling thread and of threads to come. The latter is set back, by another thread.
    """
    with _ONE_AT_A_TIME:
        before = torch.get_num_threads()
        if threads == before:
            return
        torch.set_num_threads(threads)
        restoring = threading.Thread(target=torch.set_num_threads, args=(before,))
        restoring.start()
        restoring.join()


def map_at_once(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int
) -> Generator[_Result, None, None]:
    """Like `map_ahead`, for work of PyTorch: the threads divide its compute threads among themselves."""
    each = max(1, torch.get_num_threads() // threads)
    return map_ahead(function, items, threads=threads, prepare=functools.partial(compute_with, each))


def map_ahead(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    threads: int = 1,
    prepare: Callable[[], None] | None = None,
) -> Generator[_Result, None, None]:
    """Like `map`, computed in `threads` threads, as many items ahead of the one that is due.

    Results come in the order of the items. Items are taken from the iterable in the caller's thread. An error of an
    item is raised in its turn, after the results before it, and so is an error of the iterable. Each thread calls
    `prepare` first.
    """
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ssd-ahead", initializer=prepare) as pool:
        try:
            taken = iter(items)
            broken: Exception | None = None
            while broken is None:
                try:
                    waiting.append(pool.submit(function, next(taken)))
                except StopIteration:
                    break
                except Exception as error:  # the caller's iterable raises it after the items before it are done
                    broken = error
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
            if broken is not None:
                raise broken
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
