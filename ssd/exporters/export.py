"""Exports a network with its settings to a file that computes detections from images.

    export(network, settings, Path("model.onnx"), "onnx")

The graph includes preprocessing, suppression and the selection of the best detections; the batch is dynamic, and the
file contains the settings: `ssd.load` makes a detector of it.
"""

import copy
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ssd.errors import ArgumentError
from ssd.inference.runtime.facts import Facts
from ssd.settings import Settings

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
OPSETS = range(14, 24)  # of the plain graph
PRECISIONS = {"onnx": ("fp32",), "openvino": ("fp32", "bf16", "int8"), "pt2": ("fp32",)}


def export(
    network: nn.Module,
    settings: Settings,
    path: Path,
    format: str = "onnx",
    *,
    precision: str = "fp32",
    calibration: Iterable[np.ndarray] | None = None,
    plain: bool = False,
    opset: int | None = None,
) -> Facts:
    """Write the graph of a network; `settings.postprocessing` is built in.

    `precision="bf16"` (OpenVINO) stores numbers in 16 bits; `"int8"` (OpenVINO) computes in 8 bits and needs
    `calibration`: a few hundred images, uint8 RGB of any size, like those the detector will see. `plain` (ONNX) leaves
    out resize and suppression, see `exporters.plain`; `opset` is the version of its operators.

    Raises:
        ArgumentError: an unknown format, or a precision or an option that it does not support.
        MissingExtraError: the package of the format is not installed.
        ExportError: the exporter refuses the network.
        SSDError: the file cannot be written.
    """
    check(format, precision, plain=plain, opset=opset)
    if precision == "int8" and calibration is None:
        raise ArgumentError("8 bits need images", place="calibration", remedy="Give some that are typical.")
    network = copy.deepcopy(network).to("cpu", torch.float32).eval().requires_grad_(False)
    facts = Facts(settings, precision, {"torch": torch.__version__})
    if plain:
        from ssd.exporters.plain import write_plain

        return write_plain(network, facts, path, opset)
    if format == "onnx":
        from ssd.exporters.onnx import write_onnx

        return write_onnx(network, facts, path)
    if format == "pt2":
        from ssd.exporters.pt2 import write_pt2

        return write_pt2(network, facts, path)
    from ssd.exporters.openvino import write_openvino

    return write_openvino(network, facts, path, calibration)


def check(format: str, precision: str, *, plain: bool = False, opset: int | None = None) -> None:
    """Raise `ArgumentError` unless the format supports the precision, and the plain graph with its opset."""
    if format not in SUFFIXES:
        raise ArgumentError(f"{format!r} is unknown", place="format", remedy=f"Choose from {', '.join(SUFFIXES)}.")
    if precision not in PRECISIONS[format]:
        known = ", ".join(PRECISIONS[format])
        raise ArgumentError(f"{format} is not exported in {precision!r}", place="precision", remedy=f"Use {known}.")
    if plain and format != "onnx":
        raise ArgumentError(f"{format} has no plain graph", place="plain", remedy="Use onnx, which engines convert.")
    if opset is not None and not plain:
        raise ArgumentError("is chosen for a plain graph alone", place="opset", remedy="Ask for plain as well.")
    if opset is not None and opset not in OPSETS:
        remedy = f"Use {OPSETS[0]} to {OPSETS[-1]}."
        raise ArgumentError(f"{opset} is not written", place="opset", remedy=remedy)
