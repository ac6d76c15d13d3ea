"""The detector: finds objects in images."""

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ssd.errors import ArgumentError, at_least
from ssd.inference.detections import Detections
from ssd.inference.image_lists import each_image
from ssd.inference.options import named_options
from ssd.inference.pipelines import Image, Pipeline
from ssd.inference.stream import Found, Search, search_all
from ssd.multibox.default_boxes import default_boxes
from ssd.rules import READABLE_SCORE, ScoreThreshold
from ssd.settings import Postprocessing, Settings
from ssd.structures import BatchDetections
from ssd.tiles import OVERLAP, Tiles, has_tiles, windows


class Detector:
    """Weights with their preprocessing, default boxes, thresholds and class names.

    `preprocess`, `predict` and `postprocess` are the three steps of the pipeline; `detect`, `detect_batch` and
    `detect_stream` do all three, and calling the detector is `detect`. It can be pickled and copied, but not forked.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._process = os.getpid()

    @property
    def settings(self) -> Settings:
        """Everything but the weights."""
        return self.pipeline.settings

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.settings.class_names

    @property
    def input_size(self) -> int:
        """Side of the network's square input, in pixels."""
        return self.settings.network.input_size

    @property
    def backend(self) -> str:
        """The runtime: torch, openvino or onnx."""
        return self.pipeline.backend

    @property
    def precision(self) -> str:
        """The precision of the layers: fp32, bf16, fp16 or int8."""
        return self.pipeline.precision

    @property
    def device(self) -> str:
        """The device of the network: cpu, cuda, cuda:1."""
        return self.pipeline.device

    @functools.cached_property
    def default_boxes(self) -> Float[Tensor, "K 4"]:
        """The default boxes, on the CPU, as fractions of the image."""
        return default_boxes(self.settings.boxes)

    def rules(
        self,
        *,
        score_threshold: ScoreThreshold | None = None,
        iou_threshold: float | None = None,
        top_k: int | None = None,
        max_detections: int | None = None,
        box_voting: float | None = None,
    ) -> Postprocessing:
        """The settings of the post-processing, with the given numbers in place of the weights' own.

        `score_threshold` is a number, "own" (the thresholds for each class that `ssd eval --set-thresholds` chose), or
        numbers by class name: {"WBC": 0.3}; the other classes keep their own, or 0.5 where there are none.

        Raises:
            ArgumentError: a number is out of its range, or an exported graph cannot change it.
        """
        rules = self.settings.postprocessing.with_threshold(score_threshold, self.class_names).changed(
            iou_threshold=iou_threshold,
            top_k=top_k,
            max_detections=max_detections,
            box_voting=box_voting,
        )
        self.pipeline.check_rules(rules)
        return rules

    def preprocess(self, images: Sequence[Image]) -> Any:
        """Convert images (uint8 RGB, any sizes) to the input of `predict`.

        For a network (B, 3, S, S): normalised floats, or on CUDA uint8, which `predict` normalises there.
        """
        self._check_process()
        return self.pipeline.preprocess(images)

    def predict(self, inputs: Any) -> Any:
        """Run the network: `Predictions`, or the `BatchDetections` of an exported graph."""
        self._check_process()
        return self.pipeline.predict(inputs)

    def postprocess(self, predictions: Any, rules: Postprocessing | None = None) -> BatchDetections:
        """Select the detections, with boxes as fractions of each image, by `rules` or by the weights' own; on the host.

        Raises:
            ArgumentError: an exported graph cannot apply these rules.
            CheckpointError: the predictions are not finite.
        """
        self._check_process()
        return self.pipeline.postprocess(predictions, self.settings.postprocessing if rules is None else rules)

    @named_options
    def detect(
        self,
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
        """Find the objects in one image: a path, bytes, a PIL image or an array (uint8 RGB, or BGR with `bgr`).

        Weights trained with `preprocessing.depth` also take arrays of other numbers, such as uint16.

        Without `score_threshold` the threshold is that of the weights, mostly 0.01, which is meant for evaluation and
        keeps many false detections. `plot` and `save` then draw those above the weights' own thresholds, or from 0.5 on
        where the weights have none; with a threshold they draw all. A threshold is a number, "own" (the weights' own,
        see `ssd eval --set-thresholds`) or numbers by class name, {"WBC": 0.3}: other classes keep their own, or 0.5.

        `box_voting` averages each detection with its neighbours, weighted by a Gaussian of 1 - IoU with this sigma
        (0.1 is what training by default writes into the weights); 0 turns it off. See `ssd.multibox.voting`.

        `tiles` finds small objects in large images: a number for both sides, (rows, columns) or "auto" also searches
        that many parts of the image, which overlap by `tile_overlap` of their sides, and takes as many times longer;
        see `ssd.inference.tiling`. None: as many as training had (`data.tiles`), mostly 1: the whole image alone.

        Raises:
            ImageError: not an image, or a damaged one.
            ArgumentError: a threshold out of its range, or a detector that another process has loaded.
        """
        return next(
            self.detect_stream(
                [image],
                8 if has_tiles(self.settings.tiles if tiles is None else tiles) else 1,
                score_threshold=score_threshold,
                iou_threshold=iou_threshold,
                max_detections=max_detections,
                box_voting=box_voting,
                tiles=tiles,
                tile_overlap=tile_overlap,
                bgr=bgr,
            )
        )

    __call__ = detect

    @named_options
    def detect_batch(
        self,
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
        """Find the objects in many images, in their order; the options are those of `detect`."""
        return list(
            self.detect_stream(
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
        self,
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
        """Like `detect_batch`, for more images than fit into memory: they are read one batch at a time.

        On a GPU the next batch is read meanwhile, in threads, if `batch_size` is more than 1. A CPU then computes
        several images at once, each on one core or a few: cores that share an image wait for each other at every layer.
        """
        self._check_process()
        at_least(1, batch_size=batch_size)
        rules = self.rules(
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
            box_voting=box_voting,
        )
        tiles = self.settings.tiles if tiles is None else tiles
        windows(1, 1, tiles, tile_overlap, self.input_size)  # checks the arguments before the first image
        own = self.settings.postprocessing.own_thresholds
        draw_from = (own or READABLE_SCORE) if score_threshold is None else 0.0
        search = Search(rules, tiles, tile_overlap, bgr)
        return self._stream(search_all(self.pipeline, each_image(images), batch_size, search), draw_from)

    def for_throughput(self) -> "tuple[Detector, int]":
        """This detector made for many images, and how many threads should call it at once; 1: itself."""
        pipeline, callers = self.pipeline.for_throughput()
        return (self, 1) if callers == 1 else (Detector(pipeline), callers)

    def _stream(self, searched: Iterator[Found], draw_from: float | tuple[float, ...]) -> Iterator[Detections]:
        self._check_process()
        for batch, results in searched:
            for source, array, found in zip(batch.sources, batch.arrays, results, strict=True):
                height, width = array.shape[:2]
                yield Detections(
                    boxes=found.in_pixels(height, width).boxes,
                    scores=found.scores,
                    labels=found.labels,
                    class_names=self.class_names,
                    image_size=(height, width),
                    source=Path(source) if isinstance(source, str | Path) else array,
                    draw_from=draw_from,
                    depth=self.settings.preprocessing.depth,
                )
                self._check_process()

    def _check_process(self) -> None:
        """Raise an error in a forked process, which lacks the compute threads and would wait for them forever."""
        if os.getpid() != self._process:
            problem = f"was loaded in process {self._process} and does not work in its fork {os.getpid()}"
            remedy = "Start processes by multiprocessing.get_context('spawn'), and load it there or hand it over."
            raise ArgumentError(problem, place="detector", remedy=remedy)

    def __getstate__(self) -> dict[str, Any]:
        self._check_process()
        return {"pipeline": self.pipeline}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.pipeline, self._process = state["pipeline"], os.getpid()

    def __repr__(self) -> str:
        network = self.settings.network
        kind = f"SSD{network.input_size} {network.backbone}, {self.settings.num_classes} classes"
        return f"<Detector: {kind}, {self.backend} {self.precision} on {self.device}>"
