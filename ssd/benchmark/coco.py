"""The evaluation stage: COCO's figures from faster-coco-eval and from pycocotools."""

import math
from typing import Any

import numpy as np

from ssd.benchmark.fixtures import Fixtures
from ssd.benchmark.timing import Comparison, DisagreementError, UnavailableError
from ssd.errors import MissingExtraError
from ssd.evaluation.metrics.coco import Backend, CocoMetric
from ssd.structures import ImageDetections, Record

_CLASSES = 80
_GUESSES = 100  # detections per image
_CHECKED = 300  # images on which both must agree before the timing
_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def coco_eval(fixtures: Fixtures) -> Comparison:
    """Evaluate synthetic detections: in each image the objects and many false alarms."""
    generator = np.random.default_rng(4)
    records = [_record(generator, index, fixtures.sizes.objects) for index in range(fixtures.sizes.eval_images)]
    guesses = [_guesses(generator, record) for record in records]
    try:
        _figures("fast", records[:1], guesses[:1])
    except MissingExtraError as error:
        raise UnavailableError(str(error)) from None

    def ours() -> dict[str, Any]:
        return _figures("fast", records, guesses)

    def theirs() -> dict[str, Any]:
        return _figures("pycocotools", records, guesses)

    def check() -> str:
        some = records[:_CHECKED], guesses[:_CHECKED]
        mine, other = _figures("fast", *some), _figures("pycocotools", *some)
        for name in _FIGURES:
            if not math.isclose(mine[name], other[name], abs_tol=1e-9):
                raise DisagreementError(f"{name}: {mine[name]} and {other[name]}")
        return f"AP {mine['AP']:.4f} on {len(some[0])} of {len(records)} images, all twelve figures equal"

    return Comparison(ours, theirs, check, pairs=3)


def _figures(backend: Backend, records: list[Record], guesses: list[tuple[Any, Any, Any]]) -> dict[str, Any]:
    metric = CocoMetric(records, [f"class_{label}" for label in range(_CLASSES)], backend=backend)
    for record, columns in zip(records, guesses, strict=True):
        metric.update(record.image_id, ImageDetections(*columns))
    return metric.compute()


def _record(generator: np.random.Generator, index: int, objects: int) -> Record:
    count = int(generator.integers(1, 2 * objects))
    boxes = _boxes(generator, count)
    return Record(
        path=f"{index}.jpg",
        image_id=index,
        width=640,
        height=480,
        boxes=boxes,
        labels=generator.integers(0, _CLASSES, count),
        difficult=np.zeros(count, bool),
        crowd=np.zeros(count, bool),
        areas=((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).astype(np.float32),
    )


def _guesses(generator: np.random.Generator, record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections of one image: each object, a little displaced, and random boxes up to the usual number."""
    found = record.boxes + generator.normal(0, 3, record.boxes.shape)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    noise = max(0, _GUESSES - len(found))
    boxes = np.concatenate([found, _boxes(generator, noise)]).astype(np.float32)
    scores = np.concatenate([generator.uniform(0.2, 1, len(found)), generator.uniform(0.01, 0.4, noise)])
    labels = np.concatenate([record.labels, generator.integers(0, _CLASSES, noise)])
    return boxes, scores.astype(np.float32), labels


def _boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    sides = generator.uniform(8, 200, (count, 2))
    corner = generator.uniform(0, 1, (count, 2)) * ([640, 480] - sides)
    boxes: np.ndarray = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
    return boxes
