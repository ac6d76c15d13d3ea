"""mmdetection's SSD300 and SSD512 with VGG16, versions 2 and 3: where the layers are, what they were trained with.

Background is the last class there. Box sizes are whole pixels, boxes are cut to the image before the suppression.
A checkpoint tells its class names and its configuration, from which the default boxes follow.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ssd.errors import CheckpointError
from ssd.settings import NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import head_layout, layout
from ssd.weights.ports.amdegroot import vgg_names
from ssd.weights.ports.box_tables import BoxTable, box_settings, input_size_for, table_for
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "mmdetection SSD"

_CLASSES = {20: known_classes.VOC, 80: known_classes.COCO}
# `basesize_ratio_range` of the configuration: the size of the second level, as a share of the input.
_TABLES: dict[tuple[int, str], BoxTable] = {
    (300, "0.2"): "voc",
    (300, "0.15"): "coco",
    (512, "0.15"): "voc",
    (512, "0.1"): "coco",
}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its keys; SSDLite has another backbone."""
    norm = "neck.l2_norm.weight" in state or "backbone.l2_norm.weight" in state
    return norm and "backbone.features.33.weight" in state


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate; `neck.*` is version 2.14 and later, `backbone.extra.*` before it.

    It looks at the 1000 best pairs of box and class of each level; here at as many of each class.
    """
    _refuse_version_1(hints)
    renamed = layout.rename(state, _names(state), hints.place, NAME)
    levels = sum(name.startswith("head.boxes.") and name.endswith(".bias") for name in renamed)
    size = input_size_for(levels)
    outputs = layout.count_outputs(renamed)
    boxes = box_settings(_table(hints, size, outputs - 1), size, clip="none", whole_pixels=True)
    count = layout.count_classes(renamed, boxes, hints.place)
    stated = hints.class_names if hints.class_names is not None else _stated_names(hints.notes, count)
    settings = Settings(
        # It adds 1e-10 to the length; ours adds inside the root.
        network=NetworkSettings(backbone="vgg16", input_size=size, l2_eps=1e-20),
        boxes=boxes,
        class_names=known_classes.choose(stated, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(mean=(123.675, 116.28, 103.53), std=(1.0, 1.0, 1.0), resize="uint8"),
        postprocessing=Postprocessing(
            score_threshold=0.02, top_k=1000, iou_threshold=0.45, max_detections=200, clip="before"
        ),
    )
    ours = head_layout.rearrange(layout.as_float(renamed), boxes, "classes", head_layout.background_first)
    return ConvertedCheckpoint(ours, settings, NAME)


def _refuse_version_1(hints: Hints) -> None:
    version = str(_meta(hints.notes).get("mmdet_version", ""))
    if re.match(r"[01]\.", version):
        raise CheckpointError(
            f"was made by mmdetection {version}, whose classes and boxes are ordered otherwise",
            place=hints.place,
            remedy="Convert it with the tools/upgrade_model_version.py of mmdetection 2 first.",
        )


def _table(hints: Hints, size: int, count: int) -> BoxTable:
    """What the caller says, else the configuration in the file, else the number of classes."""
    meta = _meta(hints.notes)
    text = str(meta.get("cfg") or meta.get("config") or "")
    # A configuration that builds on another may say it twice; the last one counts.
    stated = re.findall(r"basesize_ratio_range\s*=\s*[(\[]\s*([\d.]+)", text)
    return hints.box_table or _TABLES.get((size, stated[-1] if stated else "")) or table_for(None, count, hints.place)


def _stated_names(notes: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    """Class names in the file: `CLASSES` in version 2, `dataset_meta.classes` in version 3."""
    meta = _meta(notes)
    dataset = meta.get("dataset_meta")
    given = dataset.get("classes", dataset.get("CLASSES")) if isinstance(dataset, Mapping) else meta.get("CLASSES")
    if not isinstance(given, list | tuple) or len(given) != count:
        return None
    return tuple(str(name) for name in given)


def _meta(notes: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = notes.get("meta")
    return meta if isinstance(meta, Mapping) else {}


def _names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Their name of each parameter -> ours."""
    new = "neck.l2_norm.weight" in state
    head = "bbox_head.reg_convs.{}.0" if new else "bbox_head.reg_convs.{}"
    levels = next(level for level in range(6, 9) if f"{head.format(level)}.weight" not in state or level == 8)
    layers = vgg_names("backbone.features")
    for index, name in enumerate(layout.extras(levels)):
        extra = f"neck.extra_layers.{index // 2}.{index % 2}.conv" if new else f"backbone.extra.{index}"
        layers[extra] = f"extras.conv{name}"
    for level in range(levels):
        layers[head.format(level)] = f"head.boxes.{level}"
        layers[head.format(level).replace("reg", "cls")] = f"head.classes.{level}"
    return layout.parameters(layers) | {"neck.l2_norm.weight" if new else "backbone.l2_norm.weight": "first_norm.scale"}


PORT = Port(NAME, "backbone.features.*, neck.extra_layers.*, bbox_head.cls_convs.*", recognises, read)
