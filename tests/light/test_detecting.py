"""The light detector: its options, its errors, and that it loads without PyTorch."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssd import light
from ssd.errors import ArgumentError, CheckpointError, ImageError, UnknownOptionError
from ssd.images.drawing import encode_image
from ssd.inference.detections import Detections
from ssd.light.plain_file import PlainFacts
from ssd.rules import Postprocessing

ROOT = Path(__file__).resolve().parents[2]
FACTS = PlainFacts(("cat", "dog"), 8, "uint8", Postprocessing())


def engine(images: np.ndarray) -> Any:
    """One box for each image: its upper half, a dog."""
    boxes = np.tile(np.array([[0, 0, 1, 0.5]], np.float32), (len(images), 1, 1))
    return boxes, np.tile(np.array([[0.3, 0.1, 0.6]], np.float32), (len(images), 1, 1))


def detector() -> light.LightDetector:
    return light.LightDetector(FACTS, engine)


IMAGE = np.full((20, 40, 3), 200, np.uint8)


def test_nothing_of_it_imports_pytorch() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['pydantic'] = None\n"
        "import numpy as np, ssd, ssd.light\n"
        "from ssd.light.plain_file import PlainFacts\n"
        "from ssd.rules import Postprocessing\n"
        "engine = lambda images: (np.array([[[0, 0, 1, 0.5]]], np.float32), np.array([[[0.3, 0.7]]], np.float32))\n"
        "facts = PlainFacts(('cat',), 8, 'float', Postprocessing(box_voting=0.05))\n"
        "found = ssd.light.LightDetector(facts, engine).detect(np.zeros((20, 40, 3), np.uint8))\n"
        "print(found.to_json(), found.plot().shape, len(found.crop()), isinstance(found, ssd.Detections))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("(20, 40, 3) 1 True\n")


def test_detections_are_pixels_of_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_image(IMAGE, ".png"))
    for source in (IMAGE, path, str(path), path.read_bytes()):
        found = detector().detect(source, score_threshold=0.5)
        assert isinstance(found, Detections)
        assert found.boxes.tolist() == [[0, 0, 40, 10]]
        assert found.names == ("dog", "cat")[:1]
    assert found.image_size == (20, 40)
    assert detector().detect(path).source == path
    assert detector().detect(path).draw_from == 0.5
    assert detector().detect(path, score_threshold=0.1).draw_from == 0.0


def test_thresholds_are_free() -> None:
    assert len(detector().detect(IMAGE, score_threshold=0.05)) == 2
    assert len(detector().detect(IMAGE, score_threshold=0.7)) == 0
    assert len(detector().detect_batch([IMAGE] * 3, 2, max_detections=1)) == 3
    with pytest.raises(ArgumentError, match=r"score_threshold: 7.0 is out of range"):
        detector().detect(IMAGE, score_threshold=7.0)
    with pytest.raises(UnknownOptionError, match="score_threshold"):
        detector().detect(IMAGE, conf=0.5)  # type: ignore[call-arg]


def test_wrong_images_and_broken_engines_are_named() -> None:
    with pytest.raises(ImageError, match="image"):
        detector().detect(3)
    with pytest.raises(ArgumentError, match="one image"):
        detector().detect_batch(IMAGE)
    broken = light.LightDetector(FACTS, lambda images: (np.full((1, 1, 4), np.nan, np.float32), engine(images)[1]))
    with pytest.raises(CheckpointError, match="not finite"):
        broken.detect(IMAGE)


def test_bgr_turns_the_channels() -> None:
    seen = []

    def watch(images: np.ndarray) -> Any:
        seen.append(images[0, :, 0, 0].tolist())
        return engine(images)

    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0] = 9
    for bgr in (False, True):
        light.LightDetector(FACTS, watch).detect(image, bgr=bgr)
    assert seen == [[9, 0, 0], [0, 0, 9]]


def test_a_backend_that_is_unknown_or_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssd.errors import MissingExtraError
    from ssd.light import engines

    with pytest.raises(ArgumentError, match=r"'tflite' is unknown\. Choose from auto, onnxruntime, opencv"):
        engines.open_engine(tmp_path / "x.onnx", "tflite", None)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    with pytest.raises(MissingExtraError, match="pip install onnxruntime"):
        engines.open_engine(tmp_path / "x.onnx", "onnxruntime", None)
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match="not a graph that opencv can read"):
        engines.open_engine(tmp_path / "x.onnx", "auto", None)


def test_thresholds_of_the_weights_and_by_class() -> None:
    own = dataclasses.replace(FACTS, postprocessing=Postprocessing(own_thresholds=(0.05, 0.7)))
    weights = light.LightDetector(own, engine)
    assert weights.detect(IMAGE, score_threshold="own").names == ("cat",)
    assert weights.detect(IMAGE).draw_from == (0.05, 0.7)
    assert detector().detect(IMAGE, score_threshold={"dog": 0.2}).names == ("dog",)
    with pytest.raises(ArgumentError, match="no class 'cow'"):
        detector().detect(IMAGE, score_threshold={"cow": 0.2})


def test_a_graph_of_weights_with_tiles_says_that_whole_images_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ssd.light import detecting

    monkeypatch.setattr(detecting, "open_engine", lambda path, backend, threads: (engine, "own"))
    for tiled in (False, True):
        facts = dataclasses.replace(FACTS, tiled=tiled)
        monkeypatch.setattr(detecting, "read_facts", lambda path, facts=facts: facts)
        light.load(tmp_path / "x.onnx")
        assert ("trained on tiles" in caplog.text) == tiled
