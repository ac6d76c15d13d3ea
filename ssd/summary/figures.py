"""Published figures on the design of VGG, GoogLeNet and SSD, with the numbers counted here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ssd.summary import networks
from ssd.summary.layers import Survey, survey


@dataclass(frozen=True)
class Figure:
    """One claim: its subject, the documents' figure, the counted figure, and the counted numbers."""

    what: str
    documents: str
    counted: str
    numbers: tuple[float | int, ...]


def figures() -> list[Figure]:
    """All claims, counted on their layers and networks."""
    return [figure for group in GROUPS.values() for figure in group()]


def to_json(found: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures in plain JSON types."""
    return [{"what": f.what, "documents": f.documents, "counted": f.counted, "numbers": f.numbers} for f in found]


def _bottlenecks() -> list[Figure]:
    """Bottlenecks: a 1x1 convolution first, so that the large one has few input channels."""
    plain, narrow = _count((512, 64, 5)), _count((512, 24, 1), (24, 64, 5))
    wide, slim = _count((128, 256, 5), side=100), _count((128, 32, 1), (32, 256, 5), side=100)
    dear, cheap = _count((192, 32, 5), side=28), _count((192, 16, 1), (16, 32, 5), side=28)
    return [
        _weights("5x5, 512 to 64 channels: weights", "819,200", plain),
        _weights("the same through 24 channels of 1x1", "50,688", narrow),
        _weights("5x5, 128 to 256 channels on 100x100: weights", "819,200", wide),
        _weights("the same through 32 channels of 1x1", "208,896", slim),
        _products("5x5, 192 to 32 channels on 28x28: multiplications", "120 million", dear),
        _products("the same through 16 channels of 1x1", "12.4 million", cheap),
    ]


def _factors() -> list[Figure]:
    """Factorised convolutions: small kernels in place of a large one."""
    five, threes = _count((64, 64, 5)), _count((64, 64, 3), (64, 64, 3))
    square, strips = _count((64, 64, 3)), _count((64, 64, (1, 3)), (64, 64, (3, 1)))
    return [
        _saving("two 3x3 for a 5x5 save", "28 %", five, threes),
        _saving("1x3 and 3x1 for a 3x3 save", "33 %", square, strips),
    ]


def _sizes() -> list[Figure]:
    google, alex, vgg = (networks.find(name).survey().parameters for name in ("googlenet", "alexnet", "vgg16"))
    return [
        Figure("GoogLeNet: parameters", "", f"{google:,}", (google,)),
        Figure("AlexNet: parameters", "", f"{alex:,}", (alex,)),
        Figure("VGG16: parameters", "", f"{vgg:,}", (vgg,)),
        Figure("GoogLeNet's parameters, of AlexNet's", "1/12", f"1/{alex / google:.1f}", (google / alex,)),
        Figure("AlexNet's parameters, of VGG16's", "1/3", f"{100 * alex / vgg:.0f} %", (alex / vgg,)),
    ]


def _rivals() -> list[Figure]:
    """SSD with VGG16 and YOLOv1, both for the 20 classes of VOC, each at both sizes."""
    ssd300, yolo = networks.find("ssd-vgg16", size=300), networks.find("yolov1", size=448)
    assert ssd300.boxes is not None
    assert yolo.boxes is not None
    found = [
        Figure("SSD300: boxes", "8732", f"{ssd300.boxes:,}", (ssd300.boxes,)),
        Figure("YOLOv1: boxes", "98", f"{yolo.boxes:,}", (yolo.boxes,)),
    ]
    for size in (300, 448):
        for name, title in (("ssd-vgg16", "SSD, VGG16"), ("yolov1", "YOLOv1")):
            counted = networks.find(name, size=size).survey()
            both = (counted.parameters, counted.multiply_adds)
            text = f"{both[0] / 1e6:.1f} million, {both[1] / 1e9:.2f} billion"
            found.append(Figure(f"{title} at {size}: parameters, multiply-adds", "", text, both))
    return found


def _count(*layers: tuple[int, int, int | tuple[int, int]], side: int = 1) -> Survey:
    """Survey consecutive convolutions without biases on a feature map of constant side."""
    with torch.device("meta"):
        network = nn.Sequential(*(nn.Conv2d(i, o, k, padding="same", bias=False) for i, o, k in layers))
    return survey(network, (1, layers[0][0], side, side))


def _weights(what: str, documents: str, counted: Survey) -> Figure:
    return Figure(what, documents, f"{counted.parameters:,}", (counted.parameters,))


def _products(what: str, documents: str, counted: Survey) -> Figure:
    return Figure(what, documents, f"{counted.multiply_adds:,}", (counted.multiply_adds,))


def _saving(what: str, documents: str, before: Survey, after: Survey) -> Figure:
    saved = 1 - after.parameters / before.parameters
    return Figure(what, documents, f"{100 * saved:.1f} %", (saved,))


# All groups of figures, in order.
GROUPS: dict[str, Callable[[], list[Figure]]] = {
    "bottlenecks": _bottlenecks,
    "factors": _factors,
    "sizes": _sizes,
    "rivals": _rivals,
}
