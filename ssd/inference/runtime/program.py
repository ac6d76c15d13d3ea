"""A module as a program: its operations recorded by `torch.export`, for any number of images at once."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ssd.structures import Predictions

# Enough for any machine; a batch size without bounds makes the exporter ask about overflow.
_LARGEST_BATCH = 4096


class RawOutputs(nn.Module):
    """A network that returns the plain tuple `(offsets, logits)`, since other runtimes know no dataclasses."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (B, K, 4) and logits (B, K, C)."""
        predictions: Predictions = self.network(images)
        return predictions.offsets, predictions.logits


def record(module: nn.Module, *examples: Tensor, free: Sequence[int] = ()) -> ExportedProgram:
    """Record what `module` does with `examples`, whose first dimension is the batch (2 or more, and equal in all).

    `free` are further dimensions of the first example that may have any size.
    """
    batch = Dim("B", min=1, max=_LARGEST_BATCH)
    shapes: list[dict[int, Dim]] = [{0: batch} for _ in examples]
    shapes[0] |= {axis: Dim(f"side{axis}", min=2, max=65535) for axis in free}
    with torch.no_grad(), warnings.catch_warnings():
        # copy_ of constants into a program and the like: notices for exporters' authors, not for users
        warnings.simplefilter("ignore")
        return torch.export.export(module.eval(), examples, dynamic_shapes=tuple(shapes), strict=False)
