import math

import numpy as np
import pytest

from ssd.evaluation.metrics.intervals import Draws, Estimate, choices, draw, ends, intervals
from ssd.evaluation.metrics.matches import ClassMatches, Figure, Matches
from ssd.evaluation.metrics.voc import VocMetric
from tests.evaluation.coverage import coverage, judged, truth
from tests.evaluation.metrics.made import found, hand_in, record

THRESHOLDS = np.arange(0.5, 1, 0.05)[:10]
BOX = (10, 10, 50, 50)


def drawn_matches(images: int, seed: int, *, quality: float = 1.6, noise: int = 0) -> Matches:
    """Detections drawn from a fixed model: hard images and hard objects are found late, loosely or not at all.

    Another `noise` is another detector of the same quality on the same objects.
    """
    generator, own = np.random.default_rng(seed), np.random.default_rng([seed, noise])
    hard, table = generator.normal(0, 1, images), []
    for _ in range(3):
        objects = generator.poisson(0.9, images)
        place = np.repeat(np.arange(images), objects)
        harder = hard[place] + generator.normal(0, 1, len(place))
        overlap = 1 / (1 + np.exp(0.7 * harder - quality - own.normal(0, 0.5, len(place))))
        score = 1 - 1.6 * harder + own.normal(0, 1, len(place))
        seen = own.random(len(place)) < 0.95
        false = np.repeat(np.arange(images), own.poisson(2.5, images))
        images_of = np.concatenate([place[seen], false])
        scores = np.concatenate([score[seen], own.normal(-2.5, 1.2, len(false)) + 0.6 * hard[false]])
        hits = np.concatenate([overlap[seen] >= THRESHOLDS[:, None], np.zeros((10, len(false)), bool)], axis=1)
        order = np.argsort(-scores, kind="stable")
        table.append(ClassMatches(images_of[order], hits[:, order], np.ones_like(hits), objects))
    figures = (Figure("AP", 0, None, "coco"), Figure("AP50", 0, 0, "coco"))
    return Matches(("a", "b", "c"), images, (tuple(table),), figures)


def test_all_images_come_first_then_random_halves_then_all_but_each_one() -> None:
    chosen = choices(30, resamples=200)
    assert (chosen[0] == 1).all()
    assert (chosen[1:201].sum(axis=1) == 15).all()
    assert chosen.max() == 1, "no image counts twice"
    assert sorted(chosen[201:].argmin(axis=1)) == list(range(30)), "each image is left out once"
    assert np.array_equal(chosen, choices(30, resamples=200)), "the same in every call"
    assert set(choices(7, resamples=200)[1:201].sum(axis=1)) == {3, 4}


def test_of_many_images_groups_are_left_out() -> None:
    left_out = choices(1000, resamples=100)[101:]
    assert len(left_out) == 200
    assert (left_out.sum(axis=1) == 995).all()


def test_a_figure_lies_in_its_interval_and_more_images_make_it_narrower() -> None:
    few, many = (intervals(drawn_matches(images, 1), 300)["AP"] for images in (40, 640))
    for found_intervals in (few, many):
        for one in found_intervals.values():
            assert one.low < one.value < one.high
    assert (many[""].high - many[""].low) < 0.4 * (few[""].high - few[""].low)


def test_the_interval_of_a_mean_is_that_of_the_textbook() -> None:
    """Normally distributed numbers without skew: mean +- t standard errors."""
    values = np.random.default_rng(0).normal(0, 1, 50)
    chosen = choices(50, resamples=20_000)
    means = (chosen * values).sum(axis=1) / chosen.sum(axis=1)
    estimate = Draws(means[None, 0], means[None, 1:20_001], means[None, 20_001:], np.ones(1), shares=False).estimate(0)
    error = values.std(ddof=1) / math.sqrt(50)
    assert estimate.low == pytest.approx(values.mean() - 2.01 * error, abs=0.08 * error)
    assert estimate.high == pytest.approx(values.mean() + 2.01 * error, abs=0.08 * error)


def test_an_excess_that_halves_show_is_taken_off() -> None:
    """A figure that exceeds the truth by images ** -2/3, with a spread of its own."""
    excess = 1000 ** (-2 / 3)
    noise = np.random.default_rng(0).normal(0, 0.001, 4000)
    in_halves = 0.5 + excess * 2 ** (2 / 3) + noise - noise.mean()
    left_out = 0.5 + excess + noise[:20] * 0.05
    estimate = Draws(np.array([0.5 + excess]), in_halves[None], left_out[None], np.ones(1), shares=False).estimate(0)
    assert 0.495 < estimate.low < 0.5
    assert estimate.high == estimate.value == pytest.approx(0.51)


def test_a_jackknife_with_more_spread_than_the_halves_widens_the_interval() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 400)
    in_halves = (noise - noise.mean()) / noise.std(ddof=1)
    spread = noise[:20] - noise[:20].mean()
    spread /= np.sqrt(19 / 20 * (spread**2).sum())  # a jackknife's standard error of 1

    def width(jackknife: float) -> float:
        draws = Draws(np.zeros(1), in_halves[None], jackknife * spread[None], np.ones(1), shares=False)
        return draws.estimate(0).high - draws.estimate(0).low

    assert width(1.2) == pytest.approx(1.2 * width(0.5))
    assert width(3.0) == pytest.approx(1.25 * width(1.0))


def test_the_interval_of_a_share_stays_between_0_and_1() -> None:
    chosen = choices(40, resamples=2000)
    for found_of_40 in (1, 39):
        shares = (chosen * (np.arange(40) < found_of_40)).sum(axis=1) / chosen.sum(axis=1)
        estimate = Draws(shares[None, 0], shares[None, 1:2001], shares[None, 2001:], np.array([40.0])).estimate(0)
        assert 0 <= estimate.low < estimate.value < estimate.high <= 1


def test_few_objects_widen_an_interval_that_the_images_leave_narrow() -> None:
    noise = np.random.default_rng(0).normal(0, 0.001, 400)
    draws = Draws(np.array([0.9]), 0.9 + noise[None], 0.9 + noise[None, :20] / 20, np.array([3.0]))
    assert draws.estimate(0).low == pytest.approx(0.9 * 0.1 ** (1 / 3))


def test_a_class_that_is_always_found_may_be_missed_elsewhere() -> None:
    """At the lower end a tenth of all samples of as many objects has no miss."""
    records = [record(place, [BOX], [0]) for place in range(3)]
    perfect = {place: found((BOX, 0.9, 0)) for place in range(3)}
    always = intervals(hand_in(VocMetric(records, ["cat", "dog"]), perfect).matches(), 100)["AP"]
    assert always["dog"] == Estimate(None)
    assert (always["cat"].value, always["cat"].high) == (1.0, 1.0)
    assert always["cat"].low ** 3 == pytest.approx(0.1)
    assert always[""] == always["cat"], "the mean over the one class that has objects"


def test_the_mean_of_two_classes_has_the_unseen_misses_of_as_many_objects_as_vary_like_it() -> None:
    """(p + q) / 2 from n and m objects varies like one share from 4 / (1 / n + 1 / m)."""
    records = [record(place, [BOX, BOX], [0, 1]) for place in range(6)] + [record(6, [BOX], [0])]
    perfect = {place: found((BOX, 0.9, 0), (BOX, 0.8, 1)) for place in range(6)} | {6: found((BOX, 0.9, 0))}
    always = intervals(hand_in(VocMetric(records, ["cat", "dog"]), perfect).matches(), 100)["AP"]
    assert always["cat"].low == pytest.approx(0.1 ** (1 / 7))
    assert always[""].low == pytest.approx(0.1 ** ((1 / 7 + 1 / 6) / 4))


def test_without_objects_or_where_none_is_found_there_is_no_interval() -> None:
    records = [record(place, [BOX], [0]) for place in range(3)]
    metric = hand_in(VocMetric(records, ["cat", "dog"]), {place: found() for place in range(3)})
    assert intervals(metric.matches(), 100)["AP"] == {"cat": Estimate(0.0), "dog": Estimate(None), "": Estimate(0.0)}
    assert ends(Estimate(1.0)) == "n/a"
    assert ends(Estimate(0.5, 0.41, 0.6), signed=True) == "+0.410 to +0.600"


@pytest.mark.slow
@pytest.mark.parametrize("quality", [1.6, 3.5])
def test_intervals_of_72_images_mostly_hold_the_figure_over_20000(quality: float) -> None:
    shares = coverage(drawn_matches(20_000, 7, quality=quality), size=72, draws=300, resamples=500)
    for (figure, kind), share in shares.items():
        assert 0.93 <= share <= 0.97, (figure, kind, shares)


@pytest.mark.slow
def test_equal_detectors_are_seldom_called_different() -> None:
    a, b = (drawn_matches(20_000, 7, noise=noise) for noise in (1, 2))
    assert truth(b)["AP"][-1] == pytest.approx(truth(a)["AP"][-1], abs=0.004)
    said = judged(a, b, size=72, draws=300, resamples=300)
    assert said["AP", "better"] + said["AP", "worse"] <= 0.05, said


def test_images_with_objects_are_counted_for_each_class_and_the_fewest_for_their_mean() -> None:
    matches = drawn_matches(40, 2)
    images = [int((one.objects > 0).sum()) for one in matches.tables[0]]
    draws = draw(matches, choices(40, 10), 10)
    assert draws["AP"].holders is not None
    assert draws["AP"].holders.tolist() == [*images, min(images)]
