"""Thresholds for each class, from the evaluation that chooses them to the exports that obey them."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import ssd
from ssd.api.own_thresholds import place_beside
from ssd.commands.detect import main as detect
from ssd.commands.eval import main as evaluate
from ssd.data.shapes.dataset import shapes
from ssd.errors import ArgumentError, CheckpointError
from ssd.images.drawing import encode_image
from ssd.settings import Postprocessing, Settings
from ssd.weights.native import load_weights, save_weights
from tests.commands.test_eval import SHAPES, make_run

NAMES = ("circle", "square", "triangle")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "small", NAMES, SHAPES)


@pytest.fixture
def image() -> np.ndarray:
    return shapes("val", 1, 96).load(0).image


@pytest.fixture
def own(run: Path, image: np.ndarray) -> tuple[float, ...]:
    """For each class a threshold in the widest gap between its scores in the image."""
    found = ssd.load(run, precision="fp32", backend="torch").detect(image)
    values = []
    for label in range(len(NAMES)):
        scores = found.scores[found.labels == label].astype(float)
        if len(scores) < 4:
            values.append(0.5)
            continue
        place = 1 + int((scores[1:-2] - scores[2:-1]).argmax())
        values.append((scores[place] + scores[place + 1]) / 2)
    return tuple(map(float, values))


def with_own(run: Path, values: tuple[float, ...]) -> Path:
    """A copy of the run's weights with these thresholds."""
    state, settings, extra = load_weights(run / "best.safetensors")
    rules = dataclasses.replace(settings.postprocessing, own_thresholds=values)
    path = run / "own.safetensors"
    save_weights(path, state, dataclasses.replace(settings, postprocessing=rules), extra=extra)
    return path


def test_an_evaluation_chooses_thresholds_and_writes_a_copy_of_the_weights(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "best.safetensors").read_bytes()
    assert evaluate([str(run), "--set-thresholds", "f1", "--quiet"]) == 0
    printed = capsys.readouterr().out
    copy = run / "best.thresholds.safetensors"
    assert f"weights with thresholds: {copy}" in printed
    assert "mixed with the threshold of all classes" in printed
    assert (run / "best.safetensors").read_bytes() == before
    state, settings, extra = load_weights(copy)
    assert len(settings.postprocessing.own_thresholds) == 3
    assert all(0.01 <= value <= 1 for value in settings.postprocessing.own_thresholds)
    assert settings.postprocessing.score_threshold == 0.01
    assert set(extra["thresholds"]["classes"]) == set(NAMES)
    assert (extra["thresholds"]["rule"], extra["thresholds"]["images"]) == ("f1", 6)
    original = load_weights(run / "best.safetensors")[0]
    assert all((state[name] == original[name]).all() for name in original)
    assert evaluate([str(run), "--set-thresholds", "f1", "--quiet"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_ap_is_the_same_with_thresholds_and_own_ones_can_be_evaluated(run: Path) -> None:
    path, data = with_own(run, (1.0, 0.0, 1.0)), shapes("val", count=6, size=64)
    assert ssd.evaluate(path, data).metrics == ssd.evaluate(run, data).metrics
    kept = ssd.evaluate(path, data, score_threshold="own")
    assert kept.evaluation.rules.class_thresholds == (1.0, 0.0, 1.0)
    found = [kept.detector.detect(data.load(place).image, score_threshold="own") for place in range(6)]
    assert kept.metrics["detections"] == sum(map(len, found)) > 0
    assert {name for one in found for name in one.names} == {"square"}


def test_own_thresholds_are_those_of_each_class(run: Path, image: np.ndarray, own: tuple[float, ...]) -> None:
    detector = ssd.load(with_own(run, own), precision="fp32", backend="torch")
    everything, kept = detector.detect(image), detector.detect(image, score_threshold="own")
    keep = everything.scores > np.array(own, np.float32)[everything.labels]
    assert 0 < len(kept) < len(everything)
    np.testing.assert_array_equal(kept.scores, everything.scores[keep])
    np.testing.assert_array_equal(kept.boxes, everything.boxes[keep])
    assert len(everything.readable()) == len(kept), "plot and save draw these"
    by_name = detector.detect(image, score_threshold={"circle": 1.0})
    assert by_name.names == tuple(name for name in kept.names if name != "circle")
    assert len(by_name.readable()) == len(by_name)


def test_without_own_thresholds_the_others_start_at_a_half(run: Path, image: np.ndarray) -> None:
    detector = ssd.load(run, precision="fp32", backend="torch")
    everything = detector.detect(image)
    name = everything.names[len(everything) // 2]
    found = detector.detect(image, score_threshold={name: 1.0})
    expected = (everything.scores > 0.5) & (np.array(everything.names) != name)
    assert name not in found.names
    assert (found.scores > 0.5).all()
    # Those of the class that is not wanted leave their places among the 200 to others.
    assert len(found) >= expected.sum()
    np.testing.assert_array_equal(found.scores[: expected.sum()], everything.scores[expected])
    with pytest.raises(ArgumentError, match=r"no thresholds of their own.*--set-thresholds"):
        detector.detect(image, score_threshold="own")


@pytest.mark.parametrize(
    ("threshold", "problem"),
    [
        ({"bird": 0.3}, "no class 'bird'. There are: circle, square, triangle"),
        ({"circle": 1.5}, "1.5 is out of range"),
    ],
)
def test_a_wrong_threshold_is_named(threshold: object, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        Postprocessing().with_threshold(threshold, NAMES)


def test_settings_without_thresholds_are_written_as_before(run: Path) -> None:
    settings = load_weights(run / "best.safetensors")[1]
    assert "own_thresholds" not in settings.to_dict()["postprocessing"]
    own = load_weights(with_own(run, (0.3, 0.05, 0.12)))[1]
    assert Settings.from_dict(json.loads(json.dumps(own.to_dict()))) == own
    wrong = own.to_dict()
    wrong["postprocessing"]["own_thresholds"] = [0.5]
    with pytest.raises(CheckpointError, match="own_thresholds"):
        Settings.from_dict(wrong)


@pytest.mark.parametrize(("format", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino"), ("pt2", "torch")])
def test_an_export_obeys_the_thresholds(
    run: Path, image: np.ndarray, own: tuple[float, ...], format: str, package: str
) -> None:
    if importlib.util.find_spec(package) is None or (format == "onnx" and not importlib.util.find_spec("onnxscript")):
        pytest.skip(f"needs {package}")
    weights = with_own(run, own)
    exported = ssd.export(weights, format, limit=2)
    graph = ssd.load(exported.path, precision="fp32", trust=True)
    assert graph.settings.postprocessing.own_thresholds == own
    assert len(graph.detect(image).readable()) == len(graph.detect(image, score_threshold="own"))
    detector = ssd.load(weights, precision="fp32", backend="torch")
    for threshold in ("own", {"square": 1.0}):
        expected, found = (one.detect(image, score_threshold=threshold) for one in (detector, graph))
        assert sorted(found.names) == sorted(expected.names)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        for name in set(found.names):
            ours, theirs = (np.sort(one.filter(name).boxes, axis=0) for one in (found, expected))
            np.testing.assert_allclose(ours, theirs, atol=0.02)
    with pytest.raises(ArgumentError, match="is not possible: the graph was exported with"):
        graph.detect(image, score_threshold={"square": 0.001})


def test_thresholds_are_chosen_on_weights_and_not_on_an_export(run: Path) -> None:
    with pytest.raises(ArgumentError, match="a copy of a weights file, and this is none"):
        ssd.evaluate(run / "best.onnx", set_thresholds="f1")
    with pytest.raises(ArgumentError, match=r"not a \.safetensors file"):
        ssd.evaluate(run, set_thresholds="f1", weights_output="x.pt")


def test_the_copy_of_published_weights_lies_in_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("coco").mkdir()  # a data set's folder
    assert place_beside("coco") == Path("runs/coco.thresholds.safetensors")


def test_the_command_detects_by_own_thresholds_unless_another_is_named(
    run: Path, tmp_path: Path, image: np.ndarray, own: tuple[float, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photo.png").write_bytes(encode_image(image, ".png"))
    weights, options = with_own(run, own), ["--format", "jsonl", "--quiet", "--precision", "fp32"]
    counts = {}
    named = {"plain": [], "own": ["--score-threshold", "own"], "circle": ["--score-threshold", "circle=1.0"]}
    for name, more in named.items():
        folder = tmp_path / name
        command = [str(tmp_path / "photo.png"), "--weights", str(weights), "--output", str(folder), *options, *more]
        assert detect(command) == 0
        counts[name] = len(json.loads((folder / "detections.jsonl").read_text())["detections"])
    expected = ssd.load(weights, precision="fp32").detect(image, score_threshold="own")
    assert counts["plain"] == counts["own"] == len(expected)
    assert counts["circle"] == sum(name != "circle" for name in expected.names)
    assert detect([str(tmp_path / "photo.png"), "--score-threshold", "high"]) == 2
    assert "--score-threshold: 'high' is no threshold" in capsys.readouterr().err
