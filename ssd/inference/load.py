"""Loads a detector from a weights file or an exported graph; functions that use the default weights."""

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path

import torch
from torch import nn

from ssd.errors import ArgumentError, CheckpointError
from ssd.inference.detections import Detections
from ssd.inference.detector import Detector
from ssd.inference.options import named_options
from ssd.inference.pipelines import GraphPipeline, NetworkPipeline
from ssd.inference.runtime.facts import is_graph
from ssd.inference.runtime.open import choose_backend, open_graph
from ssd.model.factory import from_settings
from ssd.rules import ScoreThreshold
from ssd.settings import Settings
from ssd.tiles import OVERLAP, Tiles
from ssd.weights.hub import fetch_from_hub, is_hub_address
from ssd.weights.resolve import read_weights


@named_options
def load(
    source: str | Path = "coco",
    *,
    class_names: Sequence[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    trust: bool = False,
) -> Detector:
    """Load a detector from a weights file, a checkpoint of another SSD code, or a run's folder (its best weights).

    `hf://owner/name[@revision][/file]` is a weights file in a Hugging Face repository, fetched once. An exported graph
    (`.onnx`, `.xml`, `.pt2`) gives a detector too, with preprocessing and suppression as exported.

    "coco", the default, is SSD300 with VGG16 trained on COCO, published by torchvision and fetched once; "ssdlite" is
    its SSDLite320 with MobileNet v3, a small network. `class_names` names the classes of a checkpoint without names,
    or replaces its names. `backend="auto"` is PyTorch, or OpenVINO on a CPU where it is installed and faster; see
    `ssd.inference.runtime.open.choose_backend`. `trust` allows a `.pt2`, since loading one can run code.

    Raises:
        CheckpointError: missing, damaged, of an unknown kind, or for another number of classes.
        DownloadError: weights that are not on this machine cannot be fetched.
    """
    if isinstance(class_names, str):
        raise ArgumentError(f"{class_names!r} is one name", place="class_names", remedy=f"Write [{class_names!r}].")
    # A set has another order in each process.
    known = class_names is None or (isinstance(class_names, Collection) and not isinstance(class_names, Set | Mapping))
    if not known or not all(isinstance(name, str) for name in class_names or ()):
        remedy = 'Write ["cat", "dog"].'
        raise ArgumentError(f"{class_names!r:.80} is no list of names", place="class_names", remedy=remedy)
    if class_names is not None and len(set(class_names)) < len(class_names):
        problem = f"{list(class_names)} names a class twice"
        raise ArgumentError(problem, place="class_names", remedy="Give each class a name of its own.")
    if is_hub_address(source):
        source = fetch_from_hub(str(source))
    if is_graph(source):
        graph = open_graph(source, device=device, precision=precision, backend=backend, trust=trust)
        return Detector(GraphPipeline(graph, class_names))
    network, settings = load_network(source, class_names)
    if backend == "auto" and precision in ("auto", "fp32", "bf16"):
        backend = choose_backend(network, device=device, precision=precision)
    return Detector(NetworkPipeline(network, settings, device=device, precision=precision, backend=backend))


def load_network(source: str | Path, class_names: Sequence[str] | None = None) -> tuple[nn.Module, Settings]:
    """The network of a weights file and its settings; arguments and errors as for `load`."""
    state, settings = read_weights(source, class_names)
    with torch.device("meta"):  # no memory, no random numbers: every tensor comes from the file
        network = from_settings(settings)
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        problem = f"its tensors do not fit the network of its settings ({' '.join(str(error).split())[:200]} ...)"
        raise CheckpointError(problem, place=source) from None
    return network, settings


@named_options
def detect(
    image: object,
    *,
    score_threshold: ScoreThreshold | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    box_voting: float | None = None,
    tiles: Tiles | None = None,
    tile_overlap: float = OVERLAP,
    bgr: bool = False,
) -> Detections:
    """Find the objects in one image with the default weights, loaded at the first call; see `Detector.detect`."""
    return default_detector().detect(
        image,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
        box_voting=box_voting,
        tiles=tiles,
        tile_overlap=tile_overlap,
        bgr=bgr,
    )


@named_options
def detect_batch(
    images: Iterable[object],
    batch_size: int = 8,
    *,
    score_threshold: ScoreThreshold | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    box_voting: float | None = None,
    tiles: Tiles | None = None,
    tile_overlap: float = OVERLAP,
    bgr: bool = False,
) -> list[Detections]:
    """Find the objects in many images with the default weights, in their order; see `Detector.detect`."""
    return list(
        detect_stream(
            images,
            batch_size,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
            box_voting=box_voting,
            tiles=tiles,
            tile_overlap=tile_overlap,
            bgr=bgr,
        )
    )


@named_options
def detect_stream(
    images: Iterable[object],
    batch_size: int = 8,
    *,
    score_threshold: ScoreThreshold | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    box_voting: float | None = None,
    tiles: Tiles | None = None,
    tile_overlap: float = OVERLAP,
    bgr: bool = False,
) -> Iterator[Detections]:
    """Like `detect_batch`, for more images than fit into memory: they are read one batch at a time."""
    return default_detector().detect_stream(
        images,
        batch_size,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
        box_voting=box_voting,
        tiles=tiles,
        tile_overlap=tile_overlap,
        bgr=bgr,
    )


@functools.cache
def default_detector() -> Detector:
    """The detector of the default weights; one for the whole process."""
    return load()
