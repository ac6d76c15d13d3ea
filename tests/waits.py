"""Counts the operations that make the host wait for a device, in whatever runs inside a `with`."""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

# What needs the numbers, not just the shapes, of a tensor on the host.
READS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
}
# What gives a shape that depends on the numbers.
SHAPES = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
COPIES = {aten._to_copy.default, aten.copy_.default}
# In-place operations of the device without a form for pretended tensors.
IN_PLACE = {aten._fused_sgd_.default, aten._fused_sgd_.tensor_lr}


class Waits(TorchDispatchMode):
    """Lists, as text, each operation on `device` that makes the host wait. What is read from the device is zero.

    A copy from host to device that is `non_blocking` waits for nothing, given page-locked memory. Within
    `FakeTensorMode` memory is never page-locked; that of batches is tested beside the loader.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.found = device, list[str]()

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
        there = [tensor for tensor in tensors if self._there(tensor)]
        if func in COPIES:
            return self._copied(func, args, kwargs)
        if there and func in READS:
            self.found.append(f"{func} reads a number")
            return 0.0 if func is aten._local_scalar_dense.default else False
        if func in IN_PLACE:
            assert len(there) == len(tensors), f"{func} mixes host and device"
            return None
        if there and func in SHAPES:
            self.found.append(f"{func} gives a shape that depends on numbers")
        if there and func in INDEXING:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.found.append(f"{func} with a mask")
        # Numbers without dimensions travel as launch arguments.
        if there:
            assert all(self._there(tensor) or tensor.dim() == 0 for tensor in tensors), f"{func} mixes host and device"
        return func(*args, **kwargs)

    def _copied(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Copy, and list it if the host waits for the copy."""
        out = func(*args, **kwargs)
        source, target = (args[0], out) if func is aten._to_copy.default else (args[1], args[0])
        non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        if self._there(source) and not self._there(target):
            self.found.append(f"{func} to the host")
            with unset_fake_temporarily():
                return torch.zeros(target.shape, dtype=target.dtype)
        if self._there(target) and not self._there(source) and not non_blocking:
            self.found.append(f"{func} from the host")
        return out

    def _there(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.device
