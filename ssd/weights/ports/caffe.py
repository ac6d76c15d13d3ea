"""weiliu89/caffe, the original, 300 and 512: a `.caffemodel`, or its blobs in an `.npz` by layer and number.

The network reads BGR. Box sizes are whole pixels, because two integer fields cut the fractions off. A `.caffemodel` of
a whole network tells its default boxes; blobs alone do not, and VOC's 20 or COCO's 80 classes decide.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ssd.errors import CheckpointError
from ssd.settings import BoxSettings, NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import layout
from ssd.weights.ports.box_tables import MOST_LEVELS, box_settings, input_size_for, table_for
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "Caffe SSD"

_CLASSES = {20: known_classes.VOC, 80: known_classes.COCO}
# conv1_1/0, conv1_1.weight, conv1_1_b and so on: everyone who writes blobs into a file names them by hand.
_BLOB = re.compile(r"(?P<layer>.+?)[/._:-](?:(?P<weight>0|w|weights?)|(?P<bias>1|b|bias(?:es)?))", re.IGNORECASE)
_SCALE = "conv4_3_norm"


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its layers."""
    return {_SCALE, "conv4_3_norm_mbox_loc", "fc7_mbox_conf"} <= {_layer_and_part(key)[0] for key in state}


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate; the settings are those of its scripts, which are the paper's."""
    plain = _plain_names(state)
    levels = sum(f"{tap}_mbox_loc.weight" in plain for tap in _taps(MOST_LEVELS + 1))
    renamed = layout.rename(plain, _names(levels), hints.place, NAME)
    size = input_size_for(levels)
    outputs = layout.count_outputs(renamed)
    boxes = _boxes(hints, levels, size, outputs - 1)
    count = layout.count_classes(renamed, boxes, hints.place)
    settings = Settings(
        network=NetworkSettings(backbone="vgg16", input_size=size, l2_eps=1e-10),
        boxes=boxes,
        class_names=known_classes.choose(hints.class_names, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0), channels="bgr", resize="uint8"),
        postprocessing=Postprocessing(score_threshold=0.01, top_k=400, iou_threshold=0.45, max_detections=200),
    )
    return ConvertedCheckpoint(layout.as_float(renamed), settings, NAME)


def _boxes(hints: Hints, levels: int, size: int, count: int) -> BoxSettings:
    """As the file states them, or those of the original scripts."""
    stated = hints.notes.get("prior_boxes", {})
    priors = [stated[tap] for tap in _taps(levels) if tap in stated]
    table = hints.box_table or ("voc" if priors else table_for(None, count, hints.place))
    boxes = box_settings(table, size, clip="none", whole_pixels=True)
    if hints.box_table is not None or len(priors) != levels:
        return boxes
    for tap, prior in zip(_taps(levels), priors, strict=True):
        _check_prior(tap, prior, size, hints.place)
    return BoxSettings(
        input_size=size,
        grids=boxes.grids,
        steps=tuple(prior["step"] or size / grid for prior, grid in zip(priors, boxes.grids, strict=True)),
        min_sizes=tuple(float(int(prior["min_sizes"][0])) for prior in priors),
        max_sizes=tuple(float(int(prior["max_sizes"][0])) for prior in priors),
        aspect_ratios=tuple(tuple(ratio for ratio in prior["aspect_ratios"] if ratio != 1) for prior in priors),
        clip="none",
        variances=tuple(priors[0]["variances"]),
    )


def _check_prior(tap: str, prior: Mapping[str, Any], size: int, place: object) -> None:
    """Refuse what the default boxes of this package cannot express."""
    ratios, variances = prior["aspect_ratios"], prior["variances"]
    facts = {
        "one min_size and one max_size": len(prior["min_sizes"]) == len(prior["max_sizes"]) == 1,
        "flip": prior["flip"] or not ratios,
        "no clip": not prior["clip"],
        "offset 0.5": abs(prior["offset"] - 0.5) < 1e-6,
        "aspect ratios above 1": all(ratio >= 1 for ratio in ratios),
        "four variances above 0": len(variances) == 4 and min(variances) > 0,
        f"img_size {size}": prior["img_size"] in (0, size),
    }
    for wanted, holds in facts.items():
        if not holds:
            raise CheckpointError(
                f"its default boxes at {tap} are of another kind than can be read ({wanted} is needed)", place=place
            )


def _layer_and_part(key: str) -> tuple[str, str]:
    """A blob's layer, and `weight`, `bias` or nothing."""
    found = _BLOB.fullmatch(key)
    if found is None:
        return key, ""
    return found["layer"], "weight" if found["weight"] else "bias"


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Blobs as `layer.weight` and `layer.bias`; old files give vectors four dimensions."""
    plain = {}
    for key, tensor in state.items():
        layer, part = _layer_and_part(key)
        name = f"{layer}.{part}" if part else key
        if layer == _SCALE:
            name, part = _SCALE, "bias"
        plain[name] = tensor.flatten() if part == "bias" and tensor.dim() > 1 else tensor
    return plain


def _taps(levels: int) -> Sequence[str]:
    return [_SCALE, "fc7", *(f"conv{number}_2" for number in range(6, 6 + levels - 2))]


def _names(levels: int) -> dict[str, str]:
    """Their name of each parameter -> ours; their conv6_1 follows fc7 and is conv8_1 here."""
    layers = {f"conv{name}": f"backbone.conv{name}" for name in layout.convolutions()}
    layers |= {"fc6": "backbone.conv6", "fc7": "backbone.conv7"}
    for name in layout.extras(levels):
        number, _, half = name.partition("_")
        layers[f"conv{int(number) - 2}_{half}"] = f"extras.conv{name}"
    for level, tap in enumerate(_taps(levels)):
        layers[f"{tap}_mbox_loc"] = f"head.boxes.{level}"
        layers[f"{tap}_mbox_conf"] = f"head.classes.{level}"
    return layout.parameters(layers) | {_SCALE: "first_norm.scale"}


PORT = Port(NAME, "conv1_1, fc7, conv4_3_norm_mbox_loc, each with blobs 0 and 1", recognises, read)
