from typing import Any

import numpy as np
import pytest

from ssd.evaluation.metrics.error_breakdown import ErrorBreakdown
from ssd.evaluation.metrics.voc import VocMetric
from ssd.structures import ImageDetections, Record
from tests.evaluation.metrics.made import found, hand_in, random_case, record

A, B = (0, 0, 100, 100), (100, 100, 200, 200)
FAR = (0, 150, 40, 190)
KINDS = ["classification", "location", "both", "duplicate", "background", "missed"]


def figures(record_: Record, detections: ImageDetections, names: tuple[str, ...] = ("cat", "dog")) -> dict[str, Any]:
    return hand_in(ErrorBreakdown([record_], names), {record_.image_id: detections}).compute()


def counts(computed: dict[str, Any]) -> dict[str, int]:
    return {kind: computed[kind]["count"] for kind in KINDS if computed[kind]["count"]}


# The box meant for A: 60 wide overlaps it by 0.6, 30 wide by 0.3, FAR by less than 0.1.
@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        ((0, 0, 100, 60), 1, "classification"),
        ((0, 0, 100, 30), 0, "location"),
        ((0, 0, 100, 30), 1, "both"),
        ((0, 0, 100, 60), 0, "duplicate"),
        ((0, 0, 100, 9), 0, "background"),
        (FAR, 0, "background"),
    ],
)
def test_each_kind_of_mistake_has_its_name(box: tuple[int, ...], label: int, kind: str) -> None:
    computed = figures(record(1, [A], [0]), found((A, 0.9, 0), (box, 0.5, label)))
    assert counts(computed) == {kind: 1}


def test_an_object_nobody_meant_is_missed_and_one_meant_wrongly_is_not() -> None:
    assert counts(figures(record(1, [A], [0]), found())) == {"missed": 1}
    assert counts(figures(record(1, [A], [0]), found((A, 0.9, 1)))) == {"classification": 1}
    assert counts(figures(record(1, [A], [0]), found((FAR, 0.9, 0)))) == {"background": 1, "missed": 1}


def test_mending_the_one_mistake_gives_the_whole_rise() -> None:
    # A found, B at a third: AP50 is 1/2, and 1 once the box is put right.
    computed = figures(record(1, [A, B], [0, 0]), found((A, 0.9, 0), ((100, 100, 200, 130), 0.8, 0)))
    assert computed["AP50"] == pytest.approx(0.5)
    assert computed["location"] == {"count": 1, "dAP": pytest.approx(0.5)}
    assert {computed[kind]["dAP"] for kind in KINDS if kind != "location"} == {0.0}


def test_removing_a_better_scored_duplicate_raises_precision() -> None:
    # right, duplicate, right: envelope 1, 2/3 over two objects.
    computed = figures(record(1, [A, B], [0, 0]), found((A, 0.9, 0), (A, 0.8, 0), (B, 0.7, 0)))
    assert computed["AP50"] == pytest.approx((1 + 2 / 3) / 2)
    assert computed["duplicate"]["dAP"] == pytest.approx(1 - (1 + 2 / 3) / 2)


def test_only_the_best_of_several_mended_boxes_counts() -> None:
    low = found(((0, 0, 100, 30), 0.9, 0), ((0, 0, 100, 31), 0.8, 0))
    computed = figures(record(1, [A], [0]), low)
    assert computed["location"] == {"count": 2, "dAP": pytest.approx(1.0)}


def test_of_several_mended_boxes_the_best_score_counts_in_any_order() -> None:
    loose = ((0, 0, 100, 30), 0.5, 0), ((0, 0, 100, 31), 0.9, 0)
    computed = figures(record(1, [A], [0]), found(*loose, (FAR, 0.7, 0)))
    assert computed["location"]["dAP"] == pytest.approx(1.0)


def test_a_loose_box_on_an_object_that_is_found_does_not_find_it_again() -> None:
    computed = figures(record(1, [A], [0]), found(((0, 0, 100, 30), 0.95, 0), (A, 0.9, 0)))
    assert computed["AP50"] == pytest.approx(0.5)
    assert computed["location"] == {"count": 1, "dAP": pytest.approx(0.5)}


def test_a_class_of_which_nothing_is_left_to_miss_counts_as_perfect() -> None:
    computed = figures(record(1, [A, B], [0, 1]), found((A, 0.9, 0)))
    assert computed["missed"] == {"count": 1, "dAP": pytest.approx(0.5)}


def test_difficult_objects_and_crowds_cost_nothing() -> None:
    ignored = record(1, [A, B], [0, 0], difficult=[True, False], crowd=[False, True])
    computed = figures(ignored, found((A, 0.9, 0), (A, 0.8, 0), ((100, 100, 120, 120), 0.7, 0)))
    assert counts(computed) == {}
    assert computed["AP50"] is None


def test_no_images_and_no_objects_have_no_figures() -> None:
    nothing = {"AP50": None, **{kind: {"count": 0, "dAP": None} for kind in KINDS}}
    assert ErrorBreakdown([], ["cat"]).compute() == nothing
    computed = figures(record(1), found((A, 0.9, 0)))
    assert (computed["AP50"], counts(computed)) == (None, {"background": 1})


@pytest.mark.parametrize("seed", range(20))
def test_every_detection_and_object_is_accounted_for(seed: int) -> None:
    records, detections = random_case(seed, special=False)
    metric = hand_in(ErrorBreakdown(records, ["a", "b", "c"]), detections)
    computed = metric.compute()
    mistakes = sum(computed[kind]["count"] for kind in KINDS[:-1])
    total, objects = sum(len(d) for d in detections.values()), sum(len(r.labels) for r in records)
    assert objects - computed["missed"]["count"] >= total - mistakes >= 0
    assert all(computed[kind]["dAP"] >= -1e-12 for kind in ("both", "duplicate", "background", "missed"))


def test_ap_is_that_of_the_voc_rules_where_no_box_hesitates_between_two_objects() -> None:
    far_apart = [[x, y, x + 40, y + 40] for x in (0, 60, 120) for y in (0, 60, 120)]
    generator = np.random.default_rng(0)
    records = [record(i, far_apart, generator.integers(0, 2, 9).tolist()) for i in range(5)]
    rows = [(np.array(far_apart) + generator.integers(-12, 13, (9, 4))).astype(np.float32) for _ in records]
    detections: dict[int | str, ImageDetections] = {
        i: ImageDetections(boxes, generator.random(9).astype(np.float32), generator.integers(0, 2, 9))
        for i, boxes in enumerate(rows)
    }
    ours = hand_in(ErrorBreakdown(records, ["a", "b"]), detections).compute()["AP50"]
    assert ours == pytest.approx(hand_in(VocMetric(records, ["a", "b"], inclusive=False), detections).compute()["AP"])
