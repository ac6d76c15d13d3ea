import itertools
import math
import re

import pytest

from ssd.report.axes import HEIGHT, WIDTH, Axis, axis_over, short
from ssd.report.charts import Series, bar_chart, line_chart

NAN = float("nan")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 9, [0, 2, 4, 6, 8]),
        (0, 0.003, [0, 0.001, 0.002, 0.003]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (0, 12345, [0, 2500, 5000, 7500, 10000]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low: float, high: float, ticks: list[float]) -> None:
    assert Axis(low, high, "").ticks() == pytest.approx(ticks)


def test_an_axis_ends_on_a_round_number_above_all_values() -> None:
    assert (axis_over([0.3, 8.9], "").low, axis_over([0.3, 8.9], "").high) == (0, 10)
    assert (axis_over([-0.3, 0.2], "").low, axis_over([-0.3, 0.2], "").high) == (
        pytest.approx(-0.3),
        pytest.approx(0.2),
    )
    for empty in ([], [NAN], [0.0], [math.inf]):
        assert (axis_over(empty, "").low, axis_over(empty, "").high) == (0, 1)


def test_a_line_goes_from_corner_to_corner() -> None:
    svg = line_chart("t", [Series("a", [0, 1], [0, 1])], x=Axis(0, 1, ""), y=Axis(0, 1, "")).svg
    (path,) = re.findall(r'class="line s1" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', svg)
    x1, y1, x2, y2 = map(float, path)
    assert (y1, y2, x2) == (HEIGHT - 44, 12, WIDTH - 14)
    assert 30 < x1 < 60


def test_a_gap_lifts_the_pen() -> None:
    svg = line_chart("t", [Series("a", [0, 1, 2, 3, 4], [1, 1, NAN, 1, 1])], x="x", y="y").svg
    (drawn,) = re.findall(r'class="line s1" d="([^"]*)"', svg)
    assert re.sub(r"[\d. ]+", "", drawn) == "MLML"


def test_few_points_are_dots_and_a_lone_one_is_seen() -> None:
    assert line_chart("t", [Series("a", [5], [0.5])], x="x", y="y").svg.count("<circle") == 1
    assert line_chart("t", [Series("a", range(100), range(100))], x="x", y="y").svg.count("<circle") == 0


def test_bars_stand_on_zero_and_are_as_high_as_their_value() -> None:
    svg = bar_chart("t", ["a", "b"], {"one": [1.0, 0.5]}, x="", y=Axis(0, 1, "")).svg
    bars = re.findall(r'<rect class="bar s1" x="([\d.]+)" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', svg)
    heights = [float(height) for _, _, height in bars]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.1)
    assert {round(float(y) + float(height), 1) for _, y, height in bars} == {HEIGHT - 44}


def test_what_is_missing_has_no_bar_but_a_word() -> None:
    svg = bar_chart("t", ["a", "b"], {"one": [None, 0.5], "two": [None, 0.1]}, x="", y="").svg
    assert svg.count("<rect") == 2
    assert "n/a" in svg


def test_labels_between_the_slots_are_one_more_than_bars() -> None:
    svg = bar_chart("t", ["0", "1", "2"], {"one": [0.3, 0.6]}, x="", y="").svg
    assert svg.count("<rect") == 2
    assert all(f">{label}</text>" in svg for label in "012")


def test_labels_that_have_no_room_are_left_out_evenly() -> None:
    labels = [f"label {place:02d}" for place in range(40)]
    svg = bar_chart("t", labels, {"one": [1.0] * 40}, x="", y="").svg
    shown = re.findall(r"label (\d\d)<", svg)
    assert 3 < len(shown) < 10
    assert len({int(b) - int(a) for a, b in itertools.pairwise(shown)}) == 1


def test_one_series_needs_no_legend_and_a_faint_one_is_not_in_it() -> None:
    lines = [Series("a", [0], [0]), Series("b", [0], [0], color=2), Series("c", [0], [0], faint=True)]
    assert line_chart("t", lines[:1], x="", y="").legend == ()
    assert line_chart("t", lines, x="", y="").legend == [("a", 1), ("b", 2)]


def test_large_numbers_are_short() -> None:
    assert [short(value) for value in (0, 0.25, 9999, 10_000, 125_000)] == ["0", "0.25", "9999", "10k", "125k"]


def test_no_series_and_no_values_still_draw_the_axes() -> None:
    assert "<svg" in line_chart("t", [], x="x", y="y").svg
    assert "<svg" in line_chart("t", [Series("a", [], [])], x="x", y="y").svg
