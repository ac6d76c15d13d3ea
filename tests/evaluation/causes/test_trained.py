"""A small trained network on drawn images it never saw: advice that is tried, planted wrong labels that are found."""

import dataclasses
from pathlib import Path

import pytest

import ssd
from ssd.data.shapes.dataset import shapes
from ssd.evaluation.causes.evidence import EvidenceDetector
from ssd.evaluation.causes.explain import Cause
from ssd.evaluation.causes.suspects import Fault, find_suspects
from ssd.evaluation.evaluate import evaluate
from ssd.evaluation.metrics.details import Details
from tests.api.corrupted import corrupt, precision_and_recall

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    keys = ("model.input_size=96", "data.shapes=[800,150,96]", "data.workers=0", "train.eval_every=14")
    return ssd.train(epochs=14, output=output, name="shapes", overrides=keys).folder


def test_the_advised_threshold_regains_about_what_was_predicted(run: Path) -> None:
    result = ssd.why(run)
    row = next(row for row in result.causes if row.cause is Cause.THRESHOLD)
    measured = ssd.why(run, score_threshold=float(row.remedy.rpartition(" ")[2]))
    print(f"AP50 {result.ap50:.3f}, predicted {row.ap50:.3f}, measured {measured.ap50:.3f}")
    assert measured.ap50 - result.ap50 > 0.5 * row.gain
    assert measured.ap50 == pytest.approx(row.ap50, abs=0.06)


def test_planted_wrong_labels_come_far_before_right_ones(run: Path) -> None:
    drawn = shapes("other", 400, 96)
    records, planted = corrupt(drawn.records, 4, 0.05)
    data = dataclasses.replace(drawn, records=tuple(records))
    tracer, details = EvidenceDetector(ssd.load(run), records, data.class_names), Details(records, data.class_names)
    evaluate(tracer, data, details, progress=False)
    suspects = find_suspects(details, tracer.evidence)
    objects = sum(len(record.labels) for record in records)
    for fault in Fault:
        named = [(Path(records[place].path).name, box) for place, box in planted[fault]]
        first, whole = (precision_and_recall(suspects, fault, named, len(named) // part) for part in (2, 1))
        print(fault.value, len(named), *(f"{value:.2f}" for value in (*first, *whole)), f"{len(named) / objects:.3f}")
        assert first[0] >= 0.4
        assert whole[0] >= 4 * len(named) / objects
