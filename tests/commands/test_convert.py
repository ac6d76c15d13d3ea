"""`convert`: real files in, a file of ours out, in this process and in one of its own."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import ssd
from ssd.api.convert import convert
from ssd.commands.convert import main
from ssd.errors import ArgumentError
from ssd.model.factory import from_settings, settings_for
from ssd.weights import native
from ssd.weights.ports.class_names import VOC
from tests.weights import made, plain

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small(tmp_path) -> Path:
    """A weights file of ours, tiny, with figures in it."""
    settings = settings_for(("a", "b"), input_size=64, width=0.125)
    path = tmp_path / "small.safetensors"
    native.save_weights(path, from_settings(settings).state_dict(), settings, extra={"validation": {"AP": 0.5}})
    return path


def test_statistics_of_batchnorm_are_no_parameters(tmp_path, capsys):
    settings = settings_for(("a",), input_size=64, width=0.125, backbone="vgg11_bn")
    network = from_settings(settings)
    native.save_weights(tmp_path / "a.safetensors", network.state_dict(), settings)
    assert main([str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]) == 0
    assert f"{sum(weight.numel() for weight in network.parameters()):,} parameters" in capsys.readouterr().out


def test_a_ports_checkpoint_becomes_a_file_that_knows_all_by_itself(tmp_path, capsys):
    source, out = tmp_path / "ssd300.pth", tmp_path / "voc.safetensors"
    torch.save(made.amdegroot(), source)
    assert main([str(source), str(out)]) == 0
    said = capsys.readouterr().out
    assert f"{source}: amdegroot/ssd.pytorch\n" in said
    assert "SSD300 with vgg16, 26,285,486 parameters" in said
    assert "20: aeroplane, bicycle, bird, boat, bottle ... tvmonitor" in said
    assert "8732, from 30 to 315 pixels of 300" in said
    assert "RGB minus 123, 117, 104; resize uint8" in said
    assert "the same 200 detections before and after" in said
    _, settings, extra = native.load_weights(out)
    assert settings.class_names == VOC
    assert extra["converted_from"]["format"] == "amdegroot/ssd.pytorch"
    assert extra["converted_from"]["file"] == "ssd300.pth"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ssd300.pth", "voc.safetensors"]


@pytest.mark.slow
def test_as_a_process_it_takes_names_boxes_and_a_image(tmp_path):
    torch.save(plain.mmdetection(4), tmp_path / "mm.pth")
    (tmp_path / "labels.txt").write_text("BACKGROUND\ncat\n\ndog\n owl \n")
    cv2.imwrite(str(tmp_path / "p.png"), np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
    command = [sys.executable, str(ROOT / "tools" / "convert.py"), "mm.pth", "o.safetensors", "--image", "p.png"]
    options = ["--names", "labels.txt", "--boxes", "voc"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mm.pth: mmdetection SSD" in done.stdout
    assert "3: cat, dog, owl" in done.stdout
    detector = ssd.load(tmp_path / "o.safetensors", device="cpu")
    assert detector.class_names == ("cat", "dog", "owl")
    assert detector.settings.boxes.min_sizes[0] == 30


def test_our_own_file_gets_other_names_and_keeps_its_figures(small, tmp_path, capsys):
    assert main([str(small), str(tmp_path / "new.safetensors"), "--names", "cat,dog"]) == 0
    _, settings, extra = native.load_weights(tmp_path / "new.safetensors")
    assert settings.class_names == ("cat", "dog")
    assert extra == {"validation": {"AP": 0.5}}
    assert ": ssd-vgg\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("out", "options", "problem"),
    [
        ("new.pth", [], "new.pth: ends in '.pth'. Name a .safetensors file."),
        ("deep/new.safetensors", [], "its folder does not exist"),
        ("small.safetensors", ["--force"], "small.safetensors: is IN itself"),
        (
            "there.safetensors",
            [],
            "there.safetensors: is there already. Name another file, or add --force (in Python: force=True).",
        ),
        ("new.safetensors", ["--names", "a"], "small.safetensors: has 2 classes, and 1 class names were given"),
        ("new.safetensors", ["--names", "a,a"], "small.safetensors: class name 'a' is given twice. Names must differ."),
        (
            "new.safetensors",
            ["--boxes", "coco"],
            "small.safetensors: has default boxes of its own, not those of coco. Leave boxes (--boxes) out.",
        ),
        ("new.safetensors", ["--names", ","], "holds no class names"),
        ("new.safetensors", ["--image", "nothing.jpg"], "nothing.jpg: no such image file"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(small, tmp_path, monkeypatch, capsys, out, options, problem):
    monkeypatch.chdir(tmp_path)
    Path("there.safetensors").write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([small.name, out, *options]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_force_replaces_a_file_that_is_there(small, tmp_path):
    out = tmp_path / "there.safetensors"
    out.write_bytes(b"old")
    assert main([str(small), str(out), "--force"]) == 0
    assert native.is_ours(out)


def test_weights_that_are_not_finite_are_not_converted(small, tmp_path, capsys):
    state, settings, _ = native.load_weights(small)
    state["head.boxes.0.bias"][0] = torch.nan
    native.save_weights(small, state, settings)
    assert main([str(small), str(tmp_path / "new.safetensors")]) == 2
    assert "small.safetensors: head.boxes.0.bias has values that are not finite" in capsys.readouterr().err
    assert not (tmp_path / "new.safetensors").exists()


def test_what_is_no_checkpoint_lists_its_keys_and_the_known_ones(tmp_path, capsys):
    torch.save({"layer.weight": torch.zeros(1)}, tmp_path / "x.pth")
    assert main([str(tmp_path / "x.pth"), str(tmp_path / "y.safetensors")]) == 2
    error = capsys.readouterr().err
    assert "is no checkpoint known here; its keys are layer.weight." in error
    for known in ("mmdetection SSD", "chainercv SSD", "Caffe SSD", "qfgaohao/pytorch-ssd", "sgrvinod's tutorial"):
        assert known in error


def test_help_does_not_load_torch():
    for command in ("convert", "publish"):
        code = (
            f"import sys; from ssd.commands.{command} import parser; print(parser().format_help());"
            "assert 'torch' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "examples:" in done.stdout


def test_a_run_is_not_converted_into_its_own_weights(small, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(small.read_bytes())
    assert main([str(run), str(run / "best.safetensors"), "--names", "a,b", "--force"]) == 2
    assert "is IN itself" in capsys.readouterr().err
    assert (run / "best.safetensors").read_bytes() == small.read_bytes()


@pytest.mark.parametrize("how", ["list", "file", "text", "generator", "array"])
def test_names_come_as_a_file_a_text_or_any_row_of_them(small, tmp_path, how):
    names = ["n" * 200, "m" * 200]  # longer together than a file's name can be
    file = tmp_path / "names.txt"
    file.write_text("\n".join(names))
    given = {
        "list": names,
        "file": file,
        "text": ",".join(names),
        "generator": (name for name in names),
        "array": np.array(names),
    }
    found = convert(small, tmp_path / "out.safetensors", class_names=given[how])
    assert list(native.load_weights(found.path)[1].class_names) == names


def test_names_without_an_order_are_refused(small, tmp_path):
    with pytest.raises(ArgumentError, match=r"class_names: has no order\. Write a list"):
        convert(small, tmp_path / "out.safetensors", class_names={"a", "b"})
