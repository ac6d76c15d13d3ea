from pathlib import Path

import pytest

import ssd
from ssd.errors import ArgumentError
from ssd.weights.native import save_weights
from tests.exporters import made


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    save_weights(path, made.network().state_dict(), made.settings())
    return path


def test_a_graph_is_written_where_it_is_named_and_says_how_near_it_is(weights: Path, tmp_path: Path) -> None:
    result = ssd.export(weights, tmp_path / "out" / "small.pt2", limit=3, max_detections=7)
    assert result.accepted
    assert (result.path, result.format, result.precision) == (tmp_path / "out" / "small.pt2", "pt2", "fp32")
    assert result.report.is_file()
    assert repr(result).startswith(f"<ExportResult: {result.path}, pt2 fp32, accepted; largest difference ")
    found = ssd.load(result.path, trust=True).detect_batch(made.images(3))
    assert max(map(len, found)) == 7
    with pytest.raises(ArgumentError, match="is there already"):
        ssd.export(weights, result.path)


def test_a_folder_of_the_name_of_published_weights_is_none_of_theirs(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "coco").mkdir(parents=True)
    (tmp_path / "here" / "coco" / "config.yaml").write_text("of: a data set")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("ssd.weights.resolve.fetch_detector", lambda name: weights)
    assert ssd.export("coco", "pt2", limit=1).path == Path("coco.pt2")
    (tmp_path / "here" / "coco" / "config.yaml").unlink()
    weights.rename(tmp_path / "here" / "coco" / "last.safetensors")
    assert ssd.export("coco", "pt2", limit=1).path == Path("coco/best.pt2")


@pytest.mark.parametrize(
    ("target", "options", "problem"),
    [
        ("caffe", {}, "caffe: names no format. Name a format \\(onnx, openvino, pt2\\) or a file"),
        ("onnx", {"precision": "int8"}, "onnx is not exported in 'int8'"),
        ("onnx", {"limit": 0}, "limit: 0 is too small"),
        ("onnx", {"tolerance": {"size": 1.0}}, "'size=1.0' is no tolerance"),
        ("openvino", {"precision": "int8"}, "int8: needs images to measure on"),
        ("openvino", {"calibrate": "x"}, "calibrate: is for 8 bits"),
        ("onnx", {"split": "test"}, "split: goes with a data set"),
        ("onnx", {"iou_threshold": 2.0}, "iou_threshold: 2.0 is out of range"),
        ("onnx", {"format": "onnx"}, "export: no option 'format'. Did you mean path_or_format"),
        ("onnx", {"calibrat": "x"}, "export: no option 'calibrat'. Did you mean calibrate"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_written(
    weights: Path, target: str, options: dict[str, object], problem: str
) -> None:
    with pytest.raises(ArgumentError, match=problem):
        ssd.export(weights, target, **options)
    assert [path.name for path in weights.parent.iterdir()] == ["best.safetensors"]
