"""The layers of a network: shapes, parameters, multiply-adds, receptive fields.

The network runs once on the meta device, where tensors have shapes but no data, so that any size takes milliseconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten


@dataclass(frozen=True)
class Field:
    """The receptive field of one cell of a feature map."""

    size: float | int = 1  # side of the receptive field, in pixels of the image
    stride: float | int = 1  # pixels between neighbouring cells


@dataclass(frozen=True)
class Row:
    """One layer as it ran."""

    name: str
    kind: str
    shape: tuple[int, ...]  # of its output
    parameters: int
    multiply_adds: int  # of convolutions and matrix products; sums and normalisations cost little in comparison
    field: Field


@dataclass(frozen=True)
class Survey:
    """All layers in the order in which they ran."""

    rows: tuple[Row, ...]
    parameters: int

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one forward pass."""
        return sum(row.multiply_adds for row in self.rows)


def survey(network: nn.Module, shape: Sequence[int] = (1, 3, 224, 224)) -> Survey:
    """Run `network`, which must be on the meta device, on an input of this shape.

    A layer that runs twice has two rows, with its parameters in the first. Multiply-adds of a module outside its
    children (attention) have a row of their own.
    """
    watch = _Watch({module: name for name, module in network.named_modules()})
    hooks = []
    for module in network.modules():
        hooks.append(module.register_forward_pre_hook(watch.enter))
        hooks.append(module.register_forward_hook(watch.leave))
    training = network.training
    network.eval()
    try:
        with torch.no_grad(), watch:
            network(torch.zeros(tuple(shape), device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    return Survey(tuple(watch.rows), sum(parameter.numel() for parameter in network.parameters()))


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operation for the running module, and computes its receptive field."""

    def __init__(self, names: dict[nn.Module, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = names
        self.rows: list[Row] = []
        self.running: list[int] = []  # multiply-adds so far of each module that has been entered
        self.counted: set[nn.Module] = set()
        # The tensor is kept with its field, since the id of a deleted tensor may be reused.
        self.fields: dict[int, tuple[Tensor, Field]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        if count is not None and self.running:
            self.running[-1] += count(*args, **kwargs, out_val=out) // 2
        inputs = [self.fields[id(leaf)][1] for leaf in tree_leaves(args) if id(leaf) in self.fields]
        widest = Field(max((f.size for f in inputs), default=1), max((f.stride for f in inputs), default=1))
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        for result in results:
            self.fields[id(result)] = (result, _through(func.overloadpacket, args, results[0], widest))
        return out

    def enter(self, module: nn.Module, _: object) -> None:
        self.running.append(0)

    def leave(self, module: nn.Module, _: object, out: object) -> None:
        multiply_adds = self.running.pop()
        own = 0 if module in self.counted else sum(p.numel() for p in module.parameters(recurse=False))
        if not isinstance(out, Tensor) or (any(True for _ in module.children()) and not multiply_adds and not own):
            return
        self.counted.add(module)
        field = self.fields[id(out)][1] if id(out) in self.fields else Field()
        kind = "Conv2d" if isinstance(module, nn.Conv2d) else type(module).__name__
        self.rows.append(Row(self.names[module], kind, tuple(out.shape), own, multiply_adds, field))


def _through(operation: Any, args: Sequence[Any], out: Tensor, field: Field) -> Field:
    """The receptive field after an operation, from its window and its stride."""
    if operation is _aten.convolution:
        weight, stride, dilation = args[1], args[3], args[5]
        return _slid(field, dilation[0] * (max(weight.shape[2:], default=1) - 1), stride[0])
    if operation in (_aten.max_pool2d_with_indices, _aten.avg_pool2d):
        kernel = args[1][0]
        return _slid(field, kernel - 1, args[2][0] if len(args) > 2 and args[2] else kernel)
    if operation is _aten._adaptive_avg_pool2d:
        window = math.ceil(args[0].shape[-1] / out.shape[-1])
        return _slid(field, window - 1, args[0].shape[-1] / out.shape[-1])
    given = args[0] if args and isinstance(args[0], Tensor) else out
    flattened = given.dim() == 4 and out.dim() == 2 and out.shape[1] == given[0].numel()
    averaged = operation is _aten.mean and given.dim() == 4 and out.numel() == given.shape[0] * given.shape[1]
    if flattened or averaged:
        side = max(given.shape[2:])
        return _slid(field, side - 1, side)
    return field


def _slid(field: Field, reach: int, stride: float | int) -> Field:
    return Field(field.size + reach * field.stride, field.stride * stride)
