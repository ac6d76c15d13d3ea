import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

import ssd
from ssd.commands.export import main
from ssd.errors import ArgumentError, DatasetError
from ssd.exporters import verify
from ssd.exporters.sample_images import open_images, own_images
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.weights.native import save_weights
from tests.data.made import write_image, write_text
from tests.exporters import made

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "run" / "best.safetensors"
    path.parent.mkdir()
    save_weights(path, made.network().state_dict(), made.settings())
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, image in enumerate(made.images(5)):
        (folder / f"{index}.png").write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    return folder


@pytest.fixture
def engine(monkeypatch):
    """Instead of an exported graph a detector in PyTorch; `engine(network)` says with which network."""
    written = []

    def export(network, settings, path, format, **options):
        written.append((settings, format, options))
        for suffix in {path.suffix, ".bin"} if format == "openvino" else {path.suffix}:
            path.with_suffix(suffix).write_bytes(b"graph")

    def use(network: torch.nn.Module) -> list:
        def load(path, **_: object) -> Detector:
            assert path.is_file()
            return Detector(NetworkPipeline(network, written[-1][0], device="cpu", precision="fp32"))

        monkeypatch.setattr("ssd.api.export.write_graph", export)
        monkeypatch.setattr(verify, "load", load)
        return written

    return use


def tampered() -> torch.nn.Module:
    network = made.loud(made.settings())
    with torch.no_grad():
        network.head.classes[0].bias[1::4] += 1
    return network


def test_a_graph_that_agrees_gets_its_name_and_a_report(weights, photos, engine, capsys):
    engine(made.network())
    assert main([str(weights.parent), "--format", "onnx", "--parity", str(photos)]) == 0
    out = weights.with_suffix(".onnx")
    assert {path.name for path in weights.parent.iterdir()} == {
        "best.safetensors",
        "best.onnx",
        "best.onnx.parity.json",
    }
    text = capsys.readouterr().out
    assert "detections lost or gained" in text
    assert f"done: {out}" in text
    report = json.loads(out.with_name("best.onnx.parity.json").read_text())
    assert report["accepted"]
    assert (report["images"], report["lost"], report["gained"]) == (5, 0, 0)
    assert report["box"] < 1e-3
    assert report["compared"] > 100
    assert report["tolerance"]["box"] == 0.1
    assert report["format"] == "onnx"


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_tampered_graph_is_rejected(format, weights, photos, engine, capsys):
    engine(tampered())
    assert main([str(weights), "--format", format, "--parity", str(photos)]) == 1
    streams = capsys.readouterr()
    assert "NOT DONE: " in streams.err
    assert "a score is" in streams.err
    assert "done: " not in streams.out
    suffixes = {"onnx": [".onnx"], "openvino": [".bin", ".xml"]}[format]
    names = {f"best.rejected{suffix}" for suffix in [*suffixes, f"{suffixes[-1]}.parity.json"]}
    assert {path.name for path in weights.parent.iterdir()} == {"best.safetensors", *names}
    report = json.loads((weights.parent / f"best.rejected{suffixes[-1]}.parity.json").read_text())
    assert not report["accepted"]
    assert report["failures"]


def test_a_tolerance_decides(weights, photos, engine):
    engine(tampered())
    loose = ["--tolerance", "box=1000", "score=1", "missing=1"]
    assert main([str(weights), "--format", "onnx", "--parity", str(photos), *loose]) == 0


def test_thresholds_are_built_in(weights, photos, engine):
    written = engine(made.network())
    given = ["--score-threshold", "0.2", "--iou-threshold", "0.3", "--top-k", "20", "--max-detections", "7"]
    given += ["--box-voting", "0.1"]
    assert main([str(weights), "--format", "pt2", "--parity", str(photos), *given]) == 0
    settings, format, options = written[0]
    rules = dataclasses.replace(
        made.settings().postprocessing,
        score_threshold=0.2,
        iou_threshold=0.3,
        top_k=20,
        max_detections=7,
        box_voting=0.1,
    )
    assert settings.postprocessing == rules
    assert (format, options["precision"], options["calibration"]) == ("pt2", "fp32", None)


def test_a_file_that_is_there_stays(weights, photos, engine, capsys):
    engine(made.network())
    arguments = [str(weights), "--format", "openvino", "--parity", str(photos)]
    weights.with_suffix(".bin").write_text("precious")
    assert main(arguments) == 2
    assert "best.bin: is there already" in capsys.readouterr().err
    assert weights.with_suffix(".bin").read_text() == "precious"
    assert main([*arguments, "--force"]) == 0
    assert weights.with_suffix(".bin").read_bytes() == b"graph"


def test_a_refused_export_leaves_nothing_behind(weights, photos, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise ssd.errors.ExportError("no")

    monkeypatch.setattr("ssd.api.export.write_graph", refuse)
    assert main([str(weights), "--format", "onnx", "--parity", str(photos)]) == 2
    out = weights.parent / "new" / "deep" / "x.onnx"
    assert main([str(weights), "--format", "onnx", "--parity", str(photos), "--out", str(out)]) == 2
    assert [path.name for path in weights.parent.iterdir()] == ["best.safetensors"]


@pytest.mark.parametrize("package", ["nncf", "openvino"])
def test_8_bits_name_their_extra_before_anything_is_loaded(package, weights, monkeypatch, capsys):
    monkeypatch.setattr("ssd.api.export.load_network", lambda *_: pytest.fail("loaded"))
    for name in ("nncf", "openvino"):  # the other one is there, or looks like it
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    assert main([str(weights), "--format", "openvino", "--int8", "--calibrate", "nowhere"]) == 2
    wanted = f'int8: {package} is not installed. Run: {sys.executable} -m pip install "ssd-vgg[int8]"'
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.safetensors", "--format", "onnx"], "nowhere.safetensors"),
        (["WEIGHTS", "--format", "onnx", "--int8", "--calibrate", "x"], "onnx is not exported in 'int8'"),
        (["WEIGHTS", "--format", "openvino", "--int8"], "--calibrate DATA"),
        (["WEIGHTS", "--format", "openvino", "--calibrate", "x"], "calibrate: is for 8 bits"),
        (["WEIGHTS", "--format", "onnx", "--precision", "bf16"], "onnx is not exported in 'bf16'"),
        (
            ["WEIGHTS", "--format", "openvino", "--precision", "bf16", "--int8", "--calibrate", "x"],
            "--precision: is bf16, and --int8 asks for 8 bits. Leave one out.",
        ),
        (
            ["WEIGHTS", "--format", "onnx", "--plain", "--opset", "13", "--out", "new/x.onnx"],
            "opset: 13 is not written",
        ),
        (["WEIGHTS", "--format", "onnx", "--out", "a.pt"], "does not end in .onnx"),
        (["WEIGHTS", "--format", "onnx", "--limit", "0"], "--limit"),
        (["WEIGHTS", "--format", "onnx", "--score-threshold", "2"], "score_threshold: 2.0 is out of range"),
        (["WEIGHTS", "--format", "onnx", "--tolerance", "size=1"], "is no tolerance"),
        (["WEIGHTS", "--format", "onnx", "--parity", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(weights) if word == "WEIGHTS" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert [path.name for path in weights.parent.iterdir()] == ["best.safetensors"]
    assert list(tmp_path.iterdir()) == [weights.parent]


def test_a_pt2_is_said_to_be_for_python_alone(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert '`ssd.load("best.pt2", trust=True)`' in capsys.readouterr().out


def test_images_are_a_data_set_or_a_folder(bccd, photos):
    data = open_images(str(bccd), "val")
    assert data.title.endswith("split val")
    assert (len(data), data.dataset is not None) == (87, True)
    assert len(open_images(str(bccd), "train")) == 205
    assert len(open_images(str(bccd), "val", "test")) == 72
    plain = open_images(str(photos), "val")
    assert (len(plain), plain.dataset) == (5, None)
    assert [image.shape for image in plain.some(2)] == [made.images(5)[0].shape, made.images(5)[4].shape]
    assert plain.spread(3) == [0, 2, 4]
    assert plain.spread(None) == plain.spread(50) == [0, 1, 2, 3, 4]
    with pytest.raises(DatasetError):
        open_images(str(bccd), "val", "nothing")
    with pytest.raises(ArgumentError):
        open_images(str(photos / "nothing"), "val")


def test_without_images_the_runs_own_are_taken_and_drawn_ones_else(weights):
    assert own_images(str(weights)).drawn
    (weights.parent / "config.yaml").write_text("data:\n  format: shapes\n  shapes: [4, 3, 96]\n")
    own = own_images(str(weights.parent))
    assert (own.drawn, len(own), own.load(0).shape) == (False, 3, (96, 96, 3))
    (weights.parent / "config.yaml").write_text("data:\n  folder: gone\n")
    assert own_images(str(weights.parent)).drawn


def test_ap_is_compared_where_precision_is_lost(weights, bccd, engine, capsys):
    blood = dataclasses.replace(made.settings(), class_names=("RBC", "WBC", "Platelets"))
    save_weights(weights, made.network().state_dict(), blood)
    engine(made.network())
    arguments = ["--format", "openvino", "--precision", "bf16", "--parity", str(bccd), "--limit", "4"]
    assert main([str(weights), *arguments, "--tolerance", "least_score=0.1"]) == 0
    report = json.loads((weights.parent / "best.bf16.xml.parity.json").read_text())
    assert report["ap"]["before"] == report["ap"]["after"]
    assert "AP (0.0" in capsys.readouterr().out


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools" / "export.py", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=400)


def test_the_command_as_a_process(weights, photos, tmp_path):
    answer = run(weights, "--format", "pt2", "--parity", photos, cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "done: " in answer.stdout
    found = ssd.load(weights.with_suffix(".pt2"), trust=True).detect_batch(made.images(3))
    made.assert_same(found, made.detector().detect_batch(made.images(3)))


@pytest.mark.slow
def test_each_format_as_a_process(weights, photos, bccd, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("nncf")
    loose = ["least_score=0.1", "missing=0.3"]  # random weights
    for arguments, name in (
        (["--format", "onnx"], "best.onnx"),
        (["--format", "openvino"], "best.xml"),
        (["--format", "openvino", "--int8", "--calibrate", photos, "--tolerance", *loose], "best.int8.xml"),
    ):
        answer = run(weights, *arguments, "--parity", photos, cwd=tmp_path)
        assert answer.returncode == 0, answer.stderr
        detector = ssd.load(weights.parent / name)
        assert detector.class_names == made.CLASSES
        assert len(detector.detect(made.images(1)[0])) > 0
    answer = run(weights, "--format", "onnx", "--force", "--parity", photos, "--tolerance", "score=0", cwd=tmp_path)
    assert answer.returncode == 1
    assert "NOT DONE: a score is" in answer.stderr


def test_images_may_be_named_by_the_yaml_of_their_data_set(tmp_path):
    write_text(tmp_path / "data.yaml", "names: [cat]\ntrain: images/train\nval: images/val\n")
    for split in ("train", "val"):
        write_image(tmp_path / "images" / split / f"{split}.jpg")
        write_text(tmp_path / "labels" / split / f"{split}.txt", "0 0.5 0.5 0.5 0.5\n")
    assert open_images(str(tmp_path / "data.yaml"), "val").title.endswith("split val")
