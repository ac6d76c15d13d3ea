"""`import ssd` and `--help` stay light: what they load is asked of a fresh process."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ssd
from ssd.commands.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "albumentations", "pycocotools", "matplotlib", "cv2", "scipy", "numpy")


def loaded_after(code: str) -> set[str]:
    report = "import json, sys; print(json.dumps([m for m in sys.modules if '.' not in m]))"
    answer = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_import_loads_nothing_heavy():
    assert not loaded_after("import ssd") & set(HEAVY)


def test_reading_detections_needs_no_torch():
    assert "torch" not in loaded_after("from ssd import Detections")


def test_a_detector_loads_no_training_library():
    assert not loaded_after("from ssd import Detector, load, detect") & {"albumentations", "pycocotools", "matplotlib"}


def test_detecting_loads_no_compiler():
    """torchvision's package and the meta device bring PyTorch's, with sympy, which takes as long as `import torch`."""
    files = ROOT / "tests" / "earlier_versions" / "files"
    image = next((files / "images").iterdir())
    code = f"import ssd; ssd.load({str(files / 'weights.safetensors')!r}, backend='torch').detect({str(image)!r})"
    assert not loaded_after(code) & {"sympy", "torchvision"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_loads_no_torch(command):
    module = f"ssd.commands.{command.replace('-', '_')}"
    code = f"import {module}\ntry:\n    {module}.main(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code"
    assert not loaded_after(code) & set(HEAVY)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_module_and_a_tool(command):
    name = command.replace("-", "_")
    assert importlib.util.find_spec(f"ssd.commands.{name}") is not None
    assert f'main(["{command}", *sys.argv[1:]])' in (ROOT / "tools" / f"{name}.py").read_text()


def test_a_tool_runs_from_any_folder(tmp_path):
    answer = subprocess.run(
        [sys.executable, ROOT / "tools" / "detect.py", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0
    assert "usage: ssd detect" in answer.stdout


def test_every_public_name_is_there():
    assert set(ssd.__all__) <= set(dir(ssd))
    for name in ssd.__all__:
        assert getattr(ssd, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = ssd.nothing
