import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ssd
from ssd.errors import ArgumentError, CheckpointError, MissingExtraError
from ssd.exporters.export import export
from ssd.exporters.parity import TOLERANCES, Parity, compare
from ssd.images.decode import load_image
from ssd.inference.detector import Detector
from ssd.inference.pipelines import GraphPipeline, NetworkPipeline
from ssd.model import factory
from ssd.settings import Preprocessing
from tests.exporters import made
from tests.exporters.conftest import RULES


def load(path: Path, **options) -> Detector:
    return ssd.load(path, precision="fp32", trust=True, **options)


def test_a_graph_is_a_detector_that_finds_the_same(small):
    detector, images, settings = small.detector, made.images(), small.settings
    assert isinstance(detector.pipeline, GraphPipeline)
    assert detector.class_names == made.CLASSES
    assert detector.settings == settings
    assert detector.backend == {"pt2": "torch"}.get(small.format, small.format)
    made.assert_same([detector.detect(image) for image in images], made.detector(settings).detect_batch(images))


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_any_number_at_once(small, batch_size):
    images = made.images(5)
    found = small.detector.detect_batch(images, batch_size, score_threshold=0.2)
    made.assert_same(found, made.detector(small.settings).detect_batch(images, score_threshold=0.2))


def test_thresholds_can_be_raised_as_with_the_weights(small):
    exported, detector, images = small.detector, made.detector(small.settings), made.images(3)
    for options in ({"score_threshold": 0.4}, {"max_detections": 3}, {"score_threshold": 1.0}):
        expected = detector.detect_batch(images, **options)
        made.assert_same(exported.detect_batch(images, **options), expected)
    assert [len(found) for found in expected] == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("score_threshold", 0.005, "--score-threshold"),
        ("max_detections", 201, "--max-detections"),
        ("iou_threshold", 0.5, "--iou-threshold"),
    ],
)
def test_what_the_graph_has_thrown_away_is_refused_with_the_way_to_it(small, name, value, flag):
    with pytest.raises(ArgumentError, match=rf"{name}: {value} is not possible.*Export again with {flag}"):
        small.detector.detect(made.images(1)[0], **{name: value})


def test_box_voting_is_inside_the_graph_and_cannot_be_changed(small, tmp_path):
    settings = made.settings(RULES[small.format], box_voting=0.05)
    detector, images = load(made.exported(tmp_path, small.format, settings)), made.images(5)
    voted, plain = (made.detector(settings).detect_batch(images, box_voting=sigma) for sigma in (None, 0.0))
    assert max(np.abs(with_.boxes - without.boxes).max() for with_, without in zip(voted, plain, strict=True)) > 0.5
    made.assert_same(detector.detect_batch(images, 2), voted)
    with pytest.raises(ArgumentError, match=r"box_voting: 0.0 is not possible.*Export again with --box-voting"):
        detector.detect(images[0], box_voting=0.0)


def test_boxes_that_overlap_as_much_as_the_threshold_stay(small, tmp_path):
    """At 0: all that touch no better one."""
    settings = made.settings(RULES[small.format], iou_threshold=0.0)
    found = load(made.exported(tmp_path, small.format, settings)).detect_batch(made.images(3))
    expected = made.detector(settings).detect_batch(made.images(3))
    assert max(map(len, expected)) > 3
    made.assert_same(found, expected)


def test_classes_can_be_renamed(small):
    graph = small.detector.pipeline.graph
    assert Detector(GraphPipeline(graph, ["a", "b", "c"])).class_names == ("a", "b", "c")
    with pytest.raises(CheckpointError, match="3 classes, 1 names"):
        GraphPipeline(graph, ["a"])


def test_an_argument_that_the_file_cannot_follow_is_named(small):
    path = small.path
    with pytest.raises(ArgumentError, match="backend"):
        ssd.load(path, backend="openvino" if small.format == "onnx" else "onnx", trust=True)
    with pytest.raises(ArgumentError, match="precision"):
        ssd.load(path, precision="int8", trust=True)
    with pytest.raises(ArgumentError, match="device"):
        ssd.load(path, device="cuda:77", trust=True)


def test_evaluation_takes_a_graph(small):
    from ssd.data.shapes.dataset import shapes
    from ssd.evaluation.evaluate import evaluate
    from ssd.evaluation.metrics.voc import VocMetric

    data = dataclasses.replace(shapes("val", 5, 80), class_names=(*made.CLASSES, "bird"))
    figures = [
        evaluate(detector, data, VocMetric(data.records, data.class_names), batch_size=2, progress=False)
        for detector in (small.detector, made.detector(small.settings))
    ]
    assert figures[0].metrics["AP"] == pytest.approx(figures[1].metrics["AP"], abs=1e-6)


def test_a_pt2_needs_trust(small):
    if small.format != "pt2":
        pytest.skip("the other formats hold no code")
    with pytest.raises(ArgumentError, match=r"can run code.*trust=True"):
        ssd.load(small.path)


def test_a_damaged_file_is_named(small, tmp_path):
    path = small.path
    for part in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(part, tmp_path / part.name)
    broken = tmp_path / path.name
    broken.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(CheckpointError, match=rf"{path.name}.*is not a"):
        load(broken)
    broken.write_bytes(b"not a graph")
    with pytest.raises(CheckpointError, match=path.name):
        load(broken)
    broken.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        load(broken)


@pytest.mark.parametrize("where", [0.4, 0.6])
def test_a_flipped_byte_in_the_weights_is_noticed(small, where, tmp_path):
    if small.format == "pt2":
        pytest.skip("PyTorch's own archive, with a CRC for each part")
    for part in (small.path, small.path.with_suffix(".bin")):
        if part.exists():
            shutil.copy(part, tmp_path)
    copied = tmp_path / small.path.name
    assert load(copied).class_names == made.CLASSES
    weights = copied.with_suffix(".bin") if small.format == "openvino" else copied
    data = bytearray(weights.read_bytes())
    data[int(where * len(data))] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{weights.name}.*SHA-256"):
        load(copied)


def test_an_xml_without_its_bin_is_named(small, tmp_path):
    if small.format != "openvino":
        pytest.skip("the other formats are one file")
    shutil.copy(small.path, tmp_path)
    with pytest.raises(CheckpointError, match=r"small\.bin: no such file"):
        load(tmp_path / small.path.name)


def test_a_graph_of_somebody_elses_is_named(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    box = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", box[:1], box[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "theirs.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=r"theirs\.onnx: was not exported by this package.*ssd export"):
        ssd.load(path)


@pytest.mark.parametrize(
    ("format", "package", "extra"),
    [("onnx", "onnxscript", "onnx"), ("onnx", "onnx", "onnx"), ("openvino", "openvino", "openvino")],
)
def test_a_missing_package_is_named_with_its_extra(format, package, extra, tmp_path, monkeypatch):
    for other in {"onnx", "onnxscript"} - {package} if format == "onnx" else ():
        pytest.importorskip(other)  # the first one that is missing is named
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf'{package} is not installed.*pip install "ssd-vgg\[{extra}\]"'):
        made.exported(tmp_path, format, made.settings())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "package"), [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_a_missing_engine_is_named_with_its_extra(suffix, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / f"a{suffix}").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed"):
        ssd.load(tmp_path / f"a{suffix}")


def test_what_does_not_exist_is_refused(tmp_path):
    for format, options in (("tflite", {}), ("onnx", {"precision": "int8"}), ("openvino", {"precision": "int8"})):
        with pytest.raises(ArgumentError):
            export(made.network(), made.settings(), tmp_path / "a", format, **options)


# The long proofs


@pytest.mark.slow
@pytest.mark.parametrize(("format", "rule"), [("onnx", "uint8"), ("openvino", "float"), ("pt2", "uint8")])
def test_the_other_resize_rule_too(format, rule, tmp_path):
    for package in made.EXTRAS[format]:
        pytest.importorskip(package)
    settings = made.settings(rule)
    path, images = made.exported(tmp_path, format, settings), made.images()
    made.assert_same(load(path).detect_batch(images, 4), made.detector(settings).detect_batch(images))


@pytest.mark.slow
@pytest.mark.parametrize("format", list(made.SUFFIXES))
def test_a_graph_that_finds_nothing_says_so(format, tmp_path):
    """A threshold that no score of these weights reaches; BGR, and a spread, come along."""
    for package in made.EXTRAS[format]:
        pytest.importorskip(package)
    settings = dataclasses.replace(
        made.settings(score_threshold=0.9999),
        preprocessing=Preprocessing(mean=(104.0, 117.0, 123.0), std=(58.0, 57.0, 56.0), channels="bgr"),
    )
    detector = load(made.exported(tmp_path, format, settings))
    found = detector.predict(detector.preprocess(made.images(3)))
    assert found.counts.tolist() == [0, 0, 0]
    assert not found.scores.any()
    assert [len(each) for each in detector.detect_batch(made.images(3))] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("format", list(made.SUFFIXES))
def test_ssd300_on_photographs(format, tiny_coco, tmp_path):
    """torchvision's rules and class count, VGG16, images of real sizes."""
    for package in made.EXTRAS[format]:
        pytest.importorskip(package)
    base = factory.settings_for(tuple(f"class_{i}" for i in range(90)), input_size=300, table="coco")
    settings = dataclasses.replace(
        base,
        preprocessing=Preprocessing(mean=(123.0, 117.0, 104.0), std=(60.0, 60.0, 60.0), resize="float"),
        postprocessing=dataclasses.replace(base.postprocessing, clip="before"),
    )
    network = made.loud(settings)
    path = tmp_path / f"ssd300{made.SUFFIXES[format]}"
    export(network, settings, path, format)
    images = [load_image(p) for p in sorted((tiny_coco / "val2017").glob("*.jpg"))[:6]]
    before = Detector(NetworkPipeline(network, settings, device="cpu", precision="fp32")).detect_batch(images)
    total = Parity()
    for one, other in zip(before, load(path).detect_batch(images), strict=True):
        total = total.plus(compare(one, other, TOLERANCES["fp32"], input_size=300, score_threshold=0.01, full=200))
    assert total.compared > 100
    assert total.failures(TOLERANCES["fp32"]) == []


@pytest.mark.slow
def test_16_and_8_bits_stay_close(tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    settings, images = made.settings(), made.images(12)
    expected = made.detector(settings).predict(made.detector(settings).preprocess(images))
    for precision in ("bf16", "int8"):
        path = tmp_path / f"{precision}.xml"
        export(made.network(), settings, path, "openvino", precision=precision, calibration=images)
        detector = ssd.load(path, precision=precision)
        assert detector.precision == precision
        found = detector.predict(detector.preprocess(images))
        best = expected.logits.softmax(-1)[..., 1:].flatten(1).amax(1)
        assert (found.scores[:, 0] - best).abs().max() < 0.2
    sizes = [(tmp_path / f"{precision}.bin").stat().st_size for precision in ("bf16", "int8")]
    assert sizes[1] < 0.7 * sizes[0]
    with pytest.raises(ArgumentError, match=r"int8\.xml is not for 'fp32'"):
        ssd.load(tmp_path / "int8.xml", precision="fp32")
    with pytest.raises(ArgumentError, match="no images"):
        export(made.network(), settings, tmp_path / "a.xml", "openvino", precision="int8", calibration=[])


def test_the_network_given_stays_as_it_was(small):
    assert all(parameter.requires_grad for parameter in made.network().parameters())
    assert {tensor.dtype for tensor in made.network().state_dict().values()} == {torch.float32}


def test_outputs_are_padded_with_zeros(small):
    detector = small.detector
    found = detector.predict(detector.preprocess(made.images(2)))
    for boxes, scores, labels, count in zip(
        found.boxes, found.scores, found.labels, found.counts.tolist(), strict=True
    ):
        assert 0 < count < len(scores)
        assert (np.diff(scores[:count].numpy()) <= 0).all()
        assert not boxes[count:].any()
        assert not scores[count:].any()
        assert not labels[count:].any()


@pytest.mark.parametrize("classes", [1, pytest.param(90, marks=pytest.mark.slow)])
@pytest.mark.parametrize("format", list(made.SUFFIXES))
def test_one_class_and_ninety_are_exported_like_three(format, classes, tmp_path):
    for package in made.EXTRAS[format]:
        pytest.importorskip(package)
    base = made.settings()
    settings = dataclasses.replace(base, class_names=tuple(f"class_{index}" for index in range(classes)))
    network, path, images = made.loud(settings), tmp_path / f"a{made.SUFFIXES[format]}", made.images(4)
    export(network, settings, path, format)
    pipeline = NetworkPipeline(network, settings, device="cpu", precision="fp32", backend="torch")
    expected = Detector(pipeline).detect_batch(images)
    assert all(len(found) for found in expected)
    made.assert_same(load(path).detect_batch(images, 1), expected)
    made.assert_same(load(path).detect_batch(images, 4), expected)
