"""The rules in NumPy are those of `ssd.multibox.postprocess`."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from ssd.boxes import REACH
from ssd.light import suppression
from ssd.multibox import voting
from ssd.multibox.coder import decode
from ssd.multibox.postprocess import postprocess
from ssd.rules import Postprocessing
from ssd.structures import Predictions

VARIANCES = (0.1, 0.1, 0.2, 0.2)


def test_the_numbers_are_those_of_the_code_with_pytorch() -> None:
    numbers = (suppression.VOTERS, suppression.LEAST_SCORE, suppression.REACH)
    assert numbers == (voting.VOTERS, voting.LEAST_SCORE, REACH)


@pytest.mark.parametrize("count", [1, 3, 90])
@pytest.mark.parametrize(
    "rules",
    [
        Postprocessing(),
        Postprocessing(clip="before", iou_threshold=0.6),
        Postprocessing(box_voting=0.05),
        Postprocessing(box_voting=0.05, clip="before", max_detections=5),
        Postprocessing(top_k=3, score_threshold=0.0),
        Postprocessing(max_detections=1000, score_threshold=0.2, iou_threshold=0.05),
        Postprocessing(score_threshold=0.999),
    ],
    ids=str,
)
@pytest.mark.parametrize("spread", [2.0, 0.0])
def test_the_detections_are_those_of_postprocess(rules: Postprocessing, count: int, spread: float) -> None:
    """With a spread of 0 all scores tie, and their order decides."""
    torch.manual_seed(count)
    corners = torch.rand(500, 2, 2).sort(dim=1).values
    boxes = torch.cat([corners[:, 0], corners[:, 1] + 0.02], dim=1)
    offsets, logits = torch.randn(2, 500, 4), spread * torch.randn(2, 500, count + 1)
    expected = postprocess(Predictions(offsets, logits), boxes, rules, VARIANCES).to_images()
    decoded, scores = decode(offsets, boxes, VARIANCES).numpy(), logits.softmax(-1).numpy()
    for image, theirs in enumerate(expected):
        found, values, labels = suppression.select(decoded[image], scores[image], rules)
        np.testing.assert_array_equal(labels, theirs.labels)
        np.testing.assert_allclose(values, theirs.scores, atol=1e-7)
        np.testing.assert_allclose(found, theirs.boxes, atol=1e-6)


def test_no_candidate_gives_no_detection() -> None:
    boxes, scores = np.zeros((8, 4), np.float32), np.eye(8, 3, dtype=np.float32)[np.zeros(8, int)]
    found, values, labels = suppression.select(boxes, scores, Postprocessing())
    assert (found.shape, values.shape, labels.shape) == ((0, 4), (0,), (0,))


def test_worked_example() -> None:
    """Two boxes of one class that overlap by 0.6, and the same place in another class."""
    boxes = np.array([[0, 0, 0.8, 1], [0.2, 0, 1, 1], [0, 0, 0.8, 1]], np.float32)
    scores = np.array([[0.2, 0.8, 0.0], [0.3, 0.7, 0.0], [0.5, 0.0, 0.5]], np.float32)
    rules: Any = Postprocessing()
    _, values, labels = suppression.select(boxes, scores, rules)
    np.testing.assert_allclose(values, [0.8, 0.5])
    assert labels.tolist() == [0, 1]
    _, values, labels = suppression.select(boxes, scores, dataclasses.replace(rules, iou_threshold=0.61))
    assert labels.tolist() == [0, 0, 1]


def test_classes_below_their_own_threshold_take_no_place_among_the_detections_kept():
    boxes = np.array([[0, 0, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3], [0.5, 0.5, 0.6, 0.6]], np.float32)
    scores = np.array([[0.2, 0.8, 0.0], [0.3, 0.7, 0.0], [0.9, 0.0, 0.1]], np.float32)
    rules = Postprocessing(max_detections=1, class_thresholds=(0.9, 0.05))
    _, values, labels = suppression.select(boxes, scores, rules)
    assert (labels.tolist(), values.tolist()) == ([1], pytest.approx([0.1]))
