"""torchvision's `ssd300_vgg16`, of any class count: where its layers are, and what it was trained with.

Two things set it apart: images are normalised before they are resized, as floats, and boxes are cut to the image
before the suppression. It has COCO's default boxes whatever it was trained on, with their sides alone clipped.
"""

from collections.abc import Mapping

from torch import Tensor

from ssd.settings import NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import layout
from ssd.weights.ports.box_tables import box_settings
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "torchvision ssd300_vgg16"

_LEVELS = 6
# All 90 columns of the published weights stay, unused ids too: each takes part in the softmax.
_CLASSES = {90: known_classes.coco_by_id(), 80: known_classes.COCO, 20: known_classes.VOC}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its keys; SSDlite has no `scale_weight`."""
    return "backbone.scale_weight" in state and "head.classification_head.module_list.0.weight" in state


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate; `hints.box_table` overrides COCO's default boxes."""
    renamed = layout.rename(state, _names(), hints.place, NAME)
    boxes = box_settings(hints.box_table or "coco", 300, clip="sides")
    count = layout.count_classes(renamed, boxes, hints.place)
    settings = Settings(
        # F.normalize divides by max(length, 1e-12); ours adds inside the root.
        network=NetworkSettings(backbone="vgg16", input_size=300, l2_eps=1e-24),
        boxes=boxes,
        class_names=known_classes.choose(hints.class_names, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(
            mean=(0.48235 * 255, 0.45882 * 255, 0.40784 * 255), std=(1.0, 1.0, 1.0), channels="rgb", resize="float"
        ),
        postprocessing=Postprocessing(
            score_threshold=0.01, top_k=400, iou_threshold=0.45, max_detections=200, clip="before"
        ),
    )
    return ConvertedCheckpoint(layout.as_float(renamed), settings, NAME)


def _names() -> dict[str, str]:
    """Their name of each parameter -> ours."""
    layers = {"backbone.extra.0.7.1": "backbone.conv6", "backbone.extra.0.7.3": "backbone.conv7"}
    for name, place in layout.convolutions().items():
        # From pool4 on the same layers sit in the first extra block, counted from there.
        theirs = f"extra.0.{place - 23}" if name.startswith("5") else f"features.{place}"
        layers[f"backbone.{theirs}"] = f"backbone.conv{name}"
    for index, name in enumerate(layout.extras(_LEVELS)):
        layers[f"backbone.extra.{index // 2 + 1}.{index % 2 * 2}"] = f"extras.conv{name}"
    for level in range(_LEVELS):
        layers[f"head.regression_head.module_list.{level}"] = f"head.boxes.{level}"
        layers[f"head.classification_head.module_list.{level}"] = f"head.classes.{level}"
    return layout.parameters(layers) | {"backbone.scale_weight": "first_norm.scale"}


PORT = Port(NAME, "backbone.features.*, backbone.extra.*, head.classification_head.*", recognises, read)
