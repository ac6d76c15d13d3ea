import numpy as np
import pytest

from ssd.errors import ArgumentError
from ssd.evaluation.metrics.curves import Curve, curve
from ssd.evaluation.metrics.thresholds import Rule, as_text, choose


def made(hits: str, objects: int) -> Curve:
    """Detections with scores 0.9, 0.89, ...; x found an object, . did not."""
    return curve(0.9 - 0.01 * np.arange(len(hits)), np.array([hit == "x" for hit in hits], bool), objects)


def chosen(hits: str, objects: int, rule: str, *, common: str = "") -> float:
    one = made(hits, objects)
    overall = made(common, objects) if common else one
    return choose({"a": one}, overall, {"a": objects}, Rule.parse(rule), 0.01)[0].value


def test_f1_is_cut_where_the_false_ones_begin() -> None:
    # twenty right ones down to 0.71, then false ones; the threshold is in the gap
    assert chosen("x" * 20 + "." * 20, 20, "f1") == pytest.approx(0.705)


def test_of_many_thresholds_as_good_the_middle_one_is_taken() -> None:
    """A half of an object more or less: chance, not quality."""
    scores = np.concatenate([np.linspace(0.99, 0.9, 100), [0.2]])
    one = curve(scores, np.array([True] * 100 + [False]), 100)
    value = choose({"a": one}, one, {"a": 100}, Rule.parse("f1"), 0.01)[0].value
    assert 0.2 < value < 0.9


def test_precision_finds_as_much_as_it_allows() -> None:
    # precision 1 down to the tenth, 10/11 at the next, then 11/12 = 0.917 at the twelfth, 11/13 at the last
    assert chosen("x" * 10 + ".x.", 12, "precision=0.91") == pytest.approx(0.785)
    assert chosen("x" * 10 + ".x.", 12, "precision=0.95") == pytest.approx(0.805)


def test_recall_is_as_precise_as_it_allows() -> None:
    assert chosen("x" * 9 + "..x", 12, "recall=0.75") == pytest.approx(0.815)
    assert chosen("x" * 9 + "..x", 12, "recall=0.8") == pytest.approx((0.79 + 0.01) / 2)


def test_a_rule_that_cannot_be_met_takes_the_nearest_and_says_so() -> None:
    one = made("x.x.x.x.x.x.x.x.x.x.x.x.", 12)
    best = choose({"a": one}, one, {"a": 12}, Rule.parse("precision=0.99"), 0.01)
    assert best[0].reached  # the first detection alone has precision 1
    worse = made(".x.x.x.x.x.x.x.x.x.x.x.x", 12)
    missed = choose({"a": worse}, worse, {"a": 12}, Rule.parse("precision=0.9"), 0.01)
    assert not missed[0].reached
    assert (missed[0].precision, missed[0].recall) == (0.5, pytest.approx(1 / 12))
    assert "no threshold gives the precision or recall asked for: a" in as_text(missed)
    many = made(".x.x.x.x.x.x.x.x.x.x.x.x", 48)
    low = choose({"a": many}, many, {"a": 48}, Rule.parse("recall=0.9"), 0.01)
    assert (low[0].reached, low[0].recall) == (False, 0.25)


def test_few_objects_are_mixed_with_all_classes_and_named() -> None:
    rare, all_classes = made("xxxxx" + "." * 9, 5), made("x" * 40 + "." * 9, 40)
    half = choose({"rare": rare}, all_classes, {"rare": 5}, Rule.parse("f1"), 0.01)
    assert half[0].value == pytest.approx((0.855 + 0.505) / 2)
    assert "fewer than 10 objects, so mixed with the threshold of all classes: rare (5)" in as_text(half)
    none = choose({"rare": made("..", 0)}, all_classes, {"rare": 0}, Rule.parse("f1"), 0.01)
    assert none[0].value == pytest.approx(0.505)


def test_where_nothing_is_found_the_threshold_is_the_usual_one() -> None:
    nothing = made("", 0)
    assert choose({"a": nothing}, nothing, {"a": 0}, Rule.parse("f1"), 0.01)[0].value == 0.5


def test_the_stated_figures_are_those_of_the_detections_above() -> None:
    one = made("x" * 12 + "..x", 15)
    only = choose({"a": one}, one, {"a": 15}, Rule.parse("recall=0.8"), 0.01)[0]
    assert (only.precision, only.recall, only.objects) == (1.0, 0.8, 15)


@pytest.mark.parametrize("text", ["f2", "f1=0.5", "precision", "recall=0", "recall=1.5", "precision=high", ""])
def test_a_wrong_rule_is_named(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"Use f1, precision=0\.95 or recall=0\.9"):
        Rule.parse(text)


@pytest.mark.parametrize("rule", ["f1", "precision=0.99"])
def test_between_neighbouring_scores_the_upper_one_is_kept(rule: str) -> None:
    """Softmax in float32 gives 1 and the number below it; their middle rounds to 1."""
    below = np.nextafter(np.float32(1), np.float32(0))
    scores = np.array([np.float32(1)] * 20 + [below] * 5, np.float32)
    one = curve(scores, np.arange(25) < 20, 20)
    (found,) = choose({"a": one}, one, {"a": 20}, Rule.parse(rule), 0.01)
    assert (found.precision, found.recall, found.reached) == (1.0, 1.0, True)
