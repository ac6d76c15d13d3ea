"""chainercv's SSD300 and SSD512 (`.npz`, version 0.6 and later): where their layers are, what they were trained with.

Offsets are (y, x, height, width) there. The published files are Caffe's weights turned to RGB. Images are resized as
floats. Versions before 0.6 counted x before y and read BGR under the same names; their files cannot be told apart.
"""

from collections.abc import Mapping

from torch import Tensor

from ssd.settings import NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import head_layout, layout
from ssd.weights.ports.box_tables import MOST_LEVELS, box_settings, input_size_for
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "chainercv SSD"

_CLASSES = {20: known_classes.VOC}
_FIRST = "extractor/conv1_1/W"


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its keys, at the top or inside a trainer's snapshot."""
    return _prefix(state) is not None


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate; it has VOC's default boxes whatever it was trained on, unless `hints.box_table` says otherwise.

    It suppresses over every box above the threshold and keeps them all; here the paper's 400 a class, 200 an image.
    """
    prefix = _prefix(state)
    assert prefix is not None, "recognises() comes first"
    state = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    levels = sum(f"multibox/loc/{level}/W" in state for level in range(MOST_LEVELS + 1))
    renamed = layout.rename(state, _names(levels), hints.place, NAME)
    size = input_size_for(levels)
    boxes = box_settings(hints.box_table or "voc", size, clip="none")
    count = layout.count_classes(renamed, boxes, hints.place)
    settings = Settings(
        # It adds 1e-5 to the length; ours adds inside the root.
        network=NetworkSettings(backbone="vgg16", input_size=size, l2_eps=1e-10),
        boxes=boxes,
        class_names=known_classes.choose(hints.class_names, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0), channels="rgb", resize="float"),
        postprocessing=Postprocessing(score_threshold=0.01, top_k=400, iou_threshold=0.45, max_detections=200),
    )
    ours = head_layout.rearrange(layout.as_float(renamed), boxes, "boxes", head_layout.x_before_y)
    return ConvertedCheckpoint(ours, settings, NAME)


def _prefix(state: Mapping[str, Tensor]) -> str | None:
    """What stands before the network's names: nothing, or a snapshot's `updater/model:main/model/`."""
    found = [name.removesuffix(_FIRST) for name in state if name.endswith(_FIRST)]
    return found[0] if len(found) == 1 and f"{found[0]}multibox/loc/0/W" in state else None


def _names(levels: int) -> dict[str, str]:
    """Their name of each parameter -> ours; layers are called alike."""
    layers = [f"backbone.conv{name}" for name in (*layout.convolutions(), "6", "7")]
    layers += [f"extras.conv{name}" for name in layout.extras(levels)]
    pairs = {f"extractor/{layer.partition('.')[2]}": layer for layer in layers}
    for level in range(levels):
        pairs[f"multibox/loc/{level}"] = f"head.boxes.{level}"
        pairs[f"multibox/conf/{level}"] = f"head.classes.{level}"
    parameters = {"extractor/norm4/scale": "first_norm.scale"}
    for theirs, ours in pairs.items():
        parameters |= {f"{theirs}/W": f"{ours}.weight", f"{theirs}/b": f"{ours}.bias"}
    return parameters


PORT = Port(NAME, "extractor/conv1_1/W, extractor/norm4/scale, multibox/loc/0/W", recognises, read)
