"""qfgaohao/pytorch-ssd with VGG16 ("vgg16-ssd"): where its layers are, and what it was trained with.

Its conv4_3 goes to the head through BatchNorm, or in other versions through an L2 normalisation; both are told by their
tensors. Its MobileNet and SqueezeNet variants are other networks.
"""

from collections.abc import Mapping

from torch import Tensor

from ssd.settings import NetworkSettings, Postprocessing, Preprocessing, Settings
from ssd.weights.ports import class_names as known_classes
from ssd.weights.ports import layout
from ssd.weights.ports.amdegroot import vgg_names
from ssd.weights.ports.box_tables import box_settings
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

NAME = "qfgaohao/pytorch-ssd"

_LEVELS = 6
_CLASSES = {20: known_classes.VOC}
_NORM = "source_layer_add_ons.0"
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether these are its keys; MobileNet has `base_net.0.0.weight`."""
    wanted = ("base_net.0.weight", "base_net.33.weight", "extras.0.0.weight", "classification_headers.0.weight")
    return all(key in state for key in wanted)


def read(state: Mapping[str, Tensor], hints: Hints) -> ConvertedCheckpoint:
    """Translate; it has VOC's default boxes whatever it was trained on, unless `hints.box_table` says otherwise.

    It keeps every detection that survives; here the 200 best of an image, as in the paper.
    """
    l2 = f"{_NORM}.scale" in state
    renamed = layout.rename(state, _names(l2=l2), hints.place, NAME)
    boxes = box_settings(hints.box_table or "voc", 300, clip="centre")
    count = layout.count_classes(renamed, boxes, hints.place)
    settings = Settings(
        # F.normalize divides by max(length, 1e-12); ours adds inside the root.
        network=NetworkSettings(
            backbone="vgg16", input_size=300, first_level_norm="l2" if l2 else "batch", l2_eps=1e-24
        ),
        boxes=boxes,
        class_names=known_classes.choose(hints.class_names, count, _CLASSES, hints.place),
        preprocessing=Preprocessing(mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0), channels="rgb", resize="uint8"),
        postprocessing=Postprocessing(score_threshold=0.01, top_k=200, iou_threshold=0.45, max_detections=200),
    )
    return ConvertedCheckpoint(layout.as_float(renamed), settings, NAME)


def _names(*, l2: bool) -> dict[str, str]:
    """Their name of each parameter -> ours."""
    layers = vgg_names("base_net")
    for index, name in enumerate(layout.extras(_LEVELS)):
        layers[f"extras.{index // 2}.{index % 2 * 2}"] = f"extras.conv{name}"
    for level in range(_LEVELS):
        layers[f"regression_headers.{level}"] = f"head.boxes.{level}"
        layers[f"classification_headers.{level}"] = f"head.classes.{level}"
    parts = ("scale",) if l2 else _BATCH_NORM
    return layout.parameters(layers) | {f"{_NORM}.{part}": f"first_norm.{part}" for part in parts}


PORT = Port(NAME, "base_net.*, source_layer_add_ons.0.*, classification_headers.*", recognises, read)
