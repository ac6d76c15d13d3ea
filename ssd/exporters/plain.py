"""The plain graph: a float image of fixed size in, decoded boxes and softmax scores out, in operators that all know.

No resize, no suppression, no loop and no branch: OpenCV's dnn, ncnn, OpenVINO, TensorRT, CoreML and TFLite's converters
take it. What comes before and after is `ssd.light`, or ten lines of the program that embeds it (docs/embed.md).
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ssd.boxes import to_cxcywh
from ssd.errors import ExportError
from ssd.exporters.inputs import class_lines, with_version
from ssd.exporters.onnx import name_axes, to_onnx
from ssd.inference.runtime.checksum import PLACEHOLDER, add_checksum
from ssd.inference.runtime.facts import Facts
from ssd.inference.runtime.program import RawOutputs, record
from ssd.light.plain_file import DEPTH_VERSION, KEY, VERSION
from ssd.model.vgg import L2Norm
from ssd.multibox.coder import LARGEST_LOG_SIDE
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import Settings
from ssd.system.files import write_atomic
from ssd.system.optional import load_extra

DEFAULT_OPSET = 17
"""Read by every engine of the documentation, OpenCV 4.6 included; a network with ReduceMean is written in 18."""
OUTPUTS = ("boxes", "scores")


class PlainGraph(nn.Module):
    """Normalise, network, decode, softmax."""

    mean: Tensor
    scale: Tensor
    centres: Tensor
    sides: Tensor

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network = RawOutputs(_without_reductions(network))
        self.bgr = settings.preprocessing.channels == "bgr"
        self.variances = settings.boxes.variances
        boxes_cxcywh = to_cxcywh(default_boxes(settings.boxes))[None]
        self.register_buffer("mean", torch.tensor(settings.preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(settings.preprocessing.std).view(1, 3, 1, 1))
        self.register_buffer("centres", boxes_cxcywh[..., :2].contiguous())
        self.register_buffer("sides", boxes_cxcywh[..., 2:].contiguous())

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> tuple[Float[Tensor, "B K 4"], Float[Tensor, "B K C"]]:
        """Boxes as fractions of the image, not cut to it, and scores with background first; images are RGB, 0..255."""
        if self.bgr:
            images = torch.cat([images[:, 2:3], images[:, 1:2], images[:, 0:1]], dim=1)
        offsets, logits = self.network((images - self.mean) * self.scale)
        variances = torch.tensor(self.variances)
        centres = offsets[..., :2] * (variances[:2] * self.sides) + self.centres
        # The least of a number and the limit, without Clip, whose form OpenCV 4.6 does not know.
        log_sides = LARGEST_LOG_SIDE - F.relu(LARGEST_LOG_SIDE - offsets[..., 2:] * variances[2:].expand_as(self.sides))
        half = torch.exp(log_sides) * (self.sides / 2)
        return torch.cat([centres - half, centres + half], dim=-1), logits.softmax(dim=-1)


class _ConvolvedL2Norm(nn.Module):
    """`L2Norm` whose sum over channels is a convolution with ones: OpenCV 4.6 does not know the sum's newer forms."""

    ones: Tensor

    def __init__(self, norm: L2Norm) -> None:
        super().__init__()
        self.eps, self.scale = norm.eps, norm.scale
        self.register_buffer("ones", torch.ones(len(norm.scale), len(norm.scale), 1, 1))

    def forward(self, features: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        length = torch.sqrt(F.conv2d(features * features, self.ones) + self.eps)
        return features / length * self.scale[None, :, None, None]


def _without_reductions(network: nn.Module) -> nn.Module:
    for name, layer in list(network.named_modules()):
        if isinstance(layer, L2Norm):
            network.set_submodule(name, _ConvolvedL2Norm(layer))
    return network


def write_plain(network: nn.Module, facts: Facts, path: Path, opset: int | None = None) -> Facts:
    """Write the plain graph as `.onnx`, with the facts as metadata under `ssd_plain`. The network is changed.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ExportError: the exporter refuses the network, or the opset lacks an operator of it.
    """
    onnx, onnxscript = load_extra("onnx", "onnx"), load_extra("onnxscript", "onnx")
    facts = with_version(facts, onnx=onnx.__version__, onnxscript=onnxscript.__version__)
    side = facts.settings.network.input_size
    program = record(PlainGraph(network, facts.settings), torch.zeros(2, 3, side, side))
    model = to_onnx(program, ["images"], OUTPUTS, path)
    model = _with_opset(onnx, model, opset or _least_opset(model), path)
    name_axes(model)
    names = class_lines(facts.settings)
    onnx.helper.set_model_props(model, {KEY: as_text(facts), "class_names": names, "digest": PLACEHOLDER})
    write_atomic(path, add_checksum(model.SerializeToString()))
    return facts


def as_text(facts: Facts) -> str:
    """The graph's contract and settings as JSON."""
    settings, side = facts.settings, facts.settings.network.input_size
    depth = settings.preprocessing.depth
    rules = {
        "uint8": "in 8 bits, bilinear (cv2.INTER_LINEAR)",
        "antialias": "in 8 bits, PIL's bilinear",
        "area": "in 8 bits, each side that shrinks by cv2.INTER_AREA, then by cv2.INTER_LINEAR",
        "float": "in floats, bilinear without a filter (torch's F.interpolate)",
    }
    text = {
        "version": VERSION if depth is None else DEPTH_VERSION,
        "input": f"images: float32 RGB, batch x 3 x {side} x {side}, values 0 to 255; normalised inside the graph",
        "resize": f"to {side} x {side} without keeping the aspect ratio, {rules[settings.preprocessing.resize]}",
        "outputs": "boxes: batch x K x 4, x1 y1 x2 y2 as fractions of the image, not cut to it; "
        "scores: batch x K x C after softmax, column 0 background; no suppression, no padding rows",
        "settings": settings.to_dict(),
        "versions": facts.versions,
    }
    if depth is not None:
        values = "0.5 and 99.5 percentile of each image" if depth == "percentile" else f"{depth[0]:g} and {depth[1]:g}"
        text["depth"] = f"of more than 8 bits a channel: {values} become 0 and 255, in proportion, rounded, cut to them"
    return json.dumps(text, ensure_ascii=True, allow_nan=False)


def _least_opset(model: Any) -> int:
    """The default, or the opset of the exporter where a mean (squeeze and excitation) stands in its form of 18."""
    means = any(node.op_type == "ReduceMean" for node in model.graph.node)
    return int(model.opset_import[0].version) if means else DEFAULT_OPSET


def _with_opset(onnx: Any, model: Any, opset: int, path: Path) -> Any:
    """The same graph in another version of ONNX's operators."""
    if opset == model.opset_import[0].version:
        return model
    try:
        converted = onnx.version_converter.convert_version(model, opset)
        onnx.checker.check_model(converted, full_check=True)  # it leaves ReduceMean of 18 as it is, which 17 lacks
    except Exception as error:  # the converter raises what its C++ raises
        reason = " ".join(str(error).split())[-160:]
        problem = f"this network cannot be written in opset {opset} ({reason})"
        raise ExportError(problem, place=path, remedy="Use --opset 18.") from None
    return converted
