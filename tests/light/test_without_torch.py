"""In an environment without PyTorch each engine finds what PyTorch finds, on BCCD's test images."""

import dataclasses
import json
import re
import shlex
import subprocess
import venv
from pathlib import Path

import pytest

from ssd.exporters.export import export
from ssd.exporters.parity import TOLERANCES, Parity, compare
from ssd.inference.detections import Detections
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.model import factory
from tests.exporters import made

ROOT = Path(__file__).resolve().parents[2]
_LEAST = 0.4
_EXACT = dataclasses.replace(TOLERANCES["fp32"], missing=0.005)
PAGE = (ROOT / "docs" / "embed.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment made by the commands of docs/embed.md, with this checkout in place of the name on PyPI."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    commands = re.findall(r"^pip install (.*)$", PAGE, re.M)
    wanted = [shlex.split(command, comments=True) for command in commands if "[" not in command]
    assert len(wanted) == 2
    for words in wanted:
        done = subprocess.run([*pip, *words], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            pytest.skip(f"pip install {' '.join(words)} failed: {done.stderr.strip()[-300:]}")
    subprocess.run([*pip, "--no-deps", "ncnn", "pnnx"], capture_output=True, timeout=600, check=False)
    return folder / "bin" / "python"


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 90])
def test_every_engine_finds_what_pytorch_finds(count: int, python: Path, bccd: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    names = tuple(f"class{number}" for number in range(count))
    settings = factory.settings_for(names, input_size=300, width=0.125, backbone="vgg16")
    # Random weights give thousands of candidates with nearly equal scores, and the last digit decides which of two that
    # overlap is kept. Above 0.4 there are fewer; `_EXACT` allows a few that change places.
    settings = dataclasses.replace(settings, postprocessing=settings.postprocessing.changed(score_threshold=_LEAST))
    network = made.loud(settings)
    images = _test_images(bccd)
    pipeline = NetworkPipeline(network, settings, device="cpu", precision="fp32", backend="torch")
    expected = Detector(pipeline).detect_batch(images)
    graph = tmp_path / "best.plain.onnx"
    export(network, settings, graph, plain=True)
    script = Path(__file__).with_name("without_torch.py")
    done = subprocess.run(
        [python, script, graph, tmp_path, *images],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    for engine in json.loads(done.stdout)["engines"]:
        lines = (tmp_path / f"{engine}.jsonl").read_text().splitlines()
        parity = Parity()
        for theirs, line in zip(expected, lines, strict=True):
            ours = Detections.from_dict(json.loads(line), names)
            parity = parity.plus(compare(theirs, ours, _EXACT, input_size=300, score_threshold=_LEAST, full=200))
        print(engine, parity)
        assert parity.images == 72
        assert parity.compared > 72
        assert parity.failures(_EXACT) == [], engine
    if "ncnn" not in done.stdout:
        pytest.skip("ncnn and pnnx are not installed: pip install --no-deps ncnn pnnx")


def _test_images(bccd: Path) -> list[Path]:
    stems = (bccd / "ImageSets" / "Main" / "test.txt").read_text().split()
    return [bccd / "JPEGImages" / f"{stem}.jpg" for stem in stems]
