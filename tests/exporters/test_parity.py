import dataclasses

import numpy as np
import pytest

from ssd.errors import ArgumentError
from ssd.exporters.parity import TOLERANCES, Parity, compare
from ssd.exporters.verify import Check
from ssd.inference.detections import Detections

EXACT = TOLERANCES["fp32"]


def detections(*rows: tuple[float, ...], size: tuple[int, int] = (100, 200)) -> Detections:
    """Rows of x1, y1, x2, y2, score, label, best first."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), ("a", "b"), size)


def parity(before: Detections, after: Detections, tolerance=EXACT, full: int = 200) -> Parity:
    return compare(before, after, tolerance, input_size=100, score_threshold=0.01, full=full)


def test_the_largest_differences_are_in_pixels_of_the_input_and_in_scores():
    before = detections((0, 0, 100, 50, 0.9, 0), (0, 50, 40, 100, 0.5, 1))
    after = detections((0, 0, 104, 51, 0.8, 0), (0, 50, 40, 100, 0.5, 1))
    found = parity(before, after)
    assert (found.box, found.images, found.compared) == (2.0, 1, 4)  # 200 pixels wide, 100 in the input
    assert found.score == pytest.approx(0.1)
    assert (found.lost, found.gained) == (0, 0)
    assert len(found.failures(EXACT)) == 2


def test_another_class_or_another_place_is_lost_and_gained():
    before = detections((0, 0, 50, 50, 0.9, 0), (100, 50, 150, 100, 0.8, 0))
    after = detections((0, 0, 50, 50, 0.9, 1), (140, 50, 190, 100, 0.8, 0), (60, 0, 90, 30, 0.7, 0))
    found = parity(before, after)
    assert (found.lost, found.gained, found.compared) == (2, 3, 5)
    assert (found.box, found.score) == (0, 0)
    assert "5 of 5 detections are lost or gained" in found.failures(EXACT)[0]


def test_one_side_empty_is_all_lost():
    one = detections((0, 0, 50, 50, 0.9, 0))
    assert (parity(one, detections()).lost, parity(detections(), one).gained) == (1, 1)


def test_no_detections_at_all_prove_nothing():
    assert "nothing was detected" in parity(detections(), detections()).failures(EXACT)[0]


def test_a_score_next_to_the_threshold_may_fall_below_it():
    good = (0, 0, 50, 50, 0.9, 0)
    assert parity(detections(good, (100, 0, 150, 50, 0.0105, 0)), detections(good)).lost == 0
    assert parity(detections(good, (100, 0, 150, 50, 0.0125, 0)), detections(good)).lost == 1


def test_the_last_of_a_full_image_may_be_another():
    first = (0, 0, 50, 50, 0.9, 0)
    before = detections(first, (100, 0, 150, 50, 0.3, 0))
    after = detections(first, (100, 50, 150, 100, 0.3, 0))
    assert (parity(before, after, full=2).lost, parity(before, after, full=2).gained) == (0, 0)
    assert (parity(before, after, full=3).lost, parity(before, after, full=3).gained) == (1, 1)


def test_one_place_is_compared_with_what_the_weights_leave_out():
    first, second = (0, 0, 50, 50, 0.9, 0), (100, 0, 150, 50, 0.3, 1)
    same = parity(detections(first, second), detections(first), full=1)
    assert (same.compared, same.lost, same.gained) == (2, 0, 0)
    other = parity(detections(first, second), detections(second), full=1)
    assert (other.lost, other.gained) == (1, 0)
    tie = (100, 0, 150, 50, 0.9, 1)
    assert parity(detections(first, tie), detections(tie), full=1).compared == 0


def test_a_weak_twin_counts_for_a_strong_detection():
    loose = TOLERANCES["int8"]
    before = detections((0, 0, 50, 50, 0.51, 0), (100, 0, 150, 50, 0.49, 1))
    after = detections((0, 0, 50, 50, 0.45, 0))
    found = parity(before, after, loose)
    assert (found.compared, found.lost) == (1, 0)
    assert found.score == pytest.approx(0.06)


def test_images_add_up_to_the_worst():
    total = Parity(1, 10, 0.5, 0.1, 1, 0).plus(Parity(2, 5, 0.2, 0.3, 0, 2))
    assert total == Parity(3, 15, 0.5, 0.3, 1, 2)


@pytest.mark.parametrize(("after", "accepted"), [(0.496, True), (0.6, True), (0.4, False), (float("nan"), False)])
def test_a_fall_of_ap_beyond_the_tolerance_is_a_failure_and_a_rise_is_none(after, accepted):
    check = Check(Parity(images=1, compared=10), TOLERANCES["bf16"], "bf16", "photos", False, (0.5, after))
    assert check.accepted == accepted


def test_a_tolerance_is_changed_by_name():
    assert EXACT.changed("box=2") == dataclasses.replace(EXACT, box=2.0)
    for text in ("boxes=2", "box", "box=wide", "box=-1", "box=nan"):
        with pytest.raises(ArgumentError, match=r"tolerance.*box, score, missing, least_score, ap"):
            EXACT.changed(text)
