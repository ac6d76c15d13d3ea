"""amdegroot/ssd.pytorch: where its layers are, and what it was trained with.

Its evaluation subtracts (104, 117, 123) from OpenCV's BGR image and then turns the channels round, so the network
sees RGB minus (123, 117, 104). (Its demos forget to turn them; that is not how the weights were trained.)
"""

from collections.abc import Mapping

from torch import Tensor

from ssd.settings import NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import layout
from ssd.weights.ports.box_tables import box_settings
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "amdegroot/ssd.pytorch"

_LEVELS = 6
# Its COCO configuration asks for 201 outputs by mistake: the first 80 are COCO's, the rest were never trained.
_CLASSES = {
    20: known_classes.VOC,
    80: known_classes.COCO,
    200: (*known_classes.COCO, *(f"unused_{number}" for number in range(81, 201))),
}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its keys."""
    return all(key in state for key in ("vgg.0.weight", "L2Norm.weight", "loc.0.weight", "conf.0.weight"))


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate. Like the code itself, give VOC's default boxes to 20 classes and COCO's to any other number.

    Its detection keeps 200 boxes a class and means to keep 200 an image, but that last cut does nothing; here it does.
    """
    names = layout.parameters(layer_names("loc", "conf", _LEVELS)) | {"L2Norm.weight": "first_norm.scale"}
    renamed = layout.rename(state, names, hints.place, NAME)
    outputs = layout.count_outputs(renamed)
    boxes = box_settings(hints.box_table or ("voc" if outputs == 21 else "coco"), 300, clip="centre")
    count = layout.count_classes(renamed, boxes, hints.place)
    settings = Settings(
        # It adds 1e-10 to the length; ours adds inside the root.
        network=NetworkSettings(backbone="vgg16", input_size=300, l2_eps=1e-20),
        boxes=boxes,
        class_names=known_classes.choose(hints.class_names, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0), channels="rgb", resize="uint8"),
        postprocessing=Postprocessing(score_threshold=0.01, top_k=200, iou_threshold=0.45, max_detections=200),
    )
    return ConvertedCheckpoint(layout.as_float(renamed), settings, NAME)


def vgg_names(prefix: str) -> dict[str, str]:
    """Their name of each layer of the changed VGG -> ours; conv6 and conv7 follow pool5 in the same list."""
    layers = {f"{prefix}.{place}": f"backbone.conv{name}" for name, place in layout.convolutions().items()}
    return layers | {f"{prefix}.31": "backbone.conv6", f"{prefix}.33": "backbone.conv7"}


def layer_names(offsets: str, logits: str, levels: int, prefix: str = "") -> dict[str, str]:
    """Their name of each convolution -> ours, in this code and those that follow it."""
    layers = vgg_names(f"{prefix}vgg")
    for index, name in enumerate(layout.extras(levels)):
        layers[f"{prefix}extras.{index}"] = f"extras.conv{name}"
    for level in range(levels):
        layers[f"{offsets}.{level}"] = f"head.boxes.{level}"
        layers[f"{logits}.{level}"] = f"head.classes.{level}"
    return layers


PORT = Port(NAME, "vgg.*, extras.*, loc.*, conf.*", recognises, read)
