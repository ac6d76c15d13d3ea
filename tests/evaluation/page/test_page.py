import dataclasses
from typing import Any

import numpy as np
import pytest

from ssd.evaluation.metrics.curves import curve
from ssd.evaluation.page.curves import at_thresholds, curve_section, envelope
from ssd.evaluation.page.mistakes import confusion_section
from ssd.evaluation.page.speed import time_stages
from ssd.evaluation.page.tables import class_table, reach_section
from ssd.tiles import plan_of
from tests.evaluation.metrics.made import found, record
from tests.report.made import evaluation
from tests.report.pages import read

SECTIONS = ["figures", "curves", "confusion", "errors", "calibration", "sizes", "mistakes", "speed", "setup"]


def test_every_section_is_there_with_the_headline() -> None:
    made = evaluation()
    tree = read(made.page(config="name: demo\n", training_page="report.html"))
    assert tree.ids() == SECTIONS
    assert "Evaluation: demo" in tree.text
    for label in ("AP", "AP50", "AP75"):
        place = tree.text.index(label)
        assert tree.text[place + 1] == f"{made.summary['coco'][label]:.3f}"
    missed = len(made.details.misses(made.details.threshold()))
    for text in ("0123456789abcdef", "name: demo", "torch fp32 on cpu", "network", f"Missed objects ({missed} below"):
        assert any(text in line for line in tree.text), text


def test_every_class_has_a_row_with_all_its_figures() -> None:
    made = evaluation()
    table = class_table(made.summary, made.details.curves(), made.details.threshold())
    assert [row[0] for row in table.rows] == ["a", "b", "c", "mean"]
    assert " ".join(table.head) == (
        "class objects AP AP, 95 % AP50 AP75 small medium large VOC VOC07 precision recall best threshold"
    )
    own = made.summary["coco"]["per_class"]["a"]
    assert table.rows[0][4:6] == [f"{own['AP50']:.3f}", f"{own['AP75']:.3f}"]


def test_reached_and_found_are_shares_of_the_objects_that_count() -> None:
    made = evaluation(([record(1, [(0, 0, 100, 100), (0, 0, 8, 8)], [0, 1])], {1: found(((0, 0, 100, 100), 0.9, 0))}))
    (table,) = reach_section(made.details, made.detector, made.dataset, 0.5).blocks
    rows = {row[0]: [getattr(cell, "text", cell) for cell in row[1:]] for row in table.rows}
    assert (rows["all"][0], rows["all"][2:]) == ("2", ["0.500", "0.500"])
    assert rows["small"] == ["1", "0.000", "0.000", "0.000"]
    assert rows["medium"] == ["0", "n/a", "n/a", "n/a"]


def test_an_object_is_reached_in_any_window_that_holds_it() -> None:
    """As the evaluation searched it: too small for the whole image, large enough in one of 4 x 4 tiles."""
    large = (2, 2, 99, 99)
    made = evaluation(([record(1, [(0, 0, 8, 8), large], [0, 1])], {1: found((large, 0.9, 1))}))
    plan = plan_of(4, made.detector.input_size)
    assert [_share_of_all(made, plan) for plan in (None, plan)] == ["0.500", "1.000"]
    assert time_stages(made.detector, made.dataset, plan).keys() == time_stages(made.detector, made.dataset).keys()


def _share_of_all(made: Any, plan: Any) -> str:
    (table,) = reach_section(made.details, made.detector, made.dataset, 0.5, plan).blocks
    return str(getattr(table.rows[0][2], "text", table.rows[0][2]))


def test_an_area_that_is_not_cocos_ap50_says_so() -> None:
    made = evaluation()
    words, curves = " ".join(read(made.page()).text), made.details.curves()
    for name, line in curves.items():
        assert f"{name}, area {line.area:.3f}" in words
    mean = np.mean([line.area for line in curves.values()])
    assert f"AP50 is the mean area under the curves above here, {mean:.3f}" in words
    assert f"{made.summary['errors']['AP50']:.3f}" == f"{mean:.3f}"


@pytest.mark.parametrize(
    "case",
    [
        ([record(1, [(0, 0, 9, 9)], [0])], {1: found()}),
        ([record(1)], {1: found(((0, 0, 9, 9), 0.9, 0))}),
        ([record(1)], {1: found()}),
    ],
    ids=["no detections", "no objects", "nothing at all"],
)
def test_an_empty_evaluation_still_is_a_page(case: tuple) -> None:
    tree = read(evaluation(case).page())
    assert tree.ids() == SECTIONS
    assert "n/a" in tree.text
    assert any(word in line for line in tree.text for word in ("Nothing was detected", "There is no object"))


def test_classes_the_detector_does_not_know_are_named_on_top() -> None:
    made = evaluation()
    tree = read(dataclasses.replace(made, summary={**made.summary, "classes_missing": ["unicorn"]}).page())
    assert "The detector does not know unicorn: their AP is 0." in tree.text


def test_class_names_of_strangers_stay_text() -> None:
    names = ("<script>alert(1)</script>", "b' onmouseover='x", "{{ 7 * 7 }}")
    tree = read(evaluation(names=names).page())
    assert set(names) <= set(tree.text)


def test_the_drawn_curve_is_the_one_whose_area_is_ap() -> None:
    # right, wrong, right of two objects: precision 1 up to recall 1/2, 2/3 up to 1
    line = curve(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2)
    recall, precision = envelope(line)
    heights = dict(zip(np.round(recall[:-2], 2).tolist(), precision[:-2], strict=True))
    assert heights[0.25] == 1
    assert heights[0.75] == pytest.approx(2 / 3)
    assert (recall[-2:], precision[-2:]) == ([1, 1], [0, 0])
    assert np.trapezoid(precision, recall) == pytest.approx(line.area, abs=0.005)


def test_many_weak_detections_do_not_blur_the_curve() -> None:
    generator = np.random.default_rng(0)
    hits = np.append(np.arange(100) % 2 == 0, generator.random(20_000) < 0.001)
    line = curve(np.linspace(1, 0, len(hits)), hits, 100)
    recall, precision = envelope(line)
    assert np.trapezoid(precision, recall) == pytest.approx(line.area, abs=0.01)


def test_at_each_threshold_stands_what_is_kept_from_there_on() -> None:
    line = curve(np.array([0.9, 0.5]), np.array([True, False]), 2)
    thresholds, columns = at_thresholds(line)
    place = {round(threshold, 3): row for row, threshold in enumerate(thresholds)}
    assert np.isnan(columns["precision"][place[0.95]])
    assert (columns["recall"][place[0.95]], columns["F1"][place[0.95]]) == (0, 0)
    assert (columns["precision"][place[0.9]], columns["recall"][place[0.9]]) == (1, 0.5)
    assert (columns["precision"][place[0.5]], columns["precision"][place[0.0]]) == (0.5, 0.5)


def test_of_many_classes_the_best_and_worst_have_a_colour() -> None:
    curves = {f"c{n:02d}": curve(np.array([0.9, 0.8]), np.array([True, False]), n + 1) for n in range(20)}
    chart = curve_section(curves, curves["c00"], 0.5).blocks[0]
    assert [name[:3] for name, _ in chart.legend] == ["c00", "c01", "c02", "c16", "c17", "c18", "c19"]
    assert chart.svg.count("faint") == 13


def test_a_large_confusion_matrix_is_folded_without_losing_a_count() -> None:
    matrix = np.random.default_rng(0).integers(0, 5, (31, 31))
    matrix[7] = 100
    table = confusion_section(matrix, [f"c{n}" for n in range(30)], 0.5).blocks[0]
    assert len(table.rows) == 18
    assert [row[0] for row in table.rows[-2:]] == ["other classes", "nothing"]
    assert "c7" in [row[0] for row in table.rows]
    cells = [cell for row in table.rows for cell in row[1:-1]]
    assert sum(int(cell.text) for cell in cells if cell) == matrix.sum()
    assert sum(int(row[-1]) for row in table.rows) == matrix.sum()


def test_the_most_frequent_confusions_leave_out_right_answers_and_nothing() -> None:
    pairs = confusion_section(np.array([[9, 2, 1], [5, 9, 0], [3, 0, 0]]), ["cat", "dog"], 0.5).blocks[1]
    assert pairs.rows == [["dog", "cat", "5"], ["cat", "dog", "2"]]
