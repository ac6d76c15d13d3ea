"""A CUDA device that is pretended: tensors have shapes and devices but no numbers, and every wait is written down."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

# What needs the numbers, not just the shapes, of a tensor on the host.
WAITING = {
    aten._local_scalar_dense.default,
    aten.is_nonzero.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
    aten.repeat_interleave.Tensor,
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
COPIES = {aten._to_copy.default, aten.copy_.default}


class Waits(TorchDispatchMode):
    """Writes down every operation that makes the host wait for a CUDA device, and refuses a mix of both as operands.

    What is copied to the host is zeros there. An upload that is `non_blocking` waits for nothing: the batch's memory is
    page-locked, which pretended tensors cannot tell.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "aten":
            with self:  # in inference mode operations arrive whole
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        real = tensors and not any(isinstance(tensor, FakeTensor) for tensor in tensors)
        if real and func is not aten.lift_fresh.default:
            with unset_fake_temporarily():  # numbers that were read from the device
                return func(*args, **kwargs)
        there = [tensor for tensor in tensors if tensor.is_cuda]
        if there and func in WAITING:
            self.found.append(f"{func} needs numbers")
        indices = [index for index in args[1] if index is not None] if func in INDEXING else []
        if there and any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            self.found.append(f"{func} with a mask")
        if there and func not in COPIES:  # numbers without dimensions travel as launch arguments
            assert all(tensor.is_cuda or tensor.dim() == 0 for tensor in tensors), f"{func} mixes host and device"
        if func not in COPIES:
            return func(*args, **kwargs)
        return self._copy(func, args, kwargs)

    def _copy(self, func: Any, args: Any, kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        source, target = (args[0], out) if func is aten._to_copy.default else (args[1], args[0])
        non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        if source.is_cuda and not target.is_cuda:
            self.found.append(f"{func} to the host")
            with unset_fake_temporarily():
                return torch.zeros(target.shape, dtype=target.dtype)
        if target.is_cuda and not source.is_cuda and not non_blocking:
            self.found.append(f"{func} from the host")
        return out


def _move(module: nn.Module, device: Any = None, dtype: Any = None, memory_format: Any = None) -> nn.Module:
    """`nn.Module.to`, which refuses pretended parameters."""
    for part in module.modules():
        for table in (part._parameters, part._buffers):
            for name, value in table.items():
                if value is not None:
                    moved = value.detach().to(device or value.device, dtype or value.dtype)
                    is_weight = memory_format is not None and moved.dim() == 4
                    moved = moved.to(memory_format=memory_format) if is_weight else moved
                    table[name] = nn.Parameter(moved, requires_grad=False) if table is part._parameters else moved
    return module


@contextmanager
def pretended_gpu(shapes: ShapeEnv | None = None) -> Iterator[Waits]:
    """Pretend that there is a CUDA device; yields what waits for it. `shapes` allows shapes that depend on numbers."""
    copied = mock.patch("copy.deepcopy", lambda network: network)
    with copied, mock.patch.object(nn.Module, "to", _move), FakeTensorMode(shape_env=shapes), Waits() as waits:
        yield waits
