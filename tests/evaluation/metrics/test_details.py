import math

import numpy as np
import pytest

from ssd.evaluation.metrics.details import Details
from ssd.evaluation.metrics.error_breakdown import ErrorBreakdown
from ssd.evaluation.metrics.voc import VocMetric
from tests.evaluation.metrics.made import found, hand_in, random_case, record

A, B, FAR = (0, 0, 100, 100), (100, 100, 200, 200), (0, 150, 40, 190)
NAMES = ("cat", "dog")


@pytest.fixture
def details() -> Details:
    """Two images: cat found at 0.9 and dog at 0.3; then a cat taken for a dog, and a dog on nothing."""
    records = [record("a", [A, B], [0, 1]), record("b", [A], [0])]
    detections = {"a": found((A, 0.9, 0), (B, 0.3, 1)), "b": found((A, 0.8, 1), (FAR, 0.6, 1))}
    made = Details(records, NAMES)
    hand_in(made, detections)
    return made


def test_false_alarms_come_best_score_first(details: Details) -> None:
    alarms = details.false_alarms(0.5)
    assert [(alarm.image, alarm.label, round(alarm.score, 2), alarm.kind) for alarm in alarms] == [
        (1, 1, 0.8, "classification"),
        (1, 1, 0.6, "background"),
    ]
    assert alarms[1].box == FAR
    assert [alarm.kind for alarm in details.false_alarms(0.7)] == ["classification"]


def test_misses_are_the_never_found_first(details: Details) -> None:
    assert [(miss.image, miss.label, round(miss.score, 2)) for miss in details.misses(0.5)] == [
        (1, 0, 0.0),
        (0, 1, 0.3),
    ]
    assert [miss.image for miss in details.misses(0.2)] == [1]
    assert [miss.image for miss in details.misses(0.0)] == [1]


def test_large_misses_come_before_small_ones() -> None:
    made = Details([record(1, [(0, 0, 5, 5), A], [0, 0])], NAMES)
    hand_in(made, {1: found()})
    assert [miss.box for miss in made.misses(0.5)] == [A, (0, 0, 5, 5)]


def test_the_threshold_is_where_f1_is_greatest(details: Details) -> None:
    # At 0.9: 1 of 1 right, 1 of 3 found, F1 1/2. At 0.3: 2 of 4, 2 of 3, F1 4/7.
    assert details.threshold() == pytest.approx(0.3)
    assert details.compute()["best_threshold"] == pytest.approx(0.3)


def test_at_the_threshold_itself_a_detection_counts_everywhere() -> None:
    """The best threshold is the score of a detection, which is then kept."""
    made = Details([record(1, [A], [0])], NAMES)
    hand_in(made, {1: found((A, 0.7, 0), (FAR, 0.8, 1))})
    threshold = made.threshold()
    assert threshold == pytest.approx(0.7)
    assert made.misses(threshold) == []
    assert made.overall().at(threshold) == (0.5, 1.0)
    assert made.confusion(threshold).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert len(made.false_alarms(float(np.float32(0.8)))) == 1


def test_every_object_has_the_score_that_finds_it(details: Details) -> None:
    scores = [scores.tolist() for _, scores in details.found_scores()]
    assert scores == [[pytest.approx(0.9), pytest.approx(0.3)], [0.0]]


def test_curves_have_the_area_of_the_voc_metric_and_of_the_breakdown() -> None:
    records, detections = random_case(3)
    made, breakdown = Details(records, ("a", "b", "c")), ErrorBreakdown(records, ("a", "b", "c"))
    hand_in(made, detections)
    assert made.compute()["AP50"] == pytest.approx(hand_in(breakdown, detections).compute()["AP50"])
    plain, found_in_plain = random_case(4, special=False)
    curves = hand_in(Details(plain, ("a", "b", "c")), found_in_plain).curves()  # type: ignore[attr-defined]
    voc = hand_in(VocMetric(plain, ("a", "b", "c"), inclusive=False), found_in_plain).compute()["per_class"]
    for name, line in curves.items():
        # A second detection may take another free object here, where VOC counts it as wrong.
        assert line.area >= voc[name]["AP"] - 1e-9


def test_nothing_at_all_has_no_figures() -> None:
    made = Details([record(1)], NAMES)
    hand_in(made, {1: found()})
    assert made.compute() == {"AP50": None, "best_threshold": None, "calibration_error": None}
    assert (made.misses(0.5), made.false_alarms(0.5), made.threshold()) == ([], [], 0.5)
    assert made.confusion(0.5).sum() == 0


def test_what_does_not_count_has_no_score() -> None:
    made = Details([record(1, [A], [0], difficult=[True])], NAMES)
    hand_in(made, {1: found((A, 0.9, 0))})
    ((_, scores),) = made.found_scores()
    assert math.isnan(scores[0])
    assert np.isnan(made.calibration().scores).all()
