"""The blocks of docs/embed.md run, and the C++ program finds what `ssd.light` finds."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd import light
from ssd.exporters.export import export
from ssd.images.drawing import encode_image
from tests.exporters import made

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "embed.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
IMAGE = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 6, 3), np.uint8), (140, 90))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain graph of 64 pixels and an image, under the names of the page."""
    folder = tmp_path_factory.mktemp("embed")
    settings = made.settings("area", score_threshold=0.5, top_k=400)
    export(made.network(), settings, folder / "best.plain.onnx", plain=True)
    (folder / "photo.jpg").write_bytes(encode_image(IMAGE, ".jpg"))
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=["light", "own engine", "onnxruntime", "opencv"])
def test_a_block_runs(
    block: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "openvino" in block:
        pytest.importorskip("openvino")
    monkeypatch.chdir(folder)
    exec(compile(block.replace("300", "64"), str(PAGE), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


def test_ten_lines_with_onnx_runtime_find_what_the_detector_finds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = (block for block in BLOCKS if "onnxruntime.InferenceSession" in block)
    monkeypatch.chdir(folder)
    exec(compile(block, str(PAGE), "exec"), {"__name__": "__main__"})
    printed = [re.findall(r"[\d.]+|cat|dog|cow", line) for line in capsys.readouterr().out.splitlines()]
    rows = [(name, [float(number) for number in numbers]) for name, *numbers in printed]
    _assert_same(rows, folder, atol=0.05)  # OpenCV suppresses boxes of whole pixels' precision


@pytest.mark.slow
def test_the_program_in_cpp_finds_what_the_detector_finds(folder: Path, tmp_path: Path) -> None:
    if shutil.which("g++") is None or not Path("/usr/include/opencv4").is_dir():
        pytest.skip("needs g++ and OpenCV's headers: apt-get install g++ libopencv-dev")
    (compile_line,) = re.findall(r"^g\+\+ (.*)$", PAGE.read_text(encoding="utf-8"), re.M)
    words = compile_line.replace("-o embed", f"-o {tmp_path / 'embed'}").split()
    subprocess.run(["g++", *words], cwd=ROOT, check=True, timeout=300)
    command = [tmp_path / "embed", folder / "best.plain.onnx", folder / "photo.jpg", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    found = [(made.CLASSES[int(label)], [float(number) for number in numbers]) for label, *numbers in rows]
    _assert_same(found, folder, atol=0.05)


def _assert_same(found: list[tuple[str, list[float]]], folder: Path, atol: float) -> None:
    """Name, score and corners of each detection, in any order, are those of `ssd.light`."""
    detector = light.load(folder / "best.plain.onnx")
    detector.facts = dataclasses.replace(
        detector.facts, postprocessing=dataclasses.replace(detector.facts.postprocessing, clip="after")
    )
    expected = detector.detect(folder / "photo.jpg", score_threshold=0.5, iou_threshold=0.45)
    assert len(expected) > 3
    ours, theirs = sorted(found), sorted((one.name, [one.score, *one.box]) for one in expected)
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    rows = np.array([numbers for _, numbers in ours]).clip(0, [1, 140, 90, 140, 90])
    np.testing.assert_allclose(rows, np.array([numbers for _, numbers in theirs]), atol=atol)
