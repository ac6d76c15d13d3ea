"""Weights, runs, exports and output folders that earlier versions wrote still work."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import ssd
from ssd.commands import detect, train
from ssd.report.run_log import read_rows
from ssd.training.checkpoints import load_state

FILES = Path(__file__).parent / "files"
EXPECTED = json.loads((FILES / "expected.json").read_text())
PACKAGES = {".onnx": "onnxruntime", ".xml": "openvino"}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files in a folder of their own, which is the current one."""
    shutil.copytree(FILES, tmp_path / "files")
    monkeypatch.chdir(tmp_path / "files")
    return tmp_path / "files"


@pytest.mark.parametrize("name", EXPECTED)
def test_an_old_file_finds_the_boxes_that_it_found(name: str) -> None:
    if Path(name).suffix in PACKAGES:
        pytest.importorskip(PACKAGES[Path(name).suffix])
    detector = ssd.load(FILES / name, device="cpu", precision="fp32", trust=name.endswith(".pt2"))
    assert detector.class_names == ("cat", "dog", "cow")
    for image, expected in EXPECTED[name].items():
        found = detector.detect(FILES / "images" / image, score_threshold=0.6, max_detections=6)
        np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-3)
        np.testing.assert_allclose(found.boxes, expected["boxes"], atol=0.05)
        assert list(found.names) == expected["names"]


def test_an_old_run_is_a_detector() -> None:
    detector = ssd.load(FILES / "stopped", device="cpu", precision="fp32")
    assert detector.class_names == ("circle", "square", "star", "triangle")
    assert detector.detect(FILES / "images" / "0.png").boxes.shape[1] == 4


def test_an_old_run_resumes_and_ends_like_the_run_that_was_not_stopped(copied: Path) -> None:
    words = ["stopped/config.yaml", "output=.", "--resume", "stopped", "--quiet"]
    assert train.main(words) == 0
    run = copied / "stopped"
    assert load_state(next(run.glob("state-*.pt")))["step"] == 9
    assert [row["step"] for row in read_rows(run / "train.jsonl")] == list(range(1, 10))
    rows, expected = read_rows(run / "val.jsonl"), read_rows(FILES / "expected_validation.jsonl")
    assert [row["step"] for row in rows] == [3, 6, 9]
    for row, there in zip(rows, expected, strict=True):
        assert row["loss_total"] == pytest.approx(there["loss_total"], rel=1e-3)


def test_an_old_output_folder_is_gone_on_in(copied: Path) -> None:
    journal = copied / "detected" / "detections.jsonl"
    done = journal.read_text().splitlines()[:2]
    words = "images --weights weights.safetensors --score-threshold 0.9 --output detected --resume --quiet"
    assert detect.main(words.split()) == 0
    lines = journal.read_text().splitlines()
    assert lines[:2] == done
    rows = [json.loads(line) for line in lines]
    assert [row["path"] for row in rows] == [f"images/{number}.png" for number in range(4)]
    assert all(row["detections"] for row in rows)
