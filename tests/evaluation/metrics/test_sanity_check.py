import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from ssd.errors import EvaluationError
from ssd.evaluation.metrics.accumulator import Metric, annotation_hash
from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.metrics.error_breakdown import ErrorBreakdown
from ssd.evaluation.metrics.sanity_check import sanity_check
from ssd.evaluation.metrics.voc import VocMetric
from ssd.structures import ImageDetections, Record
from tests.evaluation.metrics.made import random_case, record

A, B = (10, 10, 50, 50), (60, 60, 100, 100)
NAMES = ["a", "b", "c"]


MakeMetric = Callable[[Sequence[Record], Sequence[str]], Metric]


@pytest.mark.parametrize("make", [CocoMetric, VocMetric, ErrorBreakdown])
def test_ground_truth_scores_one_with_difficult_and_crowd_objects_in_it(make: MakeMetric) -> None:
    records, _ = random_case(0, images=60)
    sanity_check(make(records, NAMES))


@pytest.mark.parametrize("make", [CocoMetric, VocMetric, ErrorBreakdown])
def test_images_on_which_nobody_scores_one_are_left_out(make: MakeMetric) -> None:
    many = [[x, y, x + 3, y + 3] for x in range(0, 55, 5) for y in range(0, 55, 5)]
    hard = [
        record(1),
        record(2, [A, A], [0, 0]),
        record(3, [(5, 5, 5, 9)], [0]),
        record(4, many, [0] * len(many)),
        record(5, [A], [0], difficult=[True]),
    ]
    sanity_check(make(hard, NAMES))
    sanity_check(make([*hard, record(6, [A, B], [0, 1])], NAMES))


class SidesForCorners(CocoMetric):
    """A metric that mixes up its boxes."""

    def fresh(self, records: Sequence[Record]) -> "SidesForCorners":
        return SidesForCorners(records, NAMES)

    def update(self, image_id: int | str, found: ImageDetections) -> None:
        sides = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
        super().update(image_id, ImageDetections(sides, found.scores, found.labels))


def test_boxes_in_the_wrong_form_are_noticed() -> None:
    with pytest.raises(EvaluationError, match=r"metric 'coco': ground truth given as detections scores AP 0\.\d+"):
        sanity_check(SidesForCorners([record(1, [A, B], [0, 1])], NAMES))


def test_the_hash_follows_annotations_and_classes_not_paths() -> None:
    plain = record(1, [A], [0])
    one = annotation_hash([plain], NAMES)
    assert one == annotation_hash([record(1, [A], [0])], NAMES)
    others = [
        annotation_hash([record(1, [A], [0])], ["a", "b", "d"]),
        annotation_hash([record(1, [A], [1])], NAMES),
        annotation_hash([record(1, [B], [0])], NAMES),
        annotation_hash([record(1, [A], [0], difficult=[True])], NAMES),
        annotation_hash([], NAMES),
    ]
    changes = [{"image_id": 2}, {"width": 300}, {"height": 300}, {"crowd": ~plain.crowd}, {"areas": plain.areas / 2}]
    others += [annotation_hash([dataclasses.replace(plain, **change)], NAMES) for change in changes]
    assert len({one, *others}) == 11


@pytest.mark.parametrize("limit", [20, 100, 500])
def test_images_with_more_objects_than_count_are_left_out(limit: int) -> None:
    boxes = [[x, y, x + 3, y + 3] for x in range(0, 50, 5) for y in range(0, 25, 5)]
    sanity_check(CocoMetric([record(1, boxes, [0] * 50), record(2, [A, B], [0, 1])], NAMES, max_detections=limit))
