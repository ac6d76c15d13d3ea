import numpy as np
import pytest

from ssd.evaluation.metrics.curves import curve


def test_the_curve_has_one_point_for_every_score() -> None:
    # right 0.9, wrong 0.8, right 0.7, of four objects
    line = curve(np.array([0.7, 0.9, 0.8]), np.array([True, True, False]), 4)
    assert line.scores.tolist() == [0.9, 0.8, 0.7]
    assert line.recall.tolist() == [0.25, 0.25, 0.5]
    assert line.precision == pytest.approx([1, 1 / 2, 2 / 3])
    assert line.area == pytest.approx((1 + 2 / 3) / 4)


def test_equal_scores_enter_together() -> None:
    line = curve(np.array([0.5, 0.5, 0.5]), np.array([True, False, True]), 2)
    assert (line.recall.tolist(), line.precision.tolist()) == ([1.0], [2 / 3])


def test_the_best_threshold_is_where_f1_is_greatest() -> None:
    line = curve(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, True, False, False]), 2)
    assert line.f1.tolist() == pytest.approx([2 / 3, 1, 4 / 5, 2 / 3])
    assert line.best_threshold() == 0.8
    assert line.at(0.75) == (1.0, 1.0)
    assert line.at(0.5) == (pytest.approx(2 / 3), 1.0)


def test_of_thresholds_as_good_the_highest_is_best() -> None:
    # F1 2/3 at 0.9 (1 of 1, 1 of 2), and at 0.6 (2 of 4, 2 of 2)
    line = curve(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, False, True]), 2)
    assert line.best_threshold() == 0.9


def test_nothing_found_has_no_points_and_no_precision() -> None:
    line = curve(np.zeros(0), np.zeros(0, bool), 3)
    assert (len(line.scores), line.area, line.best_threshold(), line.at(0.5)) == (0, 0.0, None, (None, 0.0))


def test_without_objects_there_is_no_area() -> None:
    line = curve(np.array([0.9]), np.array([False]), 0)
    assert (line.area, line.best_threshold(), line.at(0.5), line.at(0.95)) == (None, None, (0.0, None), (None, None))
