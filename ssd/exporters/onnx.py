"""ONNX through `torch.onnx.export`, which starts from a recorded program; the suppression is ONNX's own operator."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssd.errors import ExportError
from ssd.exporters.graph import OUTPUTS, DetectionGraph
from ssd.exporters.inputs import example, free_sides, with_version
from ssd.inference.runtime.checksum import PLACEHOLDER, add_checksum
from ssd.inference.runtime.facts import Facts
from ssd.inference.runtime.program import record
from ssd.system.files import write_atomic
from ssd.system.optional import load_extra

_OPSET = 18


def write_onnx(network: nn.Module, facts: Facts, path: Path) -> Facts:
    """Write one self-contained `.onnx` with the facts as its metadata.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ExportError: PyTorch's exporter refuses the network.
    """
    onnx, onnxscript = load_extra("onnx", "onnx"), load_extra("onnxscript", "onnx")
    facts = with_version(facts, onnx=onnx.__version__, onnxscript=onnxscript.__version__)
    settings = facts.settings
    program = record(DetectionGraph(network, settings), example(settings), free=free_sides(settings))
    try:
        with _quietly():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=["images"],
                output_names=list(OUTPUTS),
                opset_version=_OPSET,
                custom_translation_table={torch.ops.ssd.suppress.default: _suppression(onnxscript)},
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"PyTorch cannot export this network ({reason})", place=path) from None
    assert exported is not None  # None is what the old exporter returns
    model = exported.model_proto
    names = "\n".join(settings.class_names)
    onnx.helper.set_model_props(model, {"ssd": facts.to_text(), "class_names": names, "digest": PLACEHOLDER})
    write_atomic(path, add_checksum(model.SerializeToString()))
    return facts


def _suppression(onnxscript: Any) -> Callable[..., Any]:
    """The ONNX function that replaces `ssd::suppress`."""
    op = onnxscript.opset18

    def suppress(boxes: Any, scores: Any, iou_threshold: float) -> Any:
        everything = op.Constant(value_ints=[2**31 - 1])
        overlap = op.Constant(value_floats=[iou_threshold])
        above = op.Constant(value_floats=[0.0])  # scores below the threshold are 0 already
        # Rows of (image, class, box). ONNX documents y before x in corners, which does not matter for overlaps.
        kept = op.NonMaxSuppression(boxes, scores, everything, overlap, above)
        nothing = op.Mul(scores, op.Constant(value_float=0.0))
        return op.ScatterND(nothing, kept, op.GatherND(scores, kept))

    return suppress


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporter's progress report and its notices to developers."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
