"""torchvision's `ssdlite320_mobilenet_v3_large`, of any class count: where its layers are, and its training's settings.

Its default boxes go from 0.2 to 0.95 of the image in equal steps, with ratios 2 and 3 on every level.
"""

from collections.abc import Mapping

from torch import Tensor

from ssd.settings import BoxSettings, NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import layout
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "torchvision ssdlite320_mobilenet_v3_large"

# All 90 columns of the published weights stay, unused ids too: each takes part in the softmax.
_CLASSES = {90: known_classes.coco_by_id(), 80: known_classes.COCO, 20: known_classes.VOC}
_CLASS_HEAD = "head.classification_head.module_list"
_SIZE, _GRIDS, _BOXES = 320, (20, 10, 5, 3, 2, 1), 6
_LAST_LAYER = "backbone.features.1.3.0.weight"
_CUT = 13  # the block that torchvision divides between its two parts of the backbone


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its keys; SSD300 has `head.classification_head.module_list.0.weight`."""
    return _LAST_LAYER in state and f"{_CLASS_HEAD}.0.1.weight" in state


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate; a backbone of half the width at its end is the published one, trained without ImageNet weights."""
    count = layout.foreground(len(state[f"{_CLASS_HEAD}.0.1.weight"]), _BOXES, hints.place)
    reduced = "_reduced" if len(state[_LAST_LAYER]) == 480 else ""
    settings = Settings(
        network=NetworkSettings(
            backbone=f"mobilenet_v3_large{reduced}",
            input_size=_SIZE,
            extras_norm="batch",
            first_level_norm="none",
            head="lite",
        ),
        boxes=_boxes(),
        class_names=known_classes.choose(hints.class_names, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(mean=(127.5,) * 3, std=(127.5,) * 3, channels="rgb", resize="float"),
        postprocessing=Postprocessing(
            score_threshold=0.001, top_k=300, iou_threshold=0.55, max_detections=300, clip="before"
        ),
    )
    return ConvertedCheckpoint(layout.translate(state, settings, _theirs, hints.place, NAME), settings, NAME)


def _boxes() -> BoxSettings:
    sizes = (*(_SIZE * (0.2 + 0.75 * level / 5) for level in range(6)), float(_SIZE))
    return BoxSettings(
        input_size=_SIZE,
        grids=_GRIDS,
        steps=tuple(_SIZE / grid for grid in _GRIDS),
        min_sizes=sizes[:-1],
        max_sizes=sizes[1:],
        aspect_ratios=((2.0, 3.0),) * len(_GRIDS),
        clip="sides",
        variances=(0.1, 0.1, 0.2, 0.2),
    )


def _theirs(ours: str) -> str:
    """Their name of a tensor of this package."""
    part, *names, tensor = ours.split(".")
    if part == "backbone":
        return f"backbone.features.{_place(names)}.{tensor}"
    if part == "extras":
        kind, number, step = names[0][:4], *names[0][4:].split("_")
        return f"backbone.extra.{int(number) - 8}.{int(step) - 1}.{int(kind == 'norm')}.{tensor}"
    head, level, layer = names
    place = {"depthwise": "0.0", "norm": "0.1", "pointwise": "1"}[layer]
    return f"head.{'regression' if head == 'boxes' else 'classification'}_head.module_list.{level}.{place}.{tensor}"


def _place(names: list[str]) -> str:
    """Their place of a layer of the backbone: its first part ends inside the block of the first level."""
    block, *rest = names
    number, inside = int(block), ".".join(rest)
    if number < _CUT:
        return f"0.{number}.{inside}"
    if number > _CUT:
        return f"1.{number - _CUT}.{inside}"
    return inside.replace("block.0", "0.13") if inside.startswith("block.0.") else inside.replace("block", "1.0", 1)


PORT = Port(
    NAME, "backbone.features.0.*, backbone.extra.*, head.classification_head.*", recognises, read, own_boxes=True
)
