"""Counts the operations that make the host wait for a device, in whatever runs inside a `with`."""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
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
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if self._there(tensor)]
        if there and func in READS:
            self.found.append(f"{func} reads a number")
            return 0.0 if func is aten._local_scalar_dense.default else False
        if func in IN_PLACE:
            assert len(there) == len(tensors), f"{func} mixes host and device"
            return None
        if there and func in SHAPES:
            raise AssertionError(f"{func} gives a shape that depends on numbers")
        if there and func in INDEXING:
            indices = [index for index in args[1] if index is not None]
            assert not any(index.dtype in (torch.bool, torch.uint8) for index in indices), f"{func} with a mask"
            assert all(self._there(index) for index in indices), f"{func} with an index of the host"
        if there and func is not aten._to_copy.default and func is not aten.copy_.default:
            # Numbers without dimensions travel as launch arguments.
            assert all(self._there(tensor) or tensor.dim() == 0 for tensor in tensors), f"{func} mixes host and device"
        return self._copied(func, args, kwargs)

    def _copied(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run the operation, and list it if it is a copy that waits."""
        out = func(*args, **kwargs)
        if func is aten._to_copy.default:
            source, target, blocking = args[0], out, not kwargs.get("non_blocking", False)
        elif func is aten.copy_.default:
            source, target, blocking = args[1], args[0], not (args[2:] or [kwargs.get("non_blocking", False)])[0]
        else:
            return out
        if self._there(source) and not self._there(target):
            self.found.append(f"{func} to the host")
            with unset_fake_temporarily():
                return torch.zeros(target.shape, dtype=target.dtype)
        if self._there(target) and not self._there(source) and blocking:
            self.found.append(f"{func} from the host")
        return out

    def _there(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.device
