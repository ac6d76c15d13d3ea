"""Planted wrong labels under predictions made by hand: each is found, with its kind and the right proposal."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ssd.evaluation.causes.evidence import EvidenceDetector
from ssd.evaluation.causes.suspects import Fault, Suspect, find_suspects, proposed
from ssd.evaluation.evaluate import evaluate
from ssd.evaluation.metrics.details import Details
from tests.api.corrupted import corrupt, precision_and_recall
from tests.evaluation.causes.planted import Scene, dataset, detector, plant


def suspects_of(scenes: list[Scene]) -> tuple[list[Suspect], Details]:
    data = dataset(scenes)
    tracer, details = (
        EvidenceDetector(detector(scenes), data.records, data.class_names),
        Details(data.records, data.class_names),
    )
    evaluate(tracer, data, details, workers=0, progress=False)
    return find_suspects(details, tracer.evidence), details


@pytest.fixture(scope="module")
def reviewed():
    """Scenes whose network is right everywhere, and whose labels are wrong in places."""
    scenes = plant(None, images=60)
    right = [scene.record for scene in scenes]
    wrong, planted = corrupt(right, 4, 0.05)
    for scene, record in zip(scenes, wrong, strict=True):
        scene.record = record
    return *suspects_of(scenes), right, wrong, planted


@pytest.mark.parametrize("fault", list(Fault))
def test_planted_faults_come_first_among_their_kind(fault: Fault, reviewed) -> None:
    suspects, _, right, _, planted = reviewed
    named = [(Path(right[place].path).name, box) for place, box in planted[fault]]
    assert len(named) >= 4
    precision, recall = precision_and_recall(suspects, fault, named)
    assert min(precision, recall) >= 0.9


def test_the_proposals_give_the_right_labels_back(reviewed) -> None:
    suspects, _, right, wrong, _ = reviewed
    names = dataset(plant(None, images=1)).class_names
    sure = [item for item in suspects if item.score >= 0.3]
    mended = [
        proposed(record, [item for item in sure if item.image == place], names) for place, record in enumerate(wrong)
    ]

    def same(one, other) -> bool:
        pairs = zip(
            *(sorted(zip(r.labels.tolist(), r.boxes.tolist(), strict=True)) for r in (one, other)), strict=False
        )
        return len(one.labels) == len(other.labels) and all(
            a[0] == b[0] and np.abs(np.array(a[1]) - b[1]).max() < 4 for a, b in pairs
        )

    before, after = (sum(same(r, w) for r, w in zip(right, records, strict=True)) for records in (wrong, mended))
    assert before < 0.7 * len(right)
    assert after > 0.9 * len(right)


def test_right_labels_have_no_sure_suspect() -> None:
    suspects, _ = suspects_of(plant(None, images=20))
    assert [item for item in suspects if item.score >= 0.3] == []


def test_an_object_has_one_fault_at_most(reviewed) -> None:
    suspects, *_ = reviewed
    objects = [(item.image, item.object) for item in suspects if item.object is not None]
    assert len(objects) == len(set(objects))
    assert [item.score for item in suspects] == sorted((item.score for item in suspects), reverse=True)


def test_difficult_objects_and_crowds_are_not_judged() -> None:
    scenes = plant(None, images=10)
    for scene in scenes:
        scene.said = []
        count = len(scene.record.labels)
        scene.record = dataclasses.replace(scene.record, difficult=np.ones(count, bool))
    suspects, _ = suspects_of(scenes)
    assert {item.fault for item in suspects} <= {Fault.MISSING}


def test_the_threshold_is_not_computed_anew_for_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    threshold = Details.threshold
    monkeypatch.setattr(Details, "threshold", lambda details: asked.append(details) or threshold(details))
    suspects_of(plant(None, images=5))
    assert len(asked) == 1
