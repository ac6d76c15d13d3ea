"""What every detector, every data set and every metric must do, whoever wrote it.

check_detector(detector, images)      everything that `ssd.load` gives: weights, graphs, any runtime
check_evaluation(detector, dataset)   whatever `evaluate` takes, an `Oracle` that knows the answers included
check_dataset(dataset)                one split of any format
check_metric(make)                    make(records, class_names) -> an empty metric
"""

import hashlib
import json
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from ssd.errors import ArgumentError, EvaluationError, ImageError
from ssd.evaluation.evaluate import EvaluatedData, EvaluatedDetector, Evaluation, evaluate
from ssd.evaluation.metrics.accumulator import Metric
from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.metrics.voc import VocMetric
from ssd.inference.detections import Detections
from ssd.structures import BatchDetections, ImageDetections, Record
from tests.evaluation.metrics.made import hand_in, random_case, record

# Detectors


def check_detector(detector: Any, images: Sequence[np.ndarray]) -> None:
    """`detect`, `detect_batch` and their thresholds; the detector must find something in every image."""
    before = [image.copy() for image in images]
    together = detector.detect_batch(images, 2)
    assert len(together) == len(images)
    for image, found in zip(images, together, strict=True):
        assert len(found) > 0, "the contract needs images in which something is found"
        _check_detections(found, image, detector.class_names)
        _check_equal(detector.detect(image), found)
    for found, again in zip(together, detector.detect_batch(iter(images), len(images)), strict=True):
        _check_equal(again, found)
    assert detector.detect_batch([]) == []
    assert all(np.array_equal(image, copy) for image, copy in zip(images, before, strict=True))
    _check_thresholds(detector, images[0], together[0].scores)
    with pytest.raises(ImageError):
        detector.detect(images[0].astype(np.int64))


def _check_detections(found: Detections, image: np.ndarray, class_names: Sequence[str]) -> None:
    height, width = image.shape[:2]
    assert found.image_size == (height, width)
    assert found.boxes.shape == (len(found), 4)
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)
    assert (found.boxes >= 0).all()  # which NaN is not
    assert (found.boxes <= [width, height, width, height]).all()
    assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all()
    assert ((found.scores > 0) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all(), "best first"
    assert list(found.names) == [class_names[label] for label in found.labels]


def _check_equal(found: Detections, expected: Detections) -> None:
    """Two runs; detections whose scores are as good as equal may change places."""
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    for box, label in zip(found.boxes, found.labels, strict=True):
        assert np.abs(expected.boxes[expected.labels == label] - box).max(axis=1).min(initial=np.inf) < 0.05


def _check_thresholds(detector: Any, image: np.ndarray, scores: np.ndarray) -> None:
    """`scores` are those of the image without thresholds."""
    gaps = np.flatnonzero(scores[:-1] - scores[1:] > 1e-3)
    last = int(gaps[len(gaps) // 2])  # the last one above the threshold
    threshold = float(scores[last] + scores[last + 1]) / 2
    np.testing.assert_allclose(detector.detect(image, score_threshold=threshold).scores, scores[: last + 1], atol=1e-4)
    np.testing.assert_allclose(detector.detect(image, max_detections=1).scores, scores[:1], atol=1e-4)
    assert len(detector.detect(image, score_threshold=1.0)) == 0
    for wrong in ({"score_threshold": 1.5}, {"iou_threshold": -0.1}, {"max_detections": 0}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            detector.detect(image, **wrong)


def check_evaluation(detector: EvaluatedDetector, dataset: EvaluatedData) -> Evaluation:
    """One pass gives the same figures in batches of any size; returns them."""
    assert isinstance(detector, EvaluatedDetector)
    results = []
    for batch_size, workers in ((1, 0), (3, 2)):
        metrics = [kind(dataset.records, dataset.class_names) for kind in (CocoMetric, VocMetric)]
        result = evaluate(detector, dataset, *metrics, batch_size=batch_size, workers=workers, progress=False)
        assert result is not None
        assert result.images == len(dataset.records)
        assert result.metrics == result.by_metric["coco"]
        results.append(result)
    for name in ("coco", "voc"):
        ours, again = (result.by_metric[name]["AP"] for result in results)
        assert again == pytest.approx(ours, abs=1e-6)
    return results[0]


class Oracle:
    """A detector that recognises the images of a data set and says what is in them; nothing in others."""

    def __init__(self, dataset: EvaluatedData) -> None:
        self.class_names = tuple(dataset.class_names)
        self._truth = {_digest(dataset.load(i).image): record for i, record in enumerate(dataset.records)}

    def preprocess(self, images: Sequence[np.ndarray]) -> list[Record | None]:
        return [self._truth.get(_digest(image)) for image in images]

    def predict(self, images: list[Record | None]) -> list[Record | None]:
        return images

    def postprocess(self, predictions: list[Record | None], rules: object = None) -> BatchDetections:
        boxes = [torch.zeros(0, 4) if item is None else _as_fractions(item) for item in predictions]
        labels = [torch.zeros(0).long() if item is None else torch.from_numpy(item.labels) for item in predictions]
        padded = [pad_sequence(rows, batch_first=True) for rows in (boxes, [torch.ones(len(b)) for b in boxes], labels)]
        return BatchDetections(*padded, torch.tensor([len(rows) for rows in boxes]))


def _as_fractions(item: Record) -> torch.Tensor:
    return torch.from_numpy(item.boxes) / torch.tensor([item.width, item.height] * 2)


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()


# Data sets


def check_dataset(dataset: Any) -> None:
    """Records, class names and images of one split."""
    names = dataset.class_names
    assert len(dataset) == len(dataset.records) > 0
    assert len(set(names)) == len(names) == len(set(dataset.category_ids)) > 0
    assert all(isinstance(name, str) and name for name in names)
    ids = [item.image_id for item in dataset.records]
    assert len(set(ids)) == len(ids)
    for index, item in enumerate(dataset.records):
        _check_record(item, len(names))
        _check_sample(dataset, index)
    copied = pickle.loads(pickle.dumps(dataset))  # the way to a worker process
    assert copied.records[0].image_id == ids[0]
    assert np.array_equal(copied.load(0).image, dataset.load(0).image)
    perfect = check_evaluation(Oracle(dataset), dataset)
    for figures in perfect.by_metric.values():
        assert figures["AP"] in (None, pytest.approx(1.0)), "None where no object counts"


def _check_record(item: Record, classes: int) -> None:
    count = len(item.labels)
    assert item.boxes.shape == (count, 4)
    assert (item.boxes.dtype, item.labels.dtype) == (np.float32, np.int64)
    assert (item.boxes >= 0).all()
    assert (item.boxes <= [item.width, item.height, item.width, item.height]).all()
    assert (item.boxes[:, :2] < item.boxes[:, 2:]).all()
    assert ((item.labels >= 0) & (item.labels < classes)).all()
    assert (item.difficult.dtype, item.crowd.dtype) == (bool, bool)
    assert len(item.difficult) == len(item.crowd) == len(item.areas) == count
    assert (item.areas > 0).all()


def _check_sample(dataset: Any, index: int) -> None:
    item, sample = dataset.records[index], dataset.load(index)
    assert sample.image.shape == (item.height, item.width, 3)
    assert sample.image.dtype == np.uint8
    assert (sample.image_id, sample.path, sample.shrink) == (item.image_id, item.path, 1)
    for name in ("boxes", "labels", "difficult", "crowd"):
        assert np.array_equal(getattr(sample, name), getattr(item, name))
    assert np.array_equal(dataset.load(index).image, sample.image)
    smaller = dataset.load(index, 2)
    assert smaller.image.shape == (-(-item.height // smaller.shrink), -(-item.width // smaller.shrink), 3)
    assert np.array_equal(smaller.boxes, item.boxes), "boxes stay in pixels of the whole image"


# Metrics

MakeMetric = Callable[[Sequence[Record], Sequence[str]], Metric]
NAMES = ("a", "b", "c")


def check_metric(make: MakeMetric) -> None:
    """Perfect detections, none at all, those in between, and what must be refused."""
    records, detections = random_case(0, images=20)
    metric = make(records, NAMES)
    assert isinstance(metric, Metric)
    assert metric.records == tuple(records)
    figures = hand_in(metric, detections).compute()
    assert 0 < figures[metric.headline] < 1
    assert json.loads(json.dumps(figures, allow_nan=False)) == metric.compute() == figures, "plain, and the same twice"
    reversed_ = hand_in(make(records, NAMES), dict(reversed(detections.items())))
    assert reversed_.compute() == figures, "the order of images does not matter"
    assert hand_in(metric.fresh(records), detections).compute() == figures
    _check_ends(make, records)
    _check_refusals(make)


def _check_ends(make: MakeMetric, records: Sequence[Record]) -> None:
    headline = make(records, NAMES).headline
    nothing = ImageDetections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert hand_in(make(records, NAMES), {item.image_id: nothing for item in records}).compute()[headline] == 0
    perfect = make(records, NAMES)
    for item in records:
        counted = ~(item.crowd | item.difficult)
        scores = np.ones(int(counted.sum()), np.float32)
        perfect.update(item.image_id, ImageDetections(item.boxes[counted], scores, item.labels[counted]))
    assert perfect.compute()[headline] == pytest.approx(1)
    assert make([], NAMES).compute()[headline] is None
    assert hand_in(make([record(1)], NAMES), {1: nothing}).compute()[headline] is None


def _check_refusals(make: MakeMetric) -> None:
    def one(score: float = 0.5, label: int = 0, left: float = 10) -> ImageDetections:
        box = np.array([[left, 10, 50, 50]], np.float32)
        return ImageDetections(box, np.array([score], np.float32), np.array([label], np.int64))

    records = [record(1, [(10, 10, 50, 50)], [0]), record(2)]
    for found, problem in (
        (one(score=float("nan")), "image 1: 1 of 1 .* not finite"),
        (one(left=float("inf")), "image 1: 1 of 1 .* not finite"),
        (one(label=3), r"image 1: label 3 is outside 0\.\.2"),
        (one(label=-1), r"image 1: label -1 is outside 0\.\.2"),
    ):
        with pytest.raises(EvaluationError, match=problem):
            make(records, NAMES).update(1, found)
    metric = make(records, NAMES)
    with pytest.raises(EvaluationError, match="no such image"):
        metric.update("elsewhere", one())
    metric.update(1, one())
    with pytest.raises(EvaluationError, match="handed in twice"):
        metric.update(1, one())
    with pytest.raises(EvaluationError, match="1 of 2 images were never handed in, first 2"):
        metric.compute()
    with pytest.raises(EvaluationError, match="occur twice"):
        make([record(1), record(1)], NAMES)
