"""A folder of 12-bit images is trained on, evaluated and detected in as its 8-bit twin is, wherever its weights go."""

import dataclasses
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import ssd
from ssd.benchmark.largest_in_time import Timed
from ssd.commands.detect import main as detect
from ssd.data.shapes.dataset import shapes
from ssd.errors import CheckpointError
from ssd.experiment import config_file as configs
from ssd.experiment.training_config import training_config
from ssd.light import load as load_light
from ssd.training import trainer
from ssd.weights import native
from tests.exporters import made
from tests.training.runs import TINY

WINDOW = (0.0, 4080.0)  # 16 times an 8-bit value is in it what the value is in 8 bits
DEPTH = "preprocessing.depth=[0, 4080]"
WORDS = [word for word in TINY if not word.startswith("data.")] + ["data.workers=0", "train.epochs=1"]


def write_folder(root: Path, bits: int) -> Path:
    """A YOLO folder of drawn grey images, as PNG of 8 bits or of 12 in 16."""
    for split, count in (("train", 8), ("val", 3)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        drawn = shapes(split, count=count, size=80)
        for index in range(count):
            sample = drawn.load(index)
            grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
            values = grey if bits == 8 else grey.astype(np.uint16) * 16
            cv2.imwrite(str(root / "images" / split / f"{index}.png"), values)
            x1, y1, x2, y2 = sample.boxes.T / 80
            rows = zip(sample.labels, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, strict=True)
            lines = (f"{int(label)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for label, x, y, w, h in rows)
            (root / "labels" / split / f"{index}.txt").write_text("".join(lines))
    (root / "classes.txt").write_text("\n".join(drawn.class_names))
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    root = tmp_path_factory.mktemp("twins")
    return {bits: write_folder(root / str(bits), bits) for bits in (8, 12)}


@pytest.fixture(scope="module")
def runs(folders: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    found = {}
    for bits, more in ((8, []), (12, [DEPTH])):
        words = [*WORDS, *more, f"data.folder={folders[bits]}", f"output={tmp_path_factory.mktemp('runs')}"]
        found[bits] = trainer.train(configs.load(None, words), progress=False).folder.path
    return found


def test_the_weights_learn_the_same_and_say_how_to_read(runs):
    (eight, of_eight, _), (twelve, of_twelve, _) = (
        native.load_weights(runs[bits] / "last.safetensors") for bits in runs
    )
    torch.testing.assert_close(twelve, eight, rtol=0, atol=0)
    assert of_twelve.preprocessing.depth == WINDOW
    assert of_twelve == dataclasses.replace(
        of_eight, preprocessing=dataclasses.replace(of_eight.preprocessing, depth=WINDOW)
    )
    assert "depth" not in of_eight.to_dict()["preprocessing"]  # as older versions wrote it


def test_evaluation_reads_by_the_weights(runs, folders):
    eight = ssd.evaluate(runs[8]).metrics
    assert ssd.evaluate(runs[12]).metrics == eight
    detector = ssd.load(runs[12] / "last.safetensors")
    assert ssd.evaluate(detector, folders[12]).metrics == ssd.evaluate(runs[8] / "last.safetensors").metrics
    texts = []
    for bits, run in runs.items():
        text = ssd.why(run / "last.safetensors", folders[bits]).to_text()
        texts.append(text.replace(str(folders[bits]), "FOLDER").replace(str(run), "RUN").split())
    assert texts[0] == texts[1]


def test_files_and_streams_of_arrays_are_detected_in_by_the_weights(runs, folders, tmp_path):
    eight, twelve = (ssd.load(runs[bits] / "last.safetensors") for bits in runs)
    paths = {bits: sorted((folder / "images" / "val").iterdir()) for bits, folder in folders.items()}
    expected = eight.detect_batch(paths[8])
    arrays = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths[12]]
    for found in (twelve.detect_batch(paths[12]), list(twelve.detect_stream(iter(arrays), 2))):
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours.boxes, theirs.boxes)
            np.testing.assert_array_equal(ours.scores, theirs.scores)
    drawn = [detector.detect(paths[bits][0]).plot() for bits, detector in ((8, eight), (12, twelve))]
    np.testing.assert_array_equal(*drawn)
    lines = []
    for bits in runs:
        out = tmp_path / str(bits)
        words = [str(folders[bits] / "images" / "val"), "--weights", str(runs[bits]), "--out", str(out), "--quiet"]
        assert detect(words) == 0
        lines.append((out / "detections.jsonl").read_text().replace(str(folders[bits]), ""))
    assert lines[0] == lines[1]


def test_a_run_is_not_resumed_with_another_window_and_its_weights_hand_theirs_on(runs, folders):
    words = [*WORDS, f"data.folder={folders[12]}", f"output={runs[12].parent}", f"name={runs[12].name}"]
    with pytest.raises(CheckpointError, match=r"preprocessing\.depth \(0\.0, 4080\.0\), not percentile"):
        trainer.train(configs.load(None, [*words, "preprocessing.depth=percentile"]), resume="auto", progress=False)
    weights = str(runs[12] / "last.safetensors")
    assert training_config(None, folders[12], start=weights).preprocessing.depth == WINDOW
    assert training_config(None, folders[12], ["preprocessing.depth=null"], start=weights).preprocessing.depth is None
    assert training_config(None, folders[12]).preprocessing.depth is None


def test_a_smaller_network_for_the_run_reads_as_the_run_does(runs, monkeypatch):
    def first_other(entrants, *_, **__):
        times = zip(entrants[:2], (9.0, 1.0), strict=True)
        return tuple(Timed(one.name, one.input_size, "auto", one.multiply_adds, time) for one, time in times)

    monkeypatch.setattr("ssd.api.shrink_choice.choose", first_other)
    monkeypatch.setattr("ssd.api.shrink.rounds_in_turns", lambda *_: [(1.0,), (9.0,)])
    result = ssd.shrink(runs[12], 5, name="small", overrides=["model.width=0.0375"])
    assert result.comparison is not None
    assert ssd.load(result.weights).settings.preprocessing.depth == WINDOW


_SLOW = [(format, depth) for format in ("onnx", "openvino", "pt2") for depth in (WINDOW, "percentile")]


@pytest.mark.parametrize(
    ("format", "depth"),
    [("plain", WINDOW), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (("plain", "percentile"), *_SLOW))],
)
def test_exports_read_as_the_weights_do(tmp_path, format, depth):
    for name in made.EXTRAS["onnx" if format == "plain" else format]:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    settings = made.settings()
    settings = dataclasses.replace(settings, preprocessing=dataclasses.replace(settings.preprocessing, depth=depth))
    images = [image.astype(np.uint16) * 16 for image in made.images()]
    expected = made.detector(settings).detect_batch(images)
    if depth == WINDOW:
        made.assert_same(expected, made.detector().detect_batch(made.images()))
    if format == "plain":
        path = made.exported(tmp_path, "onnx", settings, plain=True)
        found = load_light(path).detect_batch(images)
    else:
        path = made.exported(tmp_path, format, settings)
        found = ssd.load(path, precision="fp32", trust=format == "pt2").detect_batch(images)
    made.assert_same(found, expected)
    assert found[0].depth == depth


def test_what_is_there_is_said_with_the_key(folders, caplog, tmp_path):
    check = ssd.check_data(folders[12])
    (said,) = (caution for caution in check.readiness.cautions if caution.startswith("train: "))
    assert said.startswith("train: 8 images have more than 8 bits, with values from ")
    assert said.endswith("preprocessing.depth=[0, 4095] or percentile keeps their range")
    assert check.to_dict()["splits"]["train"]["values"]["images"] == 8
    assert not [caution for caution in ssd.check_data(folders[8]).readiness.cautions if "8 bits" in caution]
    good = ssd.check_data(folders[12], overrides=[DEPTH])
    assert not [caution for caution in good.readiness.cautions if "8 bits" in caution]
    assert "read by preprocessing.depth=[0, 4080]" in good.to_text()
    caplog.clear()
    caplog.set_level("INFO")
    words = [*WORDS, f"data.folder={folders[12]}", f"output={tmp_path}"]
    trainer.train(configs.load(None, words), progress=False)
    assert any("of 8 images looked at, 8 images have more than 8 bits" in message for message in caplog.messages)
