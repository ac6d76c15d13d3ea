import dataclasses

import numpy as np
import pytest

from ssd.errors import EvaluationError
from ssd.evaluation.comparison import Difference, as_text, cells, compare_matches, conclusion
from ssd.evaluation.metrics.intervals import Draws, Estimate
from ssd.evaluation.metrics.matches import ClassMatches
from ssd.evaluation.page.comparison_page import comparison_page
from ssd.report.page import render
from tests.evaluation.metrics.test_intervals import drawn_matches


def difference(value: float, low: float, high: float, error: float, images: int = 72) -> Difference:
    return Difference(Estimate(0.5), Estimate(0.5 + value), Estimate(value, low, high, error), images)


def test_the_verdict_is_that_of_the_differences_interval() -> None:
    assert difference(0.03, 0.01, 0.05, 0.01).verdict == "better"
    assert difference(-0.03, -0.05, -0.01, 0.01).verdict == "worse"
    assert difference(0.03, -0.01, 0.07, 0.02).verdict == "cannot be told"
    assert Difference(Estimate(1.0), Estimate(1.0), Estimate(0.0), 5).verdict == "cannot be told"


def test_four_times_the_images_tell_half_the_difference() -> None:
    one, half = difference(0.02, -0.02, 0.06, 0.02), difference(0.01, -0.03, 0.05, 0.02)
    # 72 images, a difference of one standard error: (1.96 + 0.84) ** 2 times as many
    assert one.images_needed == 566
    assert half.images_needed == pytest.approx(4 * one.images_needed, abs=4)
    assert one.least_told == pytest.approx(2.8016 * 0.02, abs=1e-4)
    assert difference(0.0, -0.04, 0.04, 0.02).images_needed is None


def test_a_difference_that_is_not_told_needs_more_images_than_there_are() -> None:
    one = difference(0.3, -0.01, 0.61, 0.07, images=20)
    assert (one.images_needed, one.least_told) == (21, 0.3)
    assert cells(one)[-1] == "21"
    told = difference(0.3, 0.1, 0.5, 0.07, images=20)
    assert told.images_needed == 9
    assert told.least_told == pytest.approx(2.8016 * 0.07, abs=1e-4)


def test_images_needed_are_not_guessed_without_a_standard_error() -> None:
    nothing, no_spread = (Difference(one, one, one, 1) for one in (Estimate(None), Estimate(0.0)))
    assert cells(nothing)[-1] == cells(no_spread)[-1] == "n/a"
    assert cells(difference(1e-6, -0.04, 0.04, 0.02))[-1] == "more than a million"


def test_a_better_detector_is_told_and_an_equal_one_is_not() -> None:
    a = drawn_matches(150, 3, noise=1)
    same = compare_matches(a, a, 200)
    assert same.verdict == "cannot be told"
    assert same.overall["AP"].change == Estimate(0.0)
    assert "without any spread" in conclusion(same)
    better = compare_matches(a, drawn_matches(150, 3, quality=2.4, noise=1), 200)
    assert better.verdict == "better"
    assert compare_matches(drawn_matches(150, 3, quality=2.4, noise=1), a, 200).verdict == "worse"
    assert conclusion(better).startswith("B is better than A: AP +0.")
    equal = compare_matches(a, drawn_matches(150, 3, noise=2), 200)
    assert equal.verdict == "cannot be told"
    assert "images would tell it; 150 images tell differences from about 0.0" in conclusion(equal)


def test_the_paired_difference_has_a_smaller_interval_than_two_figures_have() -> None:
    comparison = compare_matches(drawn_matches(150, 3), drawn_matches(150, 3, quality=1.8), 200)
    one = comparison.overall["AP"]
    assert one.change.error < 0.5 * one.a.error


def test_text_and_json_have_every_class(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compare_matches(drawn_matches(15, 3), drawn_matches(15, 3, noise=4), 100)
    text, facts = as_text(comparison), comparison.to_dict()
    assert "15 images are too few" in text
    assert text.splitlines()[-1] == conclusion(comparison)
    assert set(facts["per_class"]) == {"a", "b", "c"}
    assert facts["per_class"]["a"]["AP"]["difference"]["low"] <= facts["per_class"]["a"]["AP"]["difference"]["value"]
    assert any(line.startswith("a (") for line in text.splitlines())


def test_the_page_says_the_conclusion_first_and_escapes_names() -> None:
    a, b = drawn_matches(60, 3), drawn_matches(60, 3, quality=3.0)
    a, b = (dataclasses.replace(one, class_names=("<b>", "b", "c")) for one in (a, b))
    comparison = compare_matches(a, b, 100)
    html = render(comparison_page(comparison, "runs/a", "runs/b", {"data": "made"}, ["A was trained on 3 images"]))
    assert conclusion(comparison) in html
    assert "A was trained on 3 images" in html
    assert "&lt;b&gt;" in html
    assert "<b>:" not in html


def test_different_data_cannot_be_compared() -> None:
    with pytest.raises(EvaluationError, match="different data"):
        compare_matches(drawn_matches(10, 1), drawn_matches(11, 1), 100)


def test_a_class_without_objects_has_no_difference() -> None:
    a = drawn_matches(20, 1)
    nothing = np.zeros((10, 0), bool)
    empty = ClassMatches(np.zeros(0, int), nothing, nothing, np.zeros(20, int))
    a = dataclasses.replace(a, tables=((*a.tables[0][:2], empty),))
    comparison = compare_matches(a, a, 100)
    assert comparison.per_class["AP"]["c"].change.value is None
    assert "c (0)" in as_text(comparison)


@pytest.mark.parametrize(("images", "verdict"), [(60, "better"), (6, "better"), (5, "cannot be told")])
def test_a_difference_that_every_image_shows_is_told(images: int, verdict: str) -> None:
    """A never finds the class, B finds every object of it: no half of the images says otherwise."""
    ones = np.ones((1, 1))
    draws = [
        Draws(
            value * ones[0], value * np.ones((1, 50)), value * np.ones((1, 9)), 99 * ones[0], holders=images * ones[0]
        )
        for value in (0.0, 1.0)
    ]
    a, b = draws
    one = Difference(a.estimate(0), b.estimate(0), (b - a).estimate(0), images)
    assert one.verdict == verdict
    back = Difference(b.estimate(0), a.estimate(0), (a - b).estimate(0), images)
    assert back.verdict == verdict.replace("better", "worse")
