"""qfgaohao/pytorch-ssd, `mb1-ssd` and `mb2-ssd-lite`: where their layers are, and what they were trained with."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from ssd.settings import NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import layout
from ssd.weights.ports.box_tables import mobilenet_boxes
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "qfgaohao/pytorch-ssd with MobileNet"

_CLASSES = {20: known_classes.VOC}
_GRIDS, _BOXES = (19, 10, 5, 3, 2, 1), 6
_HEADS = {"boxes": "regression_headers", "classes": "classification_headers"}
_LITE = "base_net.1.conv.0.weight"


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its keys; its other MobileNets and SqueezeNet are read no further."""
    return "base_net.0.0.weight" in state and "classification_headers.5.bias" in state


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate; its default boxes are the same whatever it was trained on.

    It keeps every detection that survives; here the 200 best of an image, as in the paper.
    """
    count = layout.foreground(len(state["classification_headers.5.bias"]), _BOXES, hints.place)
    head: Literal["full", "lite"] = "lite" if _LITE in state else "full"
    settings = Settings(
        network=NetworkSettings(
            backbone="mobilenet_v2" if head == "lite" else "mobilenet_v1",
            input_size=300,
            extras_norm="batch" if head == "lite" else "none",
            first_level_norm="none",
            head=head,
            variant="qfgaohao",
        ),
        boxes=mobilenet_boxes(300, _GRIDS),
        class_names=known_classes.choose(hints.class_names, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(mean=(127.0,) * 3, std=(128.0,) * 3, channels="rgb", resize="uint8"),
        postprocessing=Postprocessing(score_threshold=0.01, top_k=200, iou_threshold=0.45, max_detections=200),
    )
    theirs = _theirs_lite if head == "lite" else _theirs_full
    return ConvertedCheckpoint(layout.translate(state, settings, theirs, hints.place, NAME), settings, NAME)


def _theirs_full(ours: str) -> str:
    """The name in `mb1-ssd` of a tensor of this package."""
    part, *names, tensor = ours.split(".")
    if part == "backbone":
        return f"base_net.{'.'.join(names)}.{tensor}"
    if part == "extras":
        number, step = names[0].removeprefix("conv").split("_")
        return f"extras.{int(number) - 8}.{2 * (int(step) - 1)}.{tensor}"
    head, level = names
    return f"{_HEADS[head]}.{level}.{tensor}"


def _theirs_lite(ours: str) -> str:
    """The name in `mb2-ssd-lite` of a tensor of this package."""
    part, *names, tensor = ours.split(".")
    if part == "backbone":
        return f"base_net.{_place(names)}.{tensor}"
    if part == "extras":
        kind, number, step = names[0][:4], *names[0][4:].split("_")
        return f"extras.{int(number) - 8}.conv.{3 * (int(step) - 1) + int(kind == 'norm')}.{tensor}"
    head, level, *layer = names
    place = {"depthwise": ".0", "norm": ".1", "pointwise": ".3"}[layer[0]] if layer else ""
    return f"{_HEADS[head]}.{level}{place}.{tensor}"


def _place(names: list[str]) -> str:
    """Their place of a layer: a block is one flat list, ReLUs counted; torchvision has a list for each convolution."""
    block, *rest = names
    if not rest or rest[0] != "conv":
        return ".".join(names)
    triples = 1 if block == "1" else 2  # the first block does not expand
    place = int(rest[1]) + 2 * min(int(rest[1]), triples) + int(rest[2] if len(rest) > 2 else 0)
    return f"{block}.conv.{place}"


PORT = Port(NAME, "base_net.0.0.*, extras.*, classification_headers.*", recognises, read, own_boxes=True)
