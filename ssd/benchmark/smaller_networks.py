"""Networks for a detector's job that are smaller than its own.

Candidates are the detector's own network at its input size and at smaller ones, narrower ones where it is a VGG with
BatchNorm, which learns from scratch, and SSDLite with MobileNet v3, unless the detector learned from scratch. They are
timed with random weights, with scores shifted so that about as many boxes as usual reach the suppression.
"""

import contextlib
import dataclasses
import functools
import io
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ssd.benchmark.latency import Image
from ssd.errors import ConfigError
from ssd.experiment.config import Config
from ssd.experiment.starting_settings import build_settings
from ssd.exporters.export import export
from ssd.inference.detector import Detector
from ssd.inference.load import load
from ssd.inference.pipelines import NetworkPipeline
from ssd.inference.runtime.open import choose_backend
from ssd.model import vgg
from ssd.model.factory import from_settings
from ssd.model.head import MultiBoxHead
from ssd.settings import NetworkSettings, Settings
from ssd.summary.layers import survey

SIZES = (512, 448, 384, 320, 300, 256, 224, 192, 160, 128, 96, 64)  # input sizes below the detector's own
WIDTHS = (0.75, 0.5, 0.35, 0.25)  # of its own width
SMALL = "mobilenet_v3_large"
_USUAL = 200  # boxes of an image above the score threshold
_CALIBRATION = 4  # images for the timing in 8 bits; their number changes the ranges, not the time


@dataclass(frozen=True)
class Candidate:
    """A network to be trained by `config`, which computes in `precision`: auto, or int8 by OpenVINO."""

    config: Config
    settings: Settings
    multiply_adds: int  # for one image
    precision: str = "auto"


def candidates(
    config: Config, detector: Settings, weights: str, fixed: Collection[str] = (), *, eight_bits: bool = False
) -> list[Candidate]:
    """The networks that may do the job of a detector, trained by `config` into `weights`; most multiply-adds first.

    Keys in `fixed` keep the value of `config`: model.backbone, model.width, model.head or model.input_size. The
    detector's own network starts from its weights, at smaller input sizes too; others start as `ssd train` starts them.
    `eight_bits` also lists each network in 8 bits, after itself.

    Raises:
        ConfigError: the fixed keys do not go together.
    """
    found: dict[object, Candidate] = {}
    for one in _configs(config, detector.network, weights, fixed):
        try:
            made = _candidate(one, detector)
        except ConfigError:
            if {"model.backbone", "model.input_size"} <= set(fixed):
                raise
            continue  # a backbone that does not take this size
        found.setdefault(made.settings.network, made)
    listed = sorted(found.values(), key=lambda one: -one.multiply_adds)
    precisions = ("auto", "int8") if eight_bits else ("auto",)
    return [dataclasses.replace(one, precision=precision) for one in listed for precision in precisions]


def _configs(config: Config, own: NetworkSettings, weights: str, fixed: Collection[str]) -> Iterator[Config]:
    model = config.model
    sizes = (own.input_size, *(size for size in SIZES if size < own.input_size))
    if "model.input_size" in fixed:
        sizes = (model.input_size,)
    same = _with_model(config, backbone=own.backbone, width=own.width, head=own.head, weights=weights)
    named = bool({"model.backbone", "model.width", "model.head"} & set(fixed))
    own_is_named = (model.backbone, model.width) == (own.backbone, own.width) and model.head in ("auto", own.head)
    for size in sizes:
        if not named or own_is_named:
            # Sizes of default boxes are fractions of the image; an input with other levels takes those of the table.
            yield _with_model(same, input_size=size)
            yield _resized(same, size)
        if named and not own_is_named:
            yield _resized(_another(config, own, fixed), size)
        if named:
            continue
        if own.backbone in vgg.NAMES and own.backbone.endswith("_bn") and size == sizes[0]:
            narrow = _another(config, own, backbone=own.backbone, head=own.head, backbone_weights="none")
            for share in WIDTHS:
                yield _with_model(narrow, width=round(share * own.width, 4), input_size=size)
        if model.weights is None and model.backbone_weights == "none":
            continue  # so may the smaller one
        small = _another(config, own, backbone=SMALL, head="lite", width=1.0, backbone_weights="imagenet")
        yield _resized(small, size)


def _another(config: Config, own: NetworkSettings, fixed: Collection[str] = (), **network: Any) -> Config:
    """The config of another network than the run's `own`; `network` are its keys of the model.

    Keys that belong to the run's weights or to its kind of network start over, but for those in `fixed`.
    """
    model = dataclasses.replace(config.model, **network)
    over: dict[str, Any] = {"freeze_stages": "auto"}
    if model.weights is not None or model.backbone_weights not in ("imagenet", "none"):
        over["backbone_weights"] = "auto"
    if model.backbone != own.backbone or model.head not in ("auto", own.head):
        over |= {"extras_norm": "auto", "fc_norm": "auto", "atrous": True}
    over = {key: value for key, value in over.items() if key not in network and f"model.{key}" not in fixed}
    if model.backbone != own.backbone and "loss.auxiliary_weight" not in fixed:
        config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, auxiliary_weight=0.0))
    return _with_model(config, **network, **over, weights=None)


def _with_model(config: Config, **keys: Any) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **keys))


def _resized(config: Config, size: int) -> Config:
    """The network at another input size, with the default boxes of the table for its levels."""
    return _with_model(config, input_size=size, levels=None, min_sizes=None, max_sizes=None, aspect_ratios=None)


def _candidate(config: Config, detector: Settings) -> Candidate:
    source = None if config.model.weights is None else detector
    settings = build_settings(config, detector.class_names, detector.preprocessing, source=source)
    settings = dataclasses.replace(settings, postprocessing=detector.postprocessing)
    return Candidate(config, settings, multiply_adds(settings))


def multiply_adds(settings: Settings) -> int:
    """Multiply-adds of a network for one image."""
    size = settings.network.input_size
    with torch.device("meta"):
        network = from_settings(settings).to("meta")
    return survey(network, (1, 3, size, size)).multiply_adds


def described(network: NetworkSettings) -> str:
    """The backbone, and what tells the network from others with it."""
    width = "" if network.width == 1 else f", width {network.width:g}"
    return f"{network.backbone}{', lite' if network.head == 'lite' else ''}{width}"


def opened(candidate: Candidate, images: Sequence[Image], *, device: str = "auto") -> Detector:
    """The detector of a candidate with random weights, in 8 bits calibrated on some of the images.

    Raises:
        MissingExtraError: 8 bits need OpenVINO and nncf.
    """
    settings = candidate.settings
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = from_settings(settings).eval()
    open_pipeline = functools.partial(NetworkPipeline, network, settings, device=device)
    _make_plausible_(network, settings, open_pipeline(backend="torch", precision="fp32"), images[0])
    if candidate.precision != "int8":
        return Detector(open_pipeline(backend=choose_backend(network, device=device), keep=False))
    with tempfile.TemporaryDirectory(prefix="ssd-shrink-") as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "int8.xml"
        export(network, settings, path, "openvino", precision="int8", calibration=images[:_CALIBRATION])
        return load(path, precision="int8")


@torch.no_grad()
def _make_plausible_(network: nn.Module, settings: Settings, pipeline: NetworkPipeline, image: Image) -> None:
    """Shift the background's biases so that `_USUAL` boxes of the image are above the score threshold."""
    logits = pipeline.predict(pipeline.preprocess([image])).logits[0].cpu()
    margins = (logits[:, 1:] - logits[:, :1]).flatten()
    least = margins.topk(min(_USUAL, len(margins))).values[-1]
    shift = float(least) - float(np.log(max(settings.postprocessing.score_threshold, 1e-4)))
    head = network.get_submodule("head")
    assert isinstance(head, MultiBoxHead)
    for level in head.classes:
        last = [layer for layer in level.modules() if isinstance(layer, nn.Conv2d)][-1]
        assert last.bias is not None
        last.bias.view(-1, head.columns)[:, 0] += shift
