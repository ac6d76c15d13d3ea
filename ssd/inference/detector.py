"""From a image to its detections: `load` makes a detector of a weights file, `detect` is the one-liner."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ssd.errors import ArgumentError, CheckpointError
from ssd.images.decode import as_image
from ssd.images.preprocess import preprocess_batch
from ssd.inference import tiling
from ssd.inference.detections import READABLE_SCORE, Detections
from ssd.inference.runtime.facts import Graph, is_graph, join, narrow, stack
from ssd.inference.runtime.open import Runtime, choose_backend, open_graph, open_runtime
from ssd.inference.tiling import Tiles
from ssd.model.factory import from_settings
from ssd.multibox.default_boxes import default_boxes
from ssd.multibox.postprocess import postprocess
from ssd.settings import SIGMA_REMEDY, Postprocessing, Settings, can_be_sigma
from ssd.structures import BatchDetections, ImageDetections, Predictions
from ssd.weights.hub import fetch_from_hub, is_hub_address
from ssd.weights.resolve import read_weights

Image = UInt8[np.ndarray, "_ _ 3"]


class Detector:
    """A network with all it takes to use it: preprocessing, default boxes, thresholds, class names.

    `preprocess`, `predict` and `postprocess` are the three steps; `detect` and `detect_batch` take them in one go. The
    network is copied: one that is being trained stays as it is.

    `device`: auto, cpu, cuda, cuda:1. `precision`: auto, fp32, bf16, fp16. `backend`: auto, torch, openvino. `auto` is
    the fastest that this machine has, though of backends it is torch here and `load` that chooses; fp32 gives a
    checkpoint's own numbers, bf16 moves scores by a percent or so.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: Settings,
        *,
        device: str = "auto",
        precision: str = "auto",
        backend: str = "auto",
    ) -> None:
        self.settings = settings
        self.runtime: Runtime | Graph = open_runtime(
            network, input_size=settings.network.input_size, device=device, precision=precision, backend=backend
        )
        self.default_boxes = default_boxes(settings.boxes).to(self.runtime.device)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.settings.class_names

    @property
    def input_size(self) -> int:
        """Side of the network's square input, in pixels."""
        return self.settings.network.input_size

    def preprocess(self, images: Sequence[Image]) -> Float[Tensor, "B 3 S S"]:
        """Resize and normalise images (uint8 RGB, any sizes) as these weights expect it."""
        return preprocess_batch(images, self.settings.preprocessing, self.input_size)

    def predict(self, images: Float[Tensor, "B 3 S S"]) -> Predictions:
        """Offsets and logits of every default box, float32, on the detector's device."""
        assert isinstance(self.runtime, Runtime)
        return self.runtime.predict(images)

    def postprocess(self, predictions: Predictions, **thresholds: float | int | None) -> BatchDetections:
        """Decode, threshold, suppress: boxes as fractions of each image.

        `thresholds` are score_threshold, iou_threshold, top_k, max_detections, box_voting; those left out or None are
        the weights' own.

        Raises:
            ArgumentError: a threshold out of its range.
            CheckpointError: the predictions are not finite.
        """
        rules = self._rules(thresholds)
        # One number per tensor tells: NaN and infinity survive a sum. Suppression would drop them without a word.
        if not bool(torch.isfinite(predictions.logits.sum() + predictions.offsets.sum())):
            raise CheckpointError(
                "the network's output is not finite",
                place=f"{self.runtime.backend} in {self.runtime.precision}",
                remedy="Are the weights damaged? If not, use precision='fp32'.",
            )
        return postprocess(predictions, self.default_boxes, rules, self.settings.boxes.variances)

    def detect(
        self,
        image: object,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        box_voting: float | None = None,
        tiles: Tiles | None = None,
        tile_overlap: float = 0.2,
        bgr: bool = False,
    ) -> Detections:
        """Find the objects in one image: a path, bytes, a PIL image or an array (uint8 RGB, or BGR with `bgr`).

        Without `score_threshold` you get all that the weights' own settings keep, which is meant for evaluation: many
        guesses from 0.01 on. `plot` and `save` then draw those from 0.5 on; with a threshold of yours they draw all.

        `box_voting` puts a box at the mean of those around it, weighed by the sigma given (0.05 is what training by
        default writes into the weights; 0: as it was predicted); see `ssd.multibox.voting`.

        `tiles` finds small objects in large images: a number for both sides, (rows, columns) or "auto" also searches
        that many parts of the image, which overlap by `tile_overlap` of their sides, and takes as many times longer;
        see `ssd.inference.tiling`.

        Raises:
            ImageError: not a image, or a damaged one.
            ArgumentError: a threshold out of its range.
        """
        return next(
            self.detect_stream(
                [image],
                1 if tiles is None else 8,
                score_threshold=score_threshold,
                iou_threshold=iou_threshold,
                max_detections=max_detections,
                box_voting=box_voting,
                tiles=tiles,
                tile_overlap=tile_overlap,
                bgr=bgr,
            )
        )

    def detect_batch(self, images: Iterable[object], batch_size: int = 8, **options: Any) -> list[Detections]:
        """Find the objects in many images, in their order; `options` as for `detect`."""
        return list(self.detect_stream(images, batch_size, **options))

    def detect_stream(
        self,
        images: Iterable[object],
        batch_size: int = 8,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        box_voting: float | None = None,
        tiles: Tiles | None = None,
        tile_overlap: float = 0.2,
        bgr: bool = False,
    ) -> Iterator[Detections]:
        """Like `detect_batch`, for more images than fit into memory: they are asked for one batch at a time."""
        if batch_size < 1:
            raise ArgumentError(f"{batch_size} is too small", place="batch_size", remedy="Use 1 or more.")
        thresholds = {
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
            "box_voting": box_voting,
        }
        self._rules(thresholds)  # before the first image is read
        draw_from = READABLE_SCORE if score_threshold is None else 0.0
        search = functools.partial(self._search, thresholds=thresholds)
        if tiles is not None:
            tiling.windows(1, 1, tiles, tile_overlap, self.input_size)  # wrong numbers are named before the first image
            search = functools.partial(self._search_tiles, tiles, tile_overlap, batch_size, thresholds)
        return self._stream(iter(images), batch_size, search, draw_from, bgr)

    def _search(self, images: Sequence[Image], thresholds: dict[str, Any]) -> Iterator[ImageDetections]:
        yield from self.postprocess(self.predict(self.preprocess(images)), **thresholds).to_images()

    def _search_tiles(
        self, tiles: Tiles, overlap: float, batch_size: int, thresholds: dict[str, Any], images: Sequence[Image]
    ) -> Iterator[ImageDetections]:
        rules = self._rules(thresholds)
        return tiling.search(
            lambda parts: list(self._search(parts, thresholds)),
            images,
            [tiling.windows(image.shape[0], image.shape[1], tiles, overlap, self.input_size) for image in images],
            batch_size,
            iou_threshold=rules.iou_threshold,
            max_detections=rules.max_detections,
        )

    def _stream(
        self,
        images: Iterator[object],
        batch_size: int,
        search: Callable[[Sequence[Image]], Iterator[ImageDetections]],
        draw_from: float,
        bgr: bool,
    ) -> Iterator[Detections]:
        while sources := list(islice(images, batch_size)):
            arrays = [as_image(source, bgr=bgr) for source in sources]
            for source, array, found in zip(sources, arrays, search(arrays), strict=True):
                height, width = array.shape[:2]
                yield Detections(
                    boxes=found.in_pixels(height, width).boxes,
                    scores=found.scores,
                    labels=found.labels,
                    class_names=self.class_names,
                    image_size=(height, width),
                    source=Path(source) if isinstance(source, str | Path) else array,
                    draw_from=draw_from,
                )

    def _rules(self, changes: dict[str, Any]) -> Postprocessing:
        """Take the weights' own thresholds with `changes` (None: no change), checked."""
        return checked_rules(self.settings.postprocessing, changes)

    def __repr__(self) -> str:
        network, runtime = self.settings.network, self.runtime
        kind = f"SSD{network.input_size} {network.backbone}, {self.settings.num_classes} classes"
        return f"<Detector: {kind}, {runtime.backend} {runtime.precision} on {runtime.device}>"


class ExportedDetector(Detector):
    """A detector whose three steps are computed within an exported graph.

    Suppression is in there too, so a graph gives what its export was told to keep: thresholds can be raised, not
    lowered. `predict` gives detections already, and `postprocess` filters them.
    """

    runtime: Graph

    def __init__(self, graph: Graph, class_names: Sequence[str] | None = None) -> None:
        settings = graph.facts.settings
        self.inside = settings.postprocessing
        if class_names is not None:
            if len(class_names) != settings.num_classes:
                problem = f"the graph has {settings.num_classes} classes, {len(class_names)} names were given"
                raise CheckpointError(problem, place="class_names", remedy="Leave them out: it knows its own.")
            settings = dataclasses.replace(settings, class_names=tuple(class_names))
        self.settings = settings
        self.runtime = graph
        self.default_boxes = default_boxes(settings.boxes)

    def preprocess(self, images: Sequence[Image]) -> list[UInt8[np.ndarray, "_ _ _ 3"]]:  # type: ignore[override]
        """Stack images as the graph takes them, resized if it does not do that itself."""
        return stack(images, self.runtime.facts)

    def predict(self, images: Sequence[UInt8[np.ndarray, "_ _ _ 3"]]) -> BatchDetections:  # type: ignore[override]
        """Detections by the rules inside the graph."""
        return join([self.runtime.find(batch) for batch in images])

    def postprocess(self, predictions: BatchDetections, **thresholds: float | int | None) -> BatchDetections:  # type: ignore[override]
        """Keep what `thresholds` keep.

        Raises:
            ArgumentError: a threshold that the graph cannot keep to.
            CheckpointError: the detections are not finite.
        """
        rules = self._rules(thresholds)
        if not bool(torch.isfinite(predictions.boxes.sum() + predictions.scores.sum())):
            raise CheckpointError("the graph's output is not finite", place=self.runtime.backend)
        return narrow(predictions, rules.score_threshold, rules.max_detections)

    def _rules(self, changes: dict[str, Any]) -> Postprocessing:
        rules, inside = super()._rules(changes), self.inside
        for name, possible in (
            ("score_threshold", rules.score_threshold >= inside.score_threshold),
            ("max_detections", rules.max_detections <= inside.max_detections),
            ("iou_threshold", rules.iou_threshold == inside.iou_threshold),
            ("top_k", rules.top_k == inside.top_k),
            ("box_voting", rules.box_voting == inside.box_voting),
        ):
            if not possible:
                problem = f"{getattr(rules, name)} is not possible: the graph was exported with {getattr(inside, name)}"
                remedy = f"Export again with --{name.replace('_', '-')}, or use the weights."
                raise ArgumentError(problem, place=name, remedy=remedy)
        return rules


def checked_rules(rules: Postprocessing, changes: dict[str, Any]) -> Postprocessing:
    """`rules` with `changes`, of which None is no change.

    Raises:
        ArgumentError: a number out of its range.
    """
    chosen = {name: value for name, value in changes.items() if value is not None}
    for name, value in chosen.items():
        if name == "box_voting" and not can_be_sigma(value):
            raise ArgumentError(f"{value} is out of range", place=name, remedy=SIGMA_REMEDY)
        if name in ("score_threshold", "iou_threshold") and not 0 <= value <= 1:
            raise ArgumentError(f"{value} is out of range", place=name, remedy="Use a number from 0 to 1.")
        if name in ("top_k", "max_detections") and value < 1:
            raise ArgumentError(f"{value} is too small", place=name, remedy="Use 1 or more.")
    return dataclasses.replace(rules, **chosen)


def load(
    source: str | Path = "coco",
    *,
    class_names: Sequence[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    trust: bool = False,
) -> Detector:
    """Make a detector of a weights file: ours, one of the known ports' checkpoints, or a run's folder (its best).

    `hf://owner/name[@revision][/file]` is a weights file in a Hugging Face repository, fetched once. An exported graph
    (`.onnx`, `.xml`, `.pt2`) gives a detector too, with preprocessing and suppression as exported.

    "coco", the default, is SSD300 with VGG16 trained on COCO, published by torchvision and fetched once.
    `class_names` names the classes of a checkpoint that does not say, or gives them other names. `backend="auto"` is
    OpenVINO on a CPU where it is installed and the network is large, else PyTorch. `trust` allows a `.pt2`: loading
    one can run code.

    Raises:
        CheckpointError: missing, damaged, of an unknown kind, or for another number of classes.
        DownloadError: weights that are not on this machine cannot be fetched.
    """
    if is_hub_address(source):
        source = fetch_from_hub(str(source))
    if is_graph(source):
        graph = open_graph(source, device=device, precision=precision, backend=backend, trust=trust)
        return ExportedDetector(graph, class_names)
    network, settings = load_network(source, class_names)
    if backend == "auto" and precision in ("auto", "fp32", "bf16"):
        backend = choose_backend(network, device=device)
    return Detector(network, settings, device=device, precision=precision, backend=backend)


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


def detect(image: object, **options: Any) -> Detections:
    """Find the objects in one image with the default detector, loaded at the first call; see `Detector.detect`."""
    return _default_detector().detect(image, **options)


@functools.cache
def _default_detector() -> Detector:
    return load()
