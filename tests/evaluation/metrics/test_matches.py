from typing import Any

import numpy as np
import pytest

from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.metrics.matches import Matches, figures_of, over_classes
from ssd.evaluation.metrics.voc import VocMetric
from ssd.structures import ImageDetections, Record
from tests.evaluation.metrics.made import found, hand_in, random_case, record

NAMES = ["a", "b", "c"]
Case = tuple[list[Record], dict[int | str, ImageDetections]]
RULES = {
    "coco": lambda records: CocoMetric(records, NAMES, keep_matches=True),
    "voc": lambda records: VocMetric(records, NAMES),
}
FIGURES = {"coco": ["AP", "AP50", "AP75", "APs", "APm", "APl"], "voc": ["AP", "AP07"]}


def _measured(rules: str, case: Case) -> tuple[dict[str, Any], Matches]:
    metric = hand_in(RULES[rules](case[0]), case[1])
    figures, matches = metric.compute(), metric.matches()
    assert matches is not None
    return figures, matches


def _check(figures: dict[str, Any], resampled: dict[str, np.ndarray], column: int, names: list[str]) -> None:
    for name in names:
        values = resampled[name]
        means = [figures["per_class"][one][name] for one in NAMES] if name in figures["per_class"]["a"] else []
        expected = [np.nan if value is None else value for value in (*means, figures[name])]
        got = [*values[:, column][: len(means)], over_classes(values)[column]]
        np.testing.assert_allclose(got, expected, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("seed", range(6))
def test_every_image_once_gives_the_figures_of_the_metric(rules: str, seed: int) -> None:
    case = random_case(seed, images=20)
    figures, matches = _measured(rules, case)
    _check(figures, figures_of(matches, np.ones((1, 20), int)), 0, FIGURES[rules])


@pytest.mark.parametrize("rules", RULES)
def test_a_resample_equals_the_metric_on_copied_images(rules: str) -> None:
    generator = np.random.default_rng(3)
    records, detections = _without_ties(random_case(3, images=15), generator)
    _, matches = _measured(rules, (records, detections))
    weights = generator.multinomial(15, np.full(15, 1 / 15), size=8)
    assert weights.max() > 2, "some image is copied twice"
    resampled = figures_of(matches, weights)
    for column, counts in enumerate(weights):
        figures, _ = _measured(rules, _copied(records, detections, counts))
        _check(figures, resampled, column, FIGURES[rules])


@pytest.mark.parametrize("rules", RULES)
def test_a_class_without_objects_in_a_resample_has_no_figure(rules: str) -> None:
    a, b = (10, 10, 50, 50), (60, 60, 160, 160)
    case = ([record(0, [a], [0]), record(1, [b], [1])], {0: found((a, 0.9, 0)), 1: found((a, 0.8, 1))})
    _, matches = _measured(rules, case)
    values = figures_of(matches, np.array([[1, 1], [2, 0], [0, 2]]))["AP"]
    np.testing.assert_allclose(values[:2], [[1, 1, np.nan], [0, np.nan, 0]])
    assert np.isnan(values[2]).all()
    np.testing.assert_allclose(over_classes(values), [0.5, 1, 0])


def test_nothing_found_is_zero_in_every_resample() -> None:
    _, matches = _measured("coco", ([record(0, [(0, 0, 9, 9)], [0])], {0: found()}))
    assert figures_of(matches, np.array([[3]]))["AP"][0, 0] == 0


def test_matches_are_kept_only_where_they_are_asked_for() -> None:
    metric = hand_in(CocoMetric([record(0)], NAMES), {0: found()})
    metric.compute()
    assert metric.matches() is None


def _without_ties(case: Case, generator: np.random.Generator) -> Case:
    """Scores that differ; the order of equal ones among copies of an image is arbitrary."""
    records, detections = case
    return records, {
        name: ImageDetections(one.boxes, generator.random(len(one)).astype(np.float32), one.labels)
        for name, one in detections.items()
    }


def _copied(records: list[Record], detections: dict[int | str, ImageDetections], counts: np.ndarray) -> Case:
    """Each image as many times as `counts` says, under ids of their own."""
    import dataclasses

    rows = [(item, copy) for item, count in zip(records, counts, strict=True) for copy in range(count)]
    made = [dataclasses.replace(item, image_id=f"{item.image_id}-{copy}") for item, copy in rows]
    return made, {f"{item.image_id}-{copy}": detections[item.image_id] for item, copy in rows}
