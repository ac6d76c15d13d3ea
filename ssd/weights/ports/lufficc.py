"""lufficc/SSD with VGG16, 300 and 512, in both of its key layouts: where its layers are, what it was trained with."""

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from ssd.settings import BoxSettings, NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import layout
from ssd.weights.ports.amdegroot import layer_names
from ssd.weights.ports.box_tables import MOST_LEVELS, BoxTable, box_settings, input_size_for, table_for
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "lufficc/SSD"

# Its release of 2018, and everything since: (prefix, offsets, logits).
_LAYOUTS = (
    ("backbone.", "box_head.predictor.reg_headers", "box_head.predictor.cls_headers"),
    ("", "regression_headers", "classification_headers"),
)
_CLASSES = {20: known_classes.VOC, 80: known_classes.COCO}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its keys; its MobileNet and EfficientNet have others."""
    return _layout(state) is not None


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate. Its default boxes stand in a configuration file; 20 and 80 classes tell which one it was.

    It suppresses over every box above the threshold; here over the 400 best of each class, as in the paper.
    """
    found = _layout(state)
    assert found is not None, "recognises() comes first"
    prefix, offsets, logits = found
    levels = sum(f"{offsets}.{level}.weight" in state for level in range(MOST_LEVELS + 1))
    layers = layer_names(offsets, logits, levels, prefix)
    names = layout.parameters(layers) | {f"{prefix}l2_norm.weight": "first_norm.scale"}
    renamed = layout.rename(state, names, hints.place, NAME)
    outputs = layout.count_outputs(renamed)
    size = input_size_for(levels)
    boxes = _boxes(table_for(hints.box_table, outputs - 1, hints.place), size)
    count = layout.count_classes(renamed, boxes, hints.place)
    settings = Settings(
        network=NetworkSettings(backbone="vgg16", input_size=size, l2_eps=1e-20),
        boxes=boxes,
        class_names=known_classes.choose(hints.class_names, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0), channels="rgb", resize="uint8"),
        postprocessing=Postprocessing(score_threshold=0.01, top_k=400, iou_threshold=0.45, max_detections=100),
    )
    return ConvertedCheckpoint(layout.as_float(renamed), settings, NAME)


def _boxes(table: BoxTable, size: int) -> BoxSettings:
    boxes = box_settings(table, size, clip="centre")
    if (table, size) != ("voc", 512):
        return boxes
    # 537.65, not 537.6: so it stands in its configuration, and so its weights were trained.
    return dataclasses.replace(boxes, max_sizes=(*boxes.max_sizes[:-1], 537.65))


def _layout(state: Mapping[str, Tensor]) -> tuple[str, str, str] | None:
    for prefix, offsets, logits in _LAYOUTS:
        wanted = (f"{prefix}vgg.0.weight", f"{prefix}l2_norm.weight", f"{offsets}.0.weight", f"{logits}.0.weight")
        if all(key in state for key in wanted):
            return prefix, offsets, logits
    return None


PORT = Port(NAME, "backbone.vgg.*, backbone.extras.*, box_head.predictor.*", recognises, read)
