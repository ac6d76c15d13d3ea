"""torchvision's non-maximum suppression, without the rest of torchvision.

`import torchvision` brings PyTorch's compiler and takes longer than `import torch`, so that a program that detects in
one image would wait twice as long for its start.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

_LIBRARIES = ("_C*.so", "_C*.pyd")  # inside the package, by the rules of the platform


def nms(boxes: Float[Tensor, "N 4"], scores: Float[Tensor, "N"], iou_threshold: float) -> Int[Tensor, "_"]:
    """The places of the boxes that are kept, by falling score, as `torchvision.ops.nms` finds them; corners."""
    kept: Tensor = _operator()(boxes, scores, iou_threshold)
    return kept


@functools.cache
def _operator() -> Callable[[Tensor, Tensor, float], Tensor]:
    """The operator of torchvision's library; from the whole package where the library is not found or does not load."""
    package = importlib.util.find_spec("torchvision")
    folder = Path(package.origin).parent if package is not None and package.origin else None
    for library in (path for pattern in _LIBRARIES if folder for path in folder.glob(pattern)):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            operator: Callable[[Tensor, Tensor, float], Tensor] = torch.ops.torchvision.nms.default
            return operator
        except (AttributeError, OSError, RuntimeError):
            continue
    import torchvision.ops

    whole: Callable[[Tensor, Tensor, float], Tensor] = torchvision.ops.nms
    return whole
