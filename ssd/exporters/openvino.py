"""OpenVINO: network and decoding converted from recorded programs, suppression by OpenVINO's own operator."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ssd.exporters.graph import OUTPUTS, Decoded, Prepared, Voted
from ssd.exporters.inputs import example, free_sides, with_version
from ssd.inference.runtime import ir
from ssd.inference.runtime.facts import Facts
from ssd.inference.runtime.openvino_conversion import convert
from ssd.settings import Postprocessing, Settings
from ssd.system.optional import load_extra


def write_openvino(network: nn.Module, facts: Facts, path: Path, calibration: Iterable[np.ndarray] | None) -> Facts:
    """Write an `.xml`, which includes the facts, and its `.bin`.

    Raises:
        MissingExtraError: OpenVINO, or nncf for 8 bits, is not installed.
        SSDError: the files cannot be written.
    """
    openvino, settings = load_extra("openvino", "openvino"), facts.settings
    facts = with_version(facts, openvino=openvino.__version__)
    side = settings.network.input_size
    model = convert(Prepared(network, settings.preprocessing, side), example(settings), free=free_sides(settings))
    if facts.precision == "int8":
        from ssd.exporters.int8 import quantise

        assert calibration is not None
        model, version = quantise(model, calibration, facts)
        facts = with_version(facts, nncf=version)
    elif facts.precision == "bf16":
        _halve_weights(model)
    ir.write(path, _with_detections(model, facts), facts.to_text())
    return facts


def _with_detections(model: Any, facts: Facts) -> Any:
    """Join network, decoding and suppression to one graph, and name its inputs and outputs."""
    openvino, settings = load_extra("openvino", "openvino"), facts.settings
    columns = settings.num_classes + 1
    decoded = Decoded(settings.boxes, settings.postprocessing)
    count = len(decoded.default_boxes)
    decoding = convert(decoded, torch.zeros(2, count, 4), torch.zeros(2, count, columns))
    for parameter, result in zip(decoding.get_parameters(), model.get_results(), strict=True):
        parameter.output(0).replace(result.input_value(0))
    boxes, scores = (result.input_value(0) for result in decoding.get_results())
    outputs = _choose(boxes, scores, settings.postprocessing)
    if settings.postprocessing.box_voting:
        outputs[0] = _vote(outputs, boxes, scores, settings)
    outputs[0] = load_extra("openvino.opset13", "openvino").clamp(outputs[0], 0.0, 1.0).output(0)
    (images,) = model.get_parameters()
    images.output(0).set_names({"images"})
    for output, name in zip(outputs, OUTPUTS, strict=True):
        output.set_names({name})
    return openvino.Model(outputs, [images], "ssd")


def _choose(boxes: Any, scores: Any, rules: Postprocessing) -> list[Any]:
    """`graph.Chosen` with OpenVINO's operators, without clipping of the boxes."""
    op = load_extra("openvino.opset13", "openvino")
    above = np.nextafter(np.float32(rules.iou_threshold), np.float32(2))  # it suppresses from the threshold on
    kept = op.multiclass_nms(
        boxes,
        scores,
        sort_result_type="score",
        output_type="i64",
        iou_threshold=float(above),
        score_threshold=rules.score_threshold,
        nms_top_k=rules.top_k,
        keep_top_k=rules.max_detections,
    )
    # Rows of (label, score, x1, y1, x2, y2), image after image; then the number of rows of each image.
    rows, counts = kept.output(0), kept.output(2)
    zero, last = np.int64(0), np.int64(-1)
    place = op.constant(np.arange(rules.max_detections)[None])
    each = op.unsqueeze(counts, last)
    first = op.subtract(op.unsqueeze(op.cumsum(counts, zero), last), each)
    # Padding rows read a row of zeros at the end.
    behind = op.gather(op.shape_of(rows), zero, zero)
    index = op.select(op.less(place, each), op.add(first, place), behind)
    chosen = op.gather(op.concat([rows, op.constant(np.zeros((1, 6), np.float32))], 0), index, zero)
    label, score, box = op.variadic_split(chosen, last, np.array([1, 1, 4])).outputs()
    return [
        box,
        op.squeeze(score, last).output(0),
        op.convert(op.squeeze(label, last), "i64").output(0),
        op.convert(counts, "i64").output(0),
    ]


def _vote(outputs: list[Any], boxes: Any, scores: Any, settings: Settings) -> Any:
    """Box voting with OpenVINO's operators."""
    places, count = settings.postprocessing.max_detections, boxes.get_partial_shape()[1].get_length()
    voting = convert(
        Voted(settings.postprocessing),
        *(torch.zeros(2, places, 4), torch.zeros(2, places), torch.zeros(2, places, dtype=torch.long)),
        *(torch.zeros(2, count, 4), torch.zeros(2, settings.num_classes, count)),
    )
    for parameter, output in zip(voting.get_parameters(), [*outputs[:3], boxes, scores], strict=True):
        parameter.output(0).replace(output)
    return voting.get_results()[0].input_value(0)


def _halve_weights(model: Any) -> None:
    """Store the weights of convolutions in bf16, in which OpenVINO computes them."""
    openvino, op = load_extra("openvino", "openvino"), load_extra("openvino.opset13", "openvino")
    for node in model.get_ops():
        if node.get_type_name() == "Convolution":
            weights = node.input_value(1).get_node().data
            stored = op.constant(weights, dtype=openvino.Type.bf16)
            node.input(1).replace_source_output(op.convert(stored, "f32").output(0))
