"""Networks by name, for the survey and the timing: detectors, classifiers and classic networks."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssd.errors import ArgumentError
from ssd.model import backbones, timm_backbones, vgg
from ssd.model.factory import from_settings, settings_for
from ssd.multibox.default_boxes import boxes_per_cell
from ssd.report.run_log import read_rows
from ssd.settings import Settings
from ssd.summary import classics
from ssd.summary.layers import Survey, survey
from ssd.weights.native import is_ours, load_weights, metric_of
from ssd.weights.resolve import PUBLISHED, find_weights, read_weights

_DETECTOR, _LITE = "ssd-", "ssdlite-"
# Name -> (function of classes and channels, input size, classes, channels).
_HISTORY: dict[str, tuple[Callable[..., nn.Module], int, int, int]] = {
    "lenet": (classics.lenet, 28, 10, 1),
    "nin": (classics.network_in_network, 224, 1000, 3),
    "vgg11_lrn": (classics.vgg11_lrn, 224, 1000, 3),
    "yolov1": (classics.YOLOv1, 448, 20, 3),
}
# Metric of a run -> name here of a figure -> its name in the run; `ssd eval` has these names too.
_COLUMNS = {"coco": {"AP": "AP", "AP50": "AP50"}, "voc": {"VOC": "AP", "VOC07": "AP07"}}


@dataclass(frozen=True)
class Network:
    """A network by name at one input size, with published and measured figures."""

    name: str
    build: Callable[[], nn.Module]
    size: int
    channels: int = 3
    boxes: int | None = None  # number of boxes that a detector predicts
    published: int | None = None  # parameters, according to its library
    measured: Mapping[str, float] = field(default_factory=dict)  # _COLUMNS and images_per_second of its training run

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The input shape of one image."""
        return (1, self.channels, self.size, self.size)

    def survey(self) -> Survey:
        """Survey its layers.

        Raises:
            ArgumentError: the network does not support this input size.
        """
        with torch.device("meta"):
            network = self.build().to("meta")
        try:
            return survey(network, self.shape)
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            problem = f"{self.name} cannot take {self.size} pixels ({reason})"
            raise ArgumentError(problem, place="--size", remedy="Leave it out for the size it was made for.") from None


def find(name: str, *, size: int | None = None, classes: int | None = None, channels: int | None = None) -> Network:
    """The network of this name; None means the published value.

    Raises:
        SSDError: no such network or weights, or an unsupported size or number of channels.
    """
    for place, value in (("--size", size), ("--classes", classes), ("--channels", channels)):
        if value is not None and value < 1:
            raise ArgumentError(f"{value} is too small", place=place, remedy="Use 1 or more.")
    if name in _HISTORY:
        return _of_history(name, size, classes, channels)
    if name in vgg.NAMES:
        return _vgg(name, size or 224, classes, channels or 3)
    if _is_new(name) or name in PUBLISHED or Path(name).exists():
        if channels not in (None, 3):
            raise ArgumentError(f"{channels}: detectors take RGB", place="--channels", remedy="Leave it out.")
        return _detector(name, size, classes)
    return _of_library(name, size, classes, channels)


def latencies(networks: Sequence[Network], repeat: int) -> list[float | None]:
    """Milliseconds per image on this machine's CPU in fp32, as the median of `repeat` passes.

    The networks take turns, so that a busy moment of the machine affects all of them.
    """
    if repeat < 1:
        return [None] * len(networks)
    built = [network.build().eval().to(memory_format=torch.channels_last) for network in networks]
    images = [torch.zeros(network.shape).to(memory_format=torch.channels_last) for network in networks]
    times: list[list[float]] = [[] for _ in networks]
    with torch.inference_mode():
        for turn in range(repeat + 1):
            for network, image, seconds in zip(built, images, times, strict=True):
                start = time.perf_counter()
                network(image)
                if turn:  # the first pass of each warms up
                    seconds.append(time.perf_counter() - start)
    return [round(1000 * statistics.median(seconds), 2) for seconds in times]


def _of_history(name: str, size: int | None, classes: int | None, channels: int | None) -> Network:
    make, usual_size, usual_classes, usual_channels = _HISTORY[name]
    size, channels = size or usual_size, channels or usual_channels
    if name != "yolov1":
        return Network(name, partial(make, classes or usual_classes, channels), size, channels)
    build = partial(classics.YOLOv1, classes or usual_classes, channels, input_size=size)
    with torch.device("meta"):
        boxes = build().boxes
    return Network(name, build, size, channels, boxes=boxes)


def _vgg(name: str, size: int, classes: int | None, channels: int) -> Network:
    kind, _, norm = name.partition("_")
    build = partial(vgg.classifier, kind, batch_norm=bool(norm), num_classes=classes or 1000, channels=channels)
    published = None if kind in vgg.POINTWISE or classes or channels != 3 else _published(name)
    return Network(name, build, size, channels, published=published)


def _detector(name: str, size: int | None, classes: int | None) -> Network:
    new = _is_new(name)
    if not new:
        settings = read_weights(name)[1]
        if size not in (None, settings.network.input_size) or classes is not None:
            place, remedy = "--classes" if classes else "--size", f"Leave it out: {name} has its own."
            raise ArgumentError("weights are of one size and one list of classes", place=place, remedy=remedy)
    else:
        names = tuple(f"class_{index}" for index in range(classes or 20))
        kind, _, backbone = name.partition("-")
        lite: dict[str, Any] = {"head": "lite", "extras_norm": "batch"} if f"{kind}-" == _LITE else {}
        settings = settings_for(names, input_size=size or (320 if lite else 300), backbone=backbone, **lite)
    measured = {} if new else _measured(find_weights(name))
    build = partial(from_settings, settings)
    return Network(name, build, settings.network.input_size, boxes=count_boxes(settings), measured=measured)


def _is_new(name: str) -> bool:
    """Whether it names a network to build: no weights file and no run of that name is here."""
    files = (Path(name, file) for file in ("", "best.safetensors", "last.safetensors"))
    return name.startswith((_DETECTOR, _LITE)) and not any(file.is_file() for file in files)


def _measured(path: Path) -> dict[str, float]:
    """The figures that a run of this package stored with its weights; empty for other weights."""
    weights = path / "best.safetensors" if path.is_dir() else path
    if not is_ours(weights):
        return {}
    extra = load_weights(weights)[2]
    validation, columns = extra.get("validation", {}), _COLUMNS[metric_of(extra)]
    measured = {column: validation[name] for column, name in columns.items() if validation.get(name) is not None}
    rows = read_rows(weights.parent / "train.jsonl") if (weights.parent / "train.jsonl").is_file() else []
    rates = [row["images_per_second"] for row in rows if "images_per_second" in row]
    return measured | ({"images_per_second": statistics.median(rates)} if rates else {})


def count_boxes(settings: Settings) -> int:
    """Number of default boxes."""
    pairs = zip(settings.boxes.grids, boxes_per_cell(settings.boxes), strict=True)
    return sum(grid**2 * each for grid, each in pairs)


def _of_library(name: str, size: int | None, classes: int | None, channels: int | None) -> Network:
    real = backbones.ALIASES.get(name, name)
    if backbones.library(real) == "timm":
        timm = timm_backbones.module(real)
        options = {"num_classes": classes or 1000, "in_chans": channels or 3}
        usual = timm.get_pretrained_cfg(real)
        build = partial(timm.create_model, real, **options)
        return Network(name, build, size or (usual.input_size[-1] if usual else 224), channels or 3)
    from torchvision.models import get_model_weights

    if channels not in (None, 3):
        raise ArgumentError(f"{channels}: {name} takes RGB", place="--channels", remedy="Leave it out, or take a VGG.")
    build = partial(backbones.classifier, real, num_classes=classes or 1000)
    if real in backbones.WITHOUT_WEIGHTS:
        return Network(name, build, size or 224)
    usual_size = get_model_weights(real).IMAGENET1K_V1.transforms().crop_size[0]
    # torchvision counts Inception v3 with its auxiliary head, and GoogLeNet without.
    return Network(name, build, size or usual_size, published=None if classes else _published(real))


def _published(name: str) -> int:
    from torchvision.models import get_model_weights

    count: int = get_model_weights(name).IMAGENET1K_V1.meta["num_params"]
    return count
