"""The detector of a plain graph: images in, the `Detections` of `ssd.load` out."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from ssd.errors import CheckpointError, at_least
from ssd.images.any_image import as_image
from ssd.images.resize import resize_8bit, resize_floats
from ssd.inference.detections import Detections
from ssd.inference.image_lists import each_image, groups
from ssd.inference.options import named_options
from ssd.light.engines import Engine, open_engine
from ssd.light.plain_file import PlainFacts, read_facts
from ssd.light.suppression import select
from ssd.rules import READABLE_SCORE, Postprocessing, ScoreThreshold

log = logging.getLogger(__name__)


class LightDetector:
    """A plain graph with its resize rule, thresholds and class names.

    `engine` is a function from images, float32 RGB (B, 3, S, S) from 0 to 255, to boxes (B, K, 4) and scores
    (B, K, C): what `load` opens, or any other runtime that computes the graph.
    """

    def __init__(self, facts: PlainFacts, engine: Engine, backend: str = "own") -> None:
        self.facts, self.backend = facts, backend
        self._engine = engine

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.facts.class_names

    @property
    def input_size(self) -> int:
        """Side of the graph's square input, in pixels."""
        return self.facts.input_size

    def preprocess(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "B 3 S S"]:
        """Resize images (uint8 RGB, any sizes) by the rule of the weights, to the input of the graph."""
        size, rule = self.input_size, self.facts.resize
        if rule == "float":
            squares = [resize_floats(image, size) for image in images]
        else:
            squares = [resize_8bit(image, size, rule).astype(np.float32) for image in images]  # type: ignore[arg-type]
        return np.ascontiguousarray(np.stack(squares).transpose(0, 3, 1, 2))

    @named_options
    def detect(
        self,
        image: object,
        *,
        score_threshold: ScoreThreshold | None = None,
        iou_threshold: float | None = None,
        top_k: int | None = None,
        max_detections: int | None = None,
        box_voting: float | None = None,
        bgr: bool = False,
    ) -> Detections:
        """Find the objects in one image: a path, bytes, a PIL image or an array (uint8 RGB, or BGR with `bgr`).

        Weights trained with `preprocessing.depth` also take arrays of other numbers, such as uint16.
        The options are those of `ssd.Detector.detect`; None is the weights' own number.

        Raises:
            ImageError: not an image, or a damaged one.
            ArgumentError: a threshold out of its range.
        """
        rules = self._rules(
            score_threshold,
            iou_threshold=iou_threshold,
            top_k=top_k,
            max_detections=max_detections,
            box_voting=box_voting,
        )
        return next(self._found([image], rules, self._draw_from(score_threshold), bgr))

    __call__ = detect

    @named_options
    def detect_batch(
        self,
        images: Iterable[object],
        batch_size: int = 8,
        *,
        score_threshold: ScoreThreshold | None = None,
        iou_threshold: float | None = None,
        top_k: int | None = None,
        max_detections: int | None = None,
        box_voting: float | None = None,
        bgr: bool = False,
    ) -> list[Detections]:
        """Find the objects in many images, in their order; the options are those of `detect`."""
        at_least(1, batch_size=batch_size)
        rules = self._rules(
            score_threshold,
            iou_threshold=iou_threshold,
            top_k=top_k,
            max_detections=max_detections,
            box_voting=box_voting,
        )
        draw_from = self._draw_from(score_threshold)
        return [
            found
            for sources in groups(each_image(images), batch_size)
            for found in self._found(sources, rules, draw_from, bgr)
        ]

    def _rules(self, score_threshold: ScoreThreshold | None, **numbers: object) -> Postprocessing:
        return self.facts.postprocessing.with_threshold(score_threshold, self.class_names).changed(**numbers)

    def _draw_from(self, score_threshold: ScoreThreshold | None) -> float | tuple[float, ...]:
        own = self.facts.postprocessing.own_thresholds
        return (own or READABLE_SCORE) if score_threshold is None else 0.0

    def _found(
        self, sources: Sequence[object], rules: Postprocessing, draw_from: float | tuple[float, ...], bgr: bool
    ) -> Iterator[Detections]:
        arrays = [as_image(source, bgr=bgr, depth=self.facts.depth) for source in sources]
        all_boxes, all_scores = self._engine(self.preprocess(arrays))
        if not math.isfinite(float(all_boxes.sum()) + float(all_scores.sum())):
            raise CheckpointError("the graph's output is not finite", place=self.backend)
        for source, array, boxes, scores in zip(sources, arrays, all_boxes, all_scores, strict=True):
            height, width = array.shape[:2]
            fractions, values, labels = select(boxes, scores, rules)
            yield Detections(
                boxes=fractions * np.array([width, height, width, height], np.float32),
                scores=values,
                labels=labels.astype(np.int64),
                class_names=self.class_names,
                image_size=(height, width),
                source=Path(source) if isinstance(source, str | Path) else array,
                draw_from=draw_from,
                depth=self.facts.depth,
            )

    def __repr__(self) -> str:
        return f"<LightDetector: SSD{self.input_size}, {len(self.class_names)} classes, {self.backend}>"


@named_options
def load(path: str | Path, *, backend: str = "auto", threads: int | None = None) -> LightDetector:
    """Load a detector from a graph that `ssd export RUN --format onnx --plain` wrote. PyTorch is not needed.

    `backend`: onnxruntime or opencv; auto is ONNX Runtime where it is installed. `threads`: None leaves it to the
    engine; OpenCV's number counts for the whole process.

    Raises:
        CheckpointError: missing, damaged, or no plain graph.
        ArgumentError, MissingExtraError: a backend that is unknown or not installed.
    """
    at_least(1, threads=threads)
    path = Path(path)
    facts = read_facts(path)
    if facts.tiled:
        log.warning(
            "%s: trained on tiles, but ssd.light searches whole images; ssd.load of its weights searches tiles", path
        )
    engine, name = open_engine(path, backend, threads)
    return LightDetector(facts, engine, name)
