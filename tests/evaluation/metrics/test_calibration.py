import numpy as np
import pytest

from ssd.evaluation.metrics.calibration import calibrate


def test_worked_example() -> None:
    # Bin 0.8..0.9: scores 0.8 and 0.9 - tiny, one of two right, gap 0.35. Bin 0.2..0.3: 0.2, wrong, gap 0.2.
    result = calibrate(np.array([0.8, 0.9 - 1e-12, 0.2]), np.array([True, False, False]))
    assert result.counts.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 2, 0]
    assert (result.scores[8], result.right[8]) == (pytest.approx(0.85), 0.5)
    assert np.isnan(result.right[5])
    assert result.error() == pytest.approx((2 * 0.35 + 0.2) / 3)
    assert result.error(0.3) == pytest.approx(0.35)


def test_scores_that_mean_what_they_say_have_no_error() -> None:
    scores = np.full(100, 0.25)
    assert calibrate(scores, np.arange(100) < 25).error() == pytest.approx(0)


def test_a_score_of_one_is_in_the_last_bin() -> None:
    result = calibrate(np.array([1.0, 0.0]), np.array([True, False]), bins=4)
    assert result.counts.tolist() == [1, 0, 0, 1]
    assert result.error() == 0


def test_no_detections_have_no_error() -> None:
    assert calibrate(np.zeros(0), np.zeros(0, bool)).error() is None
