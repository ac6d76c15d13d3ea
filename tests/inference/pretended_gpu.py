"""A CUDA device that is pretended: tensors have shapes and devices but no numbers, and every wait is written down."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from tests.waits import Waits


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
    with copied, mock.patch.object(nn.Module, "to", _move), FakeTensorMode(shape_env=shapes), Waits("cuda") as waits:
        yield waits
