"""Runtimes: PyTorch or OpenVINO for weights (from images to predictions), or one for an exported graph.

A `Runtime` is a network; what comes before and after is PyTorch and OpenCV. An exported `Graph` (see `facts`) holds
preprocessing and post-processing too.
"""

import importlib.util
import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, bfloat16, float32, nn  # not `import torch`: here that name is the module beside this file

from ssd.errors import ArgumentError, CheckpointError
from ssd.inference.runtime import winograd
from ssd.inference.runtime.facts import GRAPH_ENGINES, Graph
from ssd.inference.runtime.torch import TorchRuntime
from ssd.structures import Predictions
from ssd.system.device import choose_device, choose_dtype
from ssd.system.other_content import refuse_other_file

BACKENDS = ("auto", "torch", "openvino")
# Conversion for OpenVINO takes seconds, once; below this many parameters there is too little to win.
_WORTH_CONVERTING = 5_000_000


@runtime_checkable
class Runtime(Protocol):
    """A network made ready on one machine."""

    backend: str
    precision: str  # fp32, bf16, fp16: what the layers compute in; predictions are always fp32
    device: str

    def predict(self, images: Float[Tensor, "B 3 S S"]) -> Predictions:
        """Offsets and logits, float32, on `device`. Images come from anywhere."""
        ...


def open_runtime(
    network: nn.Module,
    *,
    input_size: int = 300,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    keep: bool = True,
) -> Runtime:
    """Make a network ready; it is copied, so that the caller's own (in training, perhaps) stays untouched.

    `backend="auto"` is PyTorch here: conversion for another engine pays for weights that stay as they are, which
    `choose_backend` decides. `input_size` is the side S that a converted network is made for; without `keep` it is not
    kept in the cache folder.

    Raises:
        ArgumentError: an unknown backend or device, or one that is not on this machine.
        ConfigError: an unknown precision, or one that the device cannot compute in.
        MissingExtraError: OpenVINO is asked for and not installed.
    """
    _check_backend(backend)
    if precision == "int8":
        remedy = "Export one: ssd export WEIGHTS --format openvino --int8 --calibrate DATA"
        raise ArgumentError("8 bits need a calibrated, exported network", place="precision", remedy=remedy)
    where = choose_device(device if backend != "openvino" or device != "auto" else "cpu")
    dtype = choose_dtype(precision, where)
    if backend != "openvino":
        return TorchRuntime(network, where, dtype)
    if where.type != "cpu":
        raise ArgumentError(f"OpenVINO does not run on {device!r}", place="device", remedy="Use cpu or auto.")
    from ssd.inference.runtime.openvino import OpenVINORuntime

    return OpenVINORuntime(network, input_size, "bf16" if dtype == bfloat16 else "fp32", keep=keep)


def choose_backend(network: nn.Module, *, device: str = "auto", precision: str = "auto", backend: str = "auto") -> str:
    """The `auto` backend of a network from a file: OpenVINO on the CPU where it is installed, else PyTorch.

    On two cores with AVX512-BF16 OpenVINO computes SSD300-VGG16 1.5 times as fast in fp32 as plain layers, and twice as
    fast in bf16. Networks of less than five million parameters stay with PyTorch, and so does VGG in fp32 where
    `winograd` is faster: one image takes as long as by OpenVINO on two cores and two thirds of it on one, and many
    images are computed on a core each, in two thirds of the time. `$SSD_BACKEND` overrules `auto`.
    """
    _check_backend(backend)
    if backend == "auto":
        backend = os.environ.get("SSD_BACKEND") or "auto"
        _check_backend(backend, "$SSD_BACKEND")
    if backend != "auto":
        return backend
    large = sum(parameter.numel() for parameter in network.parameters()) >= _WORTH_CONVERTING
    on_cpu = choose_device(device).type == "cpu"
    if not (large and on_cpu and importlib.util.find_spec("openvino") is not None):
        return "torch"
    in_fp32 = choose_dtype(precision, choose_device(device)) == float32
    return "torch" if in_fp32 and winograd.suits(network) else "openvino"


def _check_backend(backend: str, place: str = "backend") -> None:
    if backend not in BACKENDS:
        raise ArgumentError(f"{backend!r} is unknown", place=place, remedy=f"Choose from {', '.join(BACKENDS)}.")


def open_graph(
    path: str | Path, *, device: str = "auto", precision: str = "auto", backend: str = "auto", trust: bool = False
) -> Graph:
    """Make an exported graph ready. `trust` is needed for a `.pt2`, whose loading can run code.

    Raises:
        ArgumentError: another backend's file, or a device or precision that this graph does not have.
        CheckpointError: missing, damaged, or not exported by this package.
        MissingExtraError: the engine is not installed.
    """
    path = Path(path)
    kind = GRAPH_ENGINES[path.suffix.lower()]
    if backend not in ("auto", kind):
        problem = f"{backend!r} does not compute a {path.suffix} file"
        raise ArgumentError(problem, place="backend", remedy=f"Use auto or {kind}.")
    if not path.is_file():
        raise CheckpointError("no such file", place=path, remedy="Check the path.")
    refuse_other_file(path, CheckpointError)
    if kind == "onnx":
        from ssd.inference.runtime.onnx import OnnxGraph

        return OnnxGraph(path, device, precision)
    if kind == "openvino":
        from ssd.inference.runtime.openvino_graph import OpenVINOGraph

        return OpenVINOGraph(path, device, precision)
    from ssd.inference.runtime.pt2 import ProgramGraph

    return ProgramGraph(path, device, precision, trust=trust)
