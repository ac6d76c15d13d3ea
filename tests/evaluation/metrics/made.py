"""Ground truth and detections made by hand or by a seed."""

from collections.abc import Sequence

import numpy as np

from ssd.evaluation.metrics.accumulator import Metric
from ssd.structures import ImageDetections, Record


def record(
    image_id: int | str,
    boxes: Sequence[Sequence[float]] = (),
    labels: Sequence[int] = (),
    *,
    difficult: Sequence[bool] | None = None,
    crowd: Sequence[bool] | None = None,
) -> Record:
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    count = len(corners)
    return Record(
        path=f"{image_id}.jpg",
        image_id=image_id,
        width=200,
        height=200,
        boxes=corners,
        labels=np.array(labels, dtype=np.int64),
        difficult=np.zeros(count, bool) if difficult is None else np.array(difficult, bool),
        crowd=np.zeros(count, bool) if crowd is None else np.array(crowd, bool),
        areas=(corners[:, 2:] - corners[:, :2]).prod(axis=1).astype(np.float32),
    )


def found(*rows: tuple[Sequence[float], float, int]) -> ImageDetections:
    """Rows of (box, score, label)."""
    return ImageDetections(
        np.array([row[0] for row in rows], dtype=np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], dtype=np.float32),
        np.array([row[2] for row in rows], dtype=np.int64),
    )


def hand_in(metric: Metric, detections: dict[int | str, ImageDetections]) -> Metric:
    for image_id, in_image in detections.items():
        metric.update(image_id, in_image)
    return metric


def random_boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Whole-number coordinates, so that ties and exact thresholds happen."""
    low = generator.integers(0, 150, (count, 2))
    return np.concatenate([low, low + generator.integers(4, 50, (count, 2))], axis=1).astype(np.float32)


def random_case(
    seed: int, images: int = 12, classes: int = 3, *, special: bool = True
) -> tuple[list[Record], dict[int | str, ImageDetections]]:
    """Detections near the objects, far from them, of wrong classes and twice; some objects difficult or crowd."""
    generator = np.random.default_rng(seed)
    records, detections = [], {}
    for number in range(images):
        objects = int(generator.integers(0, 7))
        boxes, labels = random_boxes(generator, objects), generator.integers(0, classes, objects)
        difficult = special & (generator.random(objects) < 0.2)
        crowd = special & ~difficult & (generator.random(objects) < 0.1)
        records.append(record(number * 10, boxes.tolist(), labels.tolist(), difficult=difficult, crowd=crowd))
        near = np.repeat(boxes, 2, axis=0) + generator.integers(-6, 7, (2 * objects, 4)).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        far = random_boxes(generator, int(generator.integers(0, 5)))
        near_labels = np.repeat(labels, 2)
        wrong = generator.random(len(near_labels)) < 0.2
        near_labels[wrong] = generator.integers(0, classes, int(wrong.sum()))
        all_labels = np.concatenate([near_labels, generator.integers(0, classes, len(far))]).astype(np.int64)
        scores = (generator.integers(1, 20, len(all_labels)) / 20).astype(np.float32)
        detections[number * 10] = ImageDetections(np.concatenate([near, far]), scores, all_labels)
    return records, detections
