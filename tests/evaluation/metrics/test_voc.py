import logging

import numpy as np
import pytest

from ssd.evaluation.metrics.voc import VocMetric
from ssd.structures import ImageDetections, Record
from tests.evaluation.metrics.made import found, hand_in, random_case, record

A, B, C = (10, 10, 49, 49), (60, 60, 99, 99), (110, 110, 149, 149)
FAR = (150, 0, 180, 30)


def test_three_images_worked_out_by_hand() -> None:
    # Five cats; one of them is difficult, so four count. Best score first:
    #   .9 image 1, on A            right     1/1
    #   .8 image 1, on A again      wrong     1/2
    #   .7 image 2, on the difficult one: left out
    #   .6 image 2, on B            right     2/3
    #   .5 image 3, nowhere         wrong     2/4
    #   .4 image 3, on C            right     3/5
    # Recalls 1/4, 2/4, 3/4 with envelope 1, 2/3, 3/5. Area: (1 + 2/3 + 3/5) / 4 = 34/60.
    # Eleven points: 0, .1, .2 -> 1; .3, .4, .5 -> 2/3; .6, .7 -> 3/5; .8, .9, 1 -> 0. Sum 3 + 2 + 1.2 = 6.2.
    records = [
        record("1", [A], [0]),
        record("2", [A, B], [0, 0], difficult=[True, False]),
        record("3", [C, A], [0, 0]),
    ]
    detections = {
        "1": found((A, 0.9, 0), (A, 0.8, 0)),
        "2": found((A, 0.7, 0), (B, 0.6, 0)),
        "3": found((FAR, 0.5, 0), (C, 0.4, 0)),
    }
    figures = hand_in(VocMetric(records, ["cat", "dog"]), detections).compute()
    assert figures["AP"] == pytest.approx(34 / 60)
    assert figures["AP07"] == pytest.approx(6.2 / 11)
    assert figures["per_class"]["cat"]["objects"] == 4
    assert figures["per_class"]["dog"] == {"AP": None, "AP07": None, "objects": 0}


def test_recall_of_exactly_three_tenths_reaches_the_fourth_point() -> None:
    boxes = [(20 * i, 0, 20 * i + 10, 10) for i in range(9)] + [(0, 50, 10, 60)]
    rows = [(box, 0.9, 0) for box in boxes[:3]]
    figures = hand_in(VocMetric([record(1, boxes, [0] * 10)], ["cat"]), {1: found(*rows)}).compute()
    assert figures["AP07"] == pytest.approx(4 / 11)


def test_far_corners_belong_to_the_box() -> None:
    # 10 x 10 pixels on 10 x 20: half with whole-pixel corners, 9 x 9 / 9 x 19 without.
    records, detections = [record(1, [(0, 0, 9, 19)], [0])], {1: found(((0, 0, 9, 9), 0.9, 0))}
    assert hand_in(VocMetric(records, ["cat"]), detections).compute()["AP"] == 1.0
    assert hand_in(VocMetric(records, ["cat"], inclusive=False), detections).compute()["AP"] == 0.0


def test_a_detection_answers_for_its_best_object_even_if_that_is_taken() -> None:
    # The second box overlaps both objects by more than half, the first object more: it is a duplicate, not B's find.
    first, second = (0, 0, 99, 99), (20, 0, 119, 99)
    records = [record(1, [first, second], [0, 0])]
    detections = {1: found((first, 0.9, 0), ((5, 0, 104, 99), 0.8, 0))}
    assert hand_in(VocMetric(records, ["cat"]), detections).compute()["AP"] == 0.5


def test_difficult_objects_take_any_number_of_detections() -> None:
    records = [record(1, [A, B], [0, 0], difficult=[True, False])]
    detections = {1: found((A, 0.9, 0), (A, 0.8, 0), (A, 0.7, 0), (B, 0.6, 0))}
    assert hand_in(VocMetric(records, ["cat"]), detections).compute()["AP"] == 1.0


def test_nothing_found_is_zero_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        figures = hand_in(VocMetric([record(1, [A], [0])], ["cat", "dog"]), {1: found()}).compute()
    assert (figures["AP"], figures["AP07"], figures["per_class"]["dog"]["AP"]) == (0.0, 0.0, None)
    assert "nothing was detected" in caplog.text


def test_no_objects_and_no_images_have_no_figure() -> None:
    assert hand_in(VocMetric([record(1)], ["cat"]), {1: found((A, 0.5, 0))}).compute()["AP"] is None
    assert VocMetric([], ["cat"]).compute()["AP"] is None


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("inclusive", [True, False])
def test_equals_the_plain_loops(seed: int, inclusive: bool) -> None:
    records, detections = random_case(seed)
    figures = hand_in(VocMetric(records, ["a", "b", "c"], inclusive=inclusive), detections).compute()
    for label, name in enumerate("abc"):
        area, eleven = _slow(records, detections, label, int(inclusive))
        assert figures["per_class"][name]["AP"] == (None if area is None else pytest.approx(area))
        assert figures["per_class"][name]["AP07"] == (None if eleven is None else pytest.approx(eleven))


def _slow(
    records: list[Record], detections: dict[int | str, ImageDetections], label: int, extra: int
) -> tuple[float | None, float | None]:
    """The development kit's algorithm as it is written there: one detection at a time, curves with sentinels."""
    rows = []
    positives = 0
    for place, item in enumerate(records):
        for kind, difficult, crowd in zip(item.labels, item.difficult, item.crowd, strict=True):
            positives += int(kind == label and not difficult and not crowd)
        found = detections[item.image_id]
        columns = zip(found.boxes, found.scores, found.labels, strict=True)
        rows += [(-float(score), place, box) for box, score, kind in columns if kind == label]
    if not positives:
        return None, None
    rows.sort(key=lambda row: row[0])
    taken: set[tuple[int, int]] = set()
    right: list[int] = []
    for _, place, box in rows:
        item = records[place]
        best, best_row = -1.0, -1
        for row in range(len(item.labels)):
            overlap = _overlap(box, item.boxes[row], extra) if item.labels[row] == label else -1.0
            if overlap > best:
                best, best_row = overlap, row
        if best >= 0.5:
            if item.difficult[best_row] or item.crowd[best_row]:
                continue
            right.append(int((place, best_row) not in taken))
            taken.add((place, best_row))
        else:
            right.append(0)
    precisions = [sum(right[: i + 1]) / (i + 1) for i in range(len(right))]
    found_so_far = [sum(right[: i + 1]) for i in range(len(right))]
    recalls = [0.0, *(n / positives for n in found_so_far), 1.0]
    heights = [0.0, *precisions, 0.0]
    for i in reversed(range(len(heights) - 1)):
        heights[i] = max(heights[i], heights[i + 1])
    area = sum((recalls[i + 1] - recalls[i]) * heights[i + 1] for i in range(len(recalls) - 1))
    eleven = 0.0
    for tenth in range(11):
        reached = [p for p, n in zip(precisions, found_so_far, strict=True) if n * 10 >= tenth * positives]
        eleven += max(reached, default=0.0) / 11
    return area, eleven


def _overlap(a: np.ndarray, b: np.ndarray, extra: int) -> float:
    ax1, ay1, ax2, ay2 = map(float, a)
    bx1, by1, bx2, by2 = map(float, b)
    width, height = min(ax2, bx2) - max(ax1, bx1) + extra, min(ay2, by2) - max(ay1, by1) + extra
    if width <= 0 or height <= 0:
        return 0.0
    both = (ax2 - ax1 + extra) * (ay2 - ay1 + extra) + (bx2 - bx1 + extra) * (by2 - by1 + extra)
    return width * height / (both - width * height)
