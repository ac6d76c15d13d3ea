"""lufficc/SSD with MobileNet v2, 320 pixels: where its layers are, and what it was trained with."""

from collections.abc import Mapping

from torch import Tensor

from ssd.settings import NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import layout
from ssd.weights.ports.box_tables import mobilenet_boxes
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "lufficc/SSD with MobileNet v2"

_CLASSES = {20: known_classes.VOC, 80: known_classes.COCO}
_GRIDS, _BOXES = (20, 10, 5, 3, 2, 1), 6
_HEADS = {"boxes": "box_head.predictor.reg_headers", "classes": "box_head.predictor.cls_headers"}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its keys; its MobileNet v3, from yet another code, has no `conv.0.0`."""
    return "backbone.features.1.conv.0.0.weight" in state and f"{_HEADS['classes']}.5.bias" in state


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate. Its last steps are those of 300 pixels, as in its configuration; it clips default boxes."""
    count = layout.foreground(len(state[f"{_HEADS['classes']}.5.bias"]), _BOXES, hints.place)
    settings = Settings(
        network=NetworkSettings(
            backbone="mobilenet_v2",
            input_size=320,
            extras_norm="batch",
            first_level_norm="none",
            head="lite",
            variant="lufficc",
        ),
        boxes=mobilenet_boxes(320, _GRIDS),
        class_names=known_classes.choose(hints.class_names, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0), channels="rgb", resize="uint8"),
        postprocessing=Postprocessing(score_threshold=0.01, top_k=400, iou_threshold=0.45, max_detections=100),
    )
    return ConvertedCheckpoint(layout.translate(state, settings, _theirs, hints.place, NAME), settings, NAME)


def _theirs(ours: str) -> str:
    """Their name of a tensor of this package."""
    part, *names, tensor = ours.split(".")
    if part == "backbone":
        return f"backbone.features.{'.'.join(names)}.{tensor}"
    if part == "extras":
        kind, number, step = names[0][:4], *names[0][4:].split("_")
        norm = int(kind == "norm")
        place = f"{2 + norm}" if step == "3" else f"{int(step) - 1}.{norm}"
        return f"backbone.extras.{int(number) - 8}.conv.{place}.{tensor}"
    head, level, *layer = names
    place = {"depthwise": ".conv.0", "norm": ".conv.1", "pointwise": ".conv.3"}[layer[0]] if layer else ""
    return f"{_HEADS[head]}.{level}{place}.{tensor}"


PORT = Port(NAME, "backbone.features.*, backbone.extras.*, box_head.predictor.*", recognises, read, own_boxes=True)
