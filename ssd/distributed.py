"""Ranks and agreement between them. Everything here also works in one process, where it does nothing.

Start several with `torchrun`. The processes trust each other and the network between them: use a private one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ssd.device import choose_device

T = TypeVar("T")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the group that `torchrun` started, if it did, and leave it at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=10))
    try:
        yield
    finally:
        dist.destroy_process_group()


def local_device(name: str = "auto") -> torch.device:
    """The device of this process: `auto` and `cuda` take one GPU a local rank, where there are any.

    Raises:
        ArgumentError: no such device on this machine.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    device = choose_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def sum_over_ranks(values: Tensor) -> Tensor:
    """Element-wise sum over all processes; the tensor itself in one process."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is up anywhere; all ranks get the same answer."""
    if world_size() == 1:
        return flag
    return bool(sum_over_ranks(torch.tensor(float(flag), device=device)).item())


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
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()
