"""Planted causes are named; what mending them regains is what trying the advice gives."""

import dataclasses
import re
import shlex

import numpy as np
import pytest

import ssd
from ssd.api.why import WhyResult
from ssd.commands import check_data, detect, review, train
from ssd.data.shapes.dataset import CLASS_NAMES
from ssd.errors import ArgumentError
from ssd.evaluation.causes.explain import Cause, MissedObject
from ssd.evaluation.causes.remedies import Situation, remedy
from ssd.evaluation.metrics.details import Details
from ssd.experiment.config_file import load
from ssd.experiment.starting_settings import starting_settings
from ssd.inference.detector import Detector
from ssd.model.factory import settings_for
from tests.evaluation.causes.planted import Planted, Scene, dataset, detector, plant
from tests.evaluation.metrics.made import record

PARSERS = {
    "check-data": check_data.parser(),
    "detect": detect.parser(),
    "review": review.parser(),
    "train": train.parser(),
}
PLANTED = [cause for cause in Cause if cause is not Cause.UNKNOWN_CLASS]
FEW = {Cause.LABEL: 0.06}  # wrong labels are seen because the others of their class are right


def examined(scenes: list[Scene], **rules: float | tuple[float, ...]) -> WhyResult:
    return ssd.why(detector(scenes, **rules), dataset(scenes), workers=0)


def is_taken(remedy: str) -> bool:
    """Whether the parser that the remedy is meant for takes it as it stands."""
    words = shlex.split(remedy)
    keys = [word for word in words if re.match(r"[a-z]+\.[a-z_]+=", word)]
    load(None, keys)
    return bool(keys) if words[0] != "ssd" else bool(PARSERS[words[1]].parse_intermixed_args(words[2:]))


@pytest.mark.parametrize("cause", PLANTED)
def test_a_planted_cause_is_named_costs_what_it_took_and_has_a_remedy_that_parses(cause: Cause) -> None:
    scenes = plant(cause, share=FEW.get(cause, 0.2))
    result = examined(scenes)
    planted = {(place, row) for place, scene in enumerate(scenes) for row in scene.planted}
    named = {(item.image, item.object): item.cause for item in result.missed}
    assert len(planted) >= 5
    assert sum(named.get(place) is cause for place in planted) >= 0.95 * len(planted)
    assert sum(place not in planted for place in named) <= 0.05 * result.objects
    assert result.causes[0].cause is cause
    assert result.causes[0].ap50 == pytest.approx(1, abs=0.02)
    assert result.causes[0].gain == pytest.approx(result.causes[0].ap50 - result.ap50)
    assert all(is_taken(row.remedy) for row in result.causes)


def test_a_lower_threshold_regains_what_was_predicted() -> None:
    scenes = plant(Cause.THRESHOLD)
    result = examined(scenes)
    (row,) = result.causes
    advised = float(row.remedy.rpartition(" ")[2])
    assert 0.2 < advised < 0.5
    measured = ssd.why(detector(scenes), dataset(scenes), workers=0, score_threshold=advised)
    assert measured.ap50 == pytest.approx(row.ap50, abs=0.01)
    assert measured.ap50 > result.ap50 + 0.1


def test_the_weights_own_thresholds_decide_class_by_class() -> None:
    scenes = plant(Cause.THRESHOLD)
    low, high = (0.1, 0.1, 0.1, 0.1), (0.1, 0.5, 0.1, 0.1)
    assert examined(scenes, own_thresholds=low).missed == ()
    result = examined(scenes, own_thresholds=high)
    assert dict(result.thresholds) == dict(zip(CLASS_NAMES, high, strict=True))
    assert "missed from a score of 0.10 to 0.50 on, by class" in result.to_text()
    for threshold in ({"square": 0.5}, 0.5):
        given = ssd.why(detector(scenes, own_thresholds=low), dataset(scenes), workers=0, score_threshold=threshold)
        assert [item for item in given.missed if item.name == "square"] == list(result.missed)
    (row,) = result.causes
    assert (row.cause, row.objects) == (Cause.THRESHOLD, len(result.missed))
    assert is_taken(row.remedy)
    name, advised = row.remedy.rpartition(" ")[2].split("=")
    measured = ssd.why(
        detector(scenes, own_thresholds=high), dataset(scenes), workers=0, score_threshold={name: float(advised)}
    )
    assert measured.missed == ()
    assert measured.ap50 == pytest.approx(row.ap50, abs=0.01)


def test_own_thresholds_that_are_not_there_cannot_be_asked_for() -> None:
    scenes = plant(None, images=2)
    with pytest.raises(ArgumentError, match="the weights have no thresholds of their own"):
        ssd.why(detector(scenes), dataset(scenes), workers=0, score_threshold="own")


def test_a_looser_suppression_regains_what_was_predicted() -> None:
    scenes = plant(Cause.SUPPRESSION)
    result = examined(scenes, box_voting=0.0)
    (row,) = result.causes
    measured = examined(scenes, box_voting=0.0, iou_threshold=float(row.remedy.rpartition(" ")[2]))
    assert measured.ap50 == pytest.approx(row.ap50, abs=0.02)
    assert measured.ap50 > result.ap50 + 0.1


def test_detections_cut_off_are_advised_to_be_kept() -> None:
    scenes = plant(None, images=20)
    (row,) = examined(scenes, max_detections=1).causes
    assert row.cause is Cause.SUPPRESSION
    assert row.remedy.endswith("--max-detections 2")


def test_nothing_missed_has_no_cause() -> None:
    result = examined(plant(None, images=5))
    assert result.causes == result.missed == ()
    assert result.found == result.objects
    assert result.ap50 == result.ap50_mended == pytest.approx(1)
    assert "0 missed" in result.to_text()


def test_an_object_annotated_twice_has_a_wrong_label() -> None:
    scenes = plant(None, images=10)
    for scene in scenes:
        if len(scene.record.labels):
            columns = ("boxes", "labels", "difficult", "crowd", "areas")
            twice = {name: np.concatenate([(v := getattr(scene.record, name)), v[:1]]) for name in columns}
            scene.record = dataclasses.replace(scene.record, **twice)
    result = examined(scenes)
    assert {(item.cause, item.detail) for item in result.missed} == {(Cause.LABEL, "annotated twice with the same box")}
    assert result.causes[0].ap50 == pytest.approx(1)


def test_a_class_the_detector_lacks_is_a_cause_of_its_own() -> None:
    scenes = plant(None, images=10)
    data = dataclasses.replace(dataset(scenes), class_names=("circle", "square", "moon", "triangle"))
    result = ssd.why(detector(scenes), data, workers=0)
    assert {(item.cause, item.name) for item in result.missed} == {(Cause.UNKNOWN_CLASS, "moon")}
    assert all(is_taken(row.remedy) for row in result.causes)


def test_difficult_objects_and_crowds_are_not_missed() -> None:
    scenes = plant(Cause.SCORE, images=20)
    for scene in scenes:
        spared = np.isin(np.arange(len(scene.record.labels)), scene.planted)
        scene.record = dataclasses.replace(scene.record, difficult=spared)
    result = examined(scenes)
    assert result.missed == ()
    assert result.objects == sum(int((~scene.record.difficult).sum()) for scene in scenes)


def test_an_exported_graph_does_not_tell_why() -> None:
    class Graph(Planted):
        def predict(self, inputs):
            return super().postprocess(super().predict(inputs), self.settings.postprocessing)

    scenes = plant(None, images=2)
    with pytest.raises(ArgumentError, match="Name the weights it was exported from"):
        ssd.why(Detector(Graph(scenes)), dataset(scenes), workers=0)


def test_a_page_other_than_html_is_refused_before_anything_is_detected() -> None:
    with pytest.raises(ArgumentError, match=r"is not an \.html file"):
        ssd.why(None, report="page.pdf")


def test_the_page_shows_every_cause_with_its_objects_and_the_class_that_won(tmp_path) -> None:
    scenes = plant(Cause.CLASS, images=10)
    result = ssd.why(detector(scenes), dataset(scenes), workers=0, report=tmp_path / "missed.html")
    page = (tmp_path / "missed.html").read_text(encoding="utf-8")
    assert f"Another class won ({len(result.missed)})" in page
    item = result.missed[0]
    assert f"{item.name}: {item.detail}" in page
    assert f'<td class="word">{item.name}</td>' in page
    assert f'<td class="word">{item.other}</td>' in page
    assert page.count("data:image/jpeg") == min(len(result.missed), 12)


def test_weights_with_tiles_are_searched_in_whole_images_which_is_said(caplog: pytest.LogCaptureFixture) -> None:
    scenes = plant(None, images=2)
    tiled = detector(scenes)
    tiled.pipeline.settings = dataclasses.replace(tiled.settings, tiles=3)
    plain, said = ssd.why(detector(scenes), dataset(scenes), workers=0), caplog.text
    assert ssd.why(tiled, dataset(scenes), workers=0).to_dict() == plain.to_dict() | {"weights": repr(tiled)}
    assert "trained on tiles" not in said
    assert "trained on tiles, but searched here in whole images" in caplog.text


@pytest.mark.parametrize(
    "numbers",
    [
        {"input_size": 128, "backbone": "vgg11", "width": 0.25},
        {"input_size": 512, "levels": (64, 32, 16, 8)},
        {"input_size": 320, "backbone": "mobilenet_v2", "head": "lite", "extras_norm": "batch"},
        {"input_size": 300, "atrous": False},
    ],
)
def test_boxes_are_fitted_for_the_levels_of_the_run(numbers: dict[str, object]) -> None:
    settings = settings_for(CLASS_NAMES, **numbers)
    box = (90.0, 0.0, 92.0, 190.0)
    details = Details([record(0, [box], [0])], CLASS_NAMES)
    missed = MissedObject(0, 0, "0.jpg", box, "circle", Cause.DEFAULT_BOXES, "", 0.0)
    advice = remedy(Cause.DEFAULT_BOXES, [missed], Situation(settings, details, [], "RUN", "FOLDER", {}))
    assert advice.startswith("ssd check-data FOLDER --fit-boxes model.")
    assert is_taken(advice)
    fitted = starting_settings(load(None, shlex.split(advice)[4:]), ("object",)).boxes
    assert (fitted.input_size, fitted.grids) == (settings.boxes.input_size, settings.boxes.grids)


def test_at_a_threshold_of_0_an_object_that_nothing_found_is_not_annotated_twice() -> None:
    scenes = plant(Cause.DEFAULT_BOXES)
    result = ssd.why(detector(scenes), dataset(scenes), workers=0, score_threshold=0.0)
    assert result.missed
    assert Cause.LABEL not in {item.cause for item in result.missed}


def test_a_table_of_default_boxes_replaces_sizes_of_the_configs_own() -> None:
    sizes = ["model.min_sizes=[0.5,0.55,0.6,0.65,0.7,0.75]", "model.max_sizes=[0.55,0.6,0.65,0.7,0.75,0.8]"]
    box = (90.0, 90.0, 130.0, 130.0)
    details = Details([record(0, [box], [0])], CLASS_NAMES)
    missed = MissedObject(0, 0, "0.jpg", box, "circle", Cause.DEFAULT_BOXES, "", 0.0)
    for keys in (sizes, ["model.box_table=coco"]):
        settings = starting_settings(load(None, keys), CLASS_NAMES)
        advice = remedy(Cause.DEFAULT_BOXES, [missed], Situation(settings, details, [], "RUN", "FOLDER", {}))
        assert advice.startswith("model.box_table=")
        changed = starting_settings(load(None, [*keys, *advice.split()]), CLASS_NAMES)
        assert ("null" in advice) == (keys == sizes)
        table = advice.split()[0]
        assert changed.boxes == starting_settings(load(None, [table]), CLASS_NAMES).boxes
