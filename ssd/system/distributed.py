"""Ranks and agreement between them. Everything here also works in one process, where it does nothing.

Start several with `torchrun`. The processes trust each other and the network between them: use a private one.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ssd.errors import DistributedError
from ssd.system.device import choose_device, computes

T = TypeVar("T")

# What Gloo and NCCL write into their exceptions, which are plain RuntimeErrors.
_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed", "gloo/transport")
_SILENT = ("Timed out waiting", "Watchdog caught collective operation timeout")
TIMEOUT = timedelta(minutes=10)  # for one answer; rank 0 computes figures while the others wait


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is rank 0 of `torchrun`, also before it joins its group and after it left."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_world_size() -> int:
    """How many of them run on this machine, as `torchrun` says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the group that `torchrun` started, if it did, and leave it at the end.

    Raises:
        DistributedError: not all came together, or another process ended or went silent in the block. Whoever fails
            first leaves the group and thereby ends the waiting of the others, so none hangs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    # On GPUs too, flags and objects are exchanged by the hosts, through Gloo: no process waits for its GPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        # NCCL wants to know its GPU before the first collective.
        dist.init_process_group(backend, timeout=TIMEOUT, device_id=device if device.type == "cuda" else None)
    except (RuntimeError, ValueError) as error:
        raise _not_together(error) from error
    try:
        yield
    except RuntimeError as error:
        dist_error = _explain(error)
        if dist_error is None:
            raise
        raise dist_error from error
    finally:
        # NCCL waits here for collectives under way, which after an error never end; the process's end frees all.
        if backend == "gloo" or sys.exc_info()[0] is None:
            dist.destroy_process_group()


def _not_together(error: Exception) -> DistributedError:
    place = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
    problem = f"the {os.environ['WORLD_SIZE']} processes did not come together ({_first_line(error)})"
    remedy = "Start them with torchrun, all of them, on a free port (--master-port)."
    return DistributedError(problem, place=place, remedy=remedy)


def _explain(error: RuntimeError) -> DistributedError | None:
    """The error of a collective whose partner is gone or silent; None for any other error."""
    text = str(error)
    if any(sign in text for sign in _SILENT):
        problem = f"rank {rank()} waited {TIMEOUT.total_seconds():g} seconds for another process"
        return DistributedError(problem, remedy="Look at what the others print; --resume auto goes on afterwards.")
    if isinstance(error, dist.DistError) or any(sign in text for sign in _GONE):
        problem = f"rank {rank()} lost the connection to another process, which failed or was killed"
        return DistributedError(problem, remedy="Its message says why; --resume auto goes on afterwards.")
    return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def local_device(name: str = "auto") -> torch.device:
    """The device of this process: `auto` and `cuda` take one GPU a local rank, where there are any.

    Raises:
        ArgumentError: no such device on this machine.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        name = own if name == "cuda" or computes(own) else "cpu"
    device = choose_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def sum_over_ranks(values: Tensor) -> Tensor:
    """Element-wise sum over all processes; the tensor itself in one process."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def share_first(values: Iterable[Tensor]) -> None:
    """Copy rank 0's numbers into the tensors of every process."""
    for value in values if world_size() > 1 else ():
        dist.broadcast(value, src=0)


def any_rank(flag: bool) -> bool:
    """Whether the flag is up anywhere; all ranks get the same answer. The hosts agree, and wait for no device."""
    if world_size() == 1:
        return flag
    return bool(sum_over_ranks(torch.tensor(float(flag))).item())


def gather_objects(item: T) -> list[T]:
    """Every process's object, in rank order, on every process. Objects must pickle; ranks trust each other."""
    if world_size() == 1:
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def from_first(item: T) -> T:
    """Rank 0's object, on every process."""
    if world_size() == 1:
        return item
    box: list[Any] = [item]
    dist.broadcast_object_list(box, src=0)
    answer: T = box[0]
    return answer


def barrier() -> None:
    """Wait until every process is here. The hosts wait: `dist.barrier` would by NCCL, which a failed rank blocks."""
    any_rank(False)
