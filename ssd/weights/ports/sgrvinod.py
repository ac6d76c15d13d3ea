"""sgrvinod's PyTorch tutorial to object detection: where its layers are, and what it was trained with.

Its default boxes are its own: other sizes, centres at (i + 0.5) / cells, the wide boxes of a cell before the tall ones.
It pickles the whole model; what can be read is `model.state_dict()` saved from there.
"""

import math
from collections.abc import Mapping

from torch import Tensor

from ssd.settings import BoxSettings, NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import head_layout, layout
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "sgrvinod's tutorial"

_LEVELS = 6
_TAPS = ("conv4_3", "conv7", "conv8_2", "conv9_2", "conv10_2", "conv11_2")
_CLASSES = {20: known_classes.VOC}
# A cell there: both squares, 2, 3, 1/2, 0.333. Here each wide box is followed by its tall twin.
_ORDER = (0, 1, 2, 4, 3, 5)
_TALL_THIRD = 5
# It writes 0.333 where a third is meant; boxes tiled here are wider by this factor's inverse, and as much lower.
_NARROWER = math.sqrt(0.333 * 3)


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its keys."""
    wanted = ("base.conv1_1.weight", "aux_convs.conv8_1.weight", "pred_convs.loc_conv4_3.weight", "rescale_factors")
    return all(key in state for key in wanted)


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate, to boxes that are the same to the last bits.

    It resizes with PIL, which averages over all pixels that a new one covers, and so it is done here.
    """
    renamed = layout.rename(state, _names(), hints.place, NAME)
    if renamed["first_norm.scale"].shape == (1, 512, 1, 1):
        renamed["first_norm.scale"] = renamed["first_norm.scale"].flatten()
    boxes = default_boxes()
    count = layout.count_classes(renamed, boxes, hints.place)
    for head in ("boxes", "classes"):
        renamed = head_layout.rearrange(renamed, boxes, head, head_layout.boxes_in_order(_ORDER))
    settings = Settings(
        # It adds nothing to the length, and gives NaN for an all-zero cell; here that stays zero.
        network=NetworkSettings(backbone="vgg16", input_size=300, l2_eps=1e-24),
        boxes=boxes,
        class_names=known_classes.choose(hints.class_names, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(resize="antialias"),
        postprocessing=Postprocessing(score_threshold=0.01, top_k=400, iou_threshold=0.45, max_detections=200),
    )
    return ConvertedCheckpoint(
        head_layout.rearrange(layout.as_float(renamed), boxes, "boxes", _onto_a_third), settings, NAME
    )


def default_boxes() -> BoxSettings:
    """Its default boxes; the large square of the last level is the whole image."""
    grids, sizes = (38, 19, 10, 5, 3, 1), (30.0, 60.0, 112.5, 165.0, 217.5, 270.0)
    return BoxSettings(
        input_size=300,
        grids=grids,
        steps=tuple(300 / grid for grid in grids),
        min_sizes=sizes,
        max_sizes=(*sizes[1:], 300 / 0.9),
        aspect_ratios=((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,)),
        clip="centre",
        variances=(0.1, 0.1, 0.2, 0.2),
    )


def _onto_a_third(rows: Tensor) -> Tensor:
    """Let the offsets of the 0.333 box refer to one of ratio 1/3: x and width scale one way, y and height the other."""
    if len(rows) <= _TALL_THIRD:
        return rows
    rows = rows.clone()
    for axis, factor in ((0, _NARROWER), (1, 1 / _NARROWER)):
        rows[_TALL_THIRD, axis] *= factor
        if rows.dim() == 2:  # a bias: the offset of a side is its logarithm divided by the variance
            rows[_TALL_THIRD, axis + 2] += math.log(factor) / 0.2
    return rows


def _names() -> dict[str, str]:
    """Their name of each parameter -> ours."""
    layers = {f"base.conv{name}": f"backbone.conv{name}" for name in (*layout.convolutions(), "6", "7")}
    layers |= {f"aux_convs.conv{name}": f"extras.conv{name}" for name in layout.extras(_LEVELS)}
    for level, tap in enumerate(_TAPS):
        layers[f"pred_convs.loc_{tap}"] = f"head.boxes.{level}"
        layers[f"pred_convs.cl_{tap}"] = f"head.classes.{level}"
    return layout.parameters(layers) | {"rescale_factors": "first_norm.scale"}


PORT = Port(NAME, "base.*, aux_convs.*, pred_convs.*, rescale_factors", recognises, read, own_boxes=True)
