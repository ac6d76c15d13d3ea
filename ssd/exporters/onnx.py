"""ONNX through `torch.onnx.export`, which starts from a recorded program; the suppression is ONNX's own operator."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from ssd.errors import ExportError
from ssd.exporters.graph import OUTPUTS, DetectionGraph
from ssd.exporters.inputs import class_lines, example, free_sides, with_version
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
    table = {torch.ops.ssd.suppress.default: _suppression(onnxscript)}
    model = to_onnx(program, ["images"], OUTPUTS, path, table)
    name_axes(model, {"images": ("batch", "height", "width")})
    onnx.helper.set_model_props(
        model, {"ssd": facts.to_text(), "class_names": class_lines(settings), "digest": PLACEHOLDER}
    )
    write_atomic(path, add_checksum(model.SerializeToString()))
    return facts


def to_onnx(
    program: ExportedProgram,
    inputs: Sequence[str],
    outputs: Sequence[str],
    path: Path,
    table: dict[Any, Callable[..., Any]] | None = None,
) -> Any:
    """A recorded program as ONNX's `ModelProto`; `table` gives the ONNX functions of our own operators.

    Raises:
        ExportError: PyTorch's exporter refuses the network; `path` is named.
    """
    try:
        with _quietly():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=_OPSET,
                custom_translation_table=table,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"PyTorch cannot export this network ({reason})", place=path) from None
    assert exported is not None  # None is what the old exporter returns
    return exported.model_proto


def name_axes(model: Any, names: Mapping[str, Sequence[str]] | None = None) -> None:
    """Name the dynamic axes, which PyTorch numbers (s77): those given, else `batch` for the first."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip(
            value.type.tensor_type.shape.dim, (names or {}).get(value.name, ("batch",)), strict=False
        ):
            if axis.dim_param:
                axis.dim_param = name


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
