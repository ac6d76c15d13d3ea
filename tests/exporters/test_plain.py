"""The plain graph: what is in the file, which operators it is made of, and that engines find what the weights find."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ssd
from ssd import light
from ssd.errors import ArgumentError, CheckpointError, ExportError
from ssd.exporters.export import OPSETS, export
from ssd.exporters.plain import DEFAULT_OPSET, PlainGraph
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.inference.runtime.ir import core
from ssd.light.plain_file import read_facts, read_metadata
from ssd.model import factory
from ssd.multibox.coder import decode
from ssd.settings import Settings
from tests.exporters import made

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

# Operators that TensorRT (onnx-tensorrt, docs/operators.md, 8.4) and the CoreML execution provider of ONNX Runtime
# (coreml_supported_mlprogram_ops.md) both document, of those that detection networks use.
DOCUMENTED = {
    *("Add", "AveragePool", "Clip", "Concat", "Conv", "Div", "Exp", "GlobalAveragePool", "HardSigmoid"),
    *("InstanceNormalization", "Shape"),
    *("MaxPool", "Mul", "ReduceMean", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax", "Sqrt", "Sub", "Transpose"),
}


def written(folder: Path, settings: Settings | None = None, network: Any = None, **options: Any) -> Path:
    path = folder / "small.plain.onnx"
    export(network or made.network(), settings or made.settings(), path, plain=True, **options)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("plain"))


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def shapes(values: Any) -> dict[str, list[int | str]]:
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values
    }


def test_a_plain_graph_takes_a_fixed_float_image_and_gives_boxes_and_scores(plain: Path) -> None:
    model = onnx.load(plain)
    onnx.checker.check_model(model, full_check=True)
    count = len(made.detector().default_boxes)
    assert shapes(model.graph.input) == {"images": ["batch", 3, 64, 64]}
    assert shapes(model.graph.output) == {"boxes": ["batch", count, 4], "scores": ["batch", count, 4]}
    assert [value.type.tensor_type.elem_type for value in model.graph.input] == [onnx.TensorProto.FLOAT]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", DEFAULT_OPSET)]


def test_scores_are_softmax_with_background_first_and_boxes_are_decoded(plain: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64)).astype(np.float32)
    boxes, scores = ort.InferenceSession(plain).run(["boxes", "scores"], {"images": images})
    with torch.no_grad():
        predictions = made.detector().predict(
            (torch.from_numpy(images) - _row(made.settings().preprocessing.mean))
            / _row(made.settings().preprocessing.std)
        )
    expected = decode(predictions.offsets, made.detector().default_boxes, made.settings().boxes.variances)
    np.testing.assert_allclose(boxes, expected, atol=1e-5)
    np.testing.assert_allclose(scores, predictions.logits.softmax(-1), atol=1e-5)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)


def _row(numbers: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(numbers).view(1, 3, 1, 1)


def test_the_operators_are_those_that_tensorrt_and_coreml_document(plain: Path) -> None:
    assert operators(plain) <= DOCUMENTED


def test_the_file_says_what_a_program_must_know(plain: Path) -> None:
    metadata = read_metadata(plain)
    assert metadata == {entry.key: entry.value for entry in onnx.load(plain).metadata_props}
    facts = json.loads(metadata["ssd_plain"])
    assert facts["settings"] == json.loads(json.dumps(made.settings().to_dict()))
    assert "float32 RGB, batch x 3 x 64 x 64, values 0 to 255" in facts["input"]
    assert "column 0 background" in facts["outputs"]
    assert "INTER_LINEAR" in facts["resize"]
    assert metadata["class_names"].splitlines() == list(made.CLASSES)


@pytest.mark.parametrize("backend", ["onnxruntime", "opencv"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_engines_find_what_the_weights_find(plain: Path, backend: str, batch_size: int) -> None:
    images = made.images()
    found = light.load(plain, backend=backend).detect_batch(images, batch_size)
    made.assert_same(found, made.detector().detect_batch(images))


def test_openvino_computes_the_same(plain: Path) -> None:
    pytest.importorskip("openvino")
    compiled = core().compile_model(plain, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def engine(images: np.ndarray) -> Any:
        answer = compiled(images)
        return answer["boxes"], answer["scores"]

    images = made.images()
    found = light.LightDetector(read_facts(plain), engine).detect_batch(images, 4)
    made.assert_same(found, made.detector().detect_batch(images))


@pytest.mark.parametrize("rules", [{"box_voting": 0.05}, {"resize": "float"}, {"resize": "area"}], ids=str)
def test_the_rules_of_the_weights_are_in_the_file(plain: Path, rules: dict[str, Any], tmp_path: Path) -> None:
    settings = made.settings(**rules)
    facts = dataclasses.replace(
        read_facts(plain), resize=settings.preprocessing.resize, postprocessing=settings.postprocessing
    )
    engine, images = light.load(plain)._engine, made.images()
    found = light.LightDetector(facts, engine).detect_batch(images, 3)
    made.assert_same(found, made.detector(settings).detect_batch(images))


def test_ssd_load_says_who_opens_a_plain_graph(plain: Path) -> None:
    with pytest.raises(CheckpointError, match=r"plain graph, without suppression.*ssd\.light\.load"):
        ssd.load(plain)


def test_what_a_plain_graph_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"plain: openvino has no plain graph"):
        export(made.network(), made.settings(), tmp_path / "x.xml", "openvino", plain=True)
    with pytest.raises(ArgumentError, match=r"opset: is chosen for a plain graph alone"):
        export(made.network(), made.settings(), tmp_path / "x.onnx", opset=17)
    for opset in (OPSETS[0] - 1, OPSETS[-1] + 1):
        with pytest.raises(ArgumentError, match=rf"opset: {opset} is not written\. Use 14 to 23"):
            written(tmp_path, opset=opset)
    assert list(tmp_path.iterdir()) == []


# Other networks


@pytest.mark.slow
@pytest.mark.parametrize("opset", [14, 18, 23])
def test_another_opset_computes_the_same(opset: int, tmp_path: Path) -> None:
    path, images = written(tmp_path, opset=opset), made.images()
    assert onnx.load(path).opset_import[0].version == opset
    made.assert_same(light.load(path).detect_batch(images, 3), made.detector().detect_batch(images))


# Backbone, head, norm of the extra layers, and the operators beyond those that both documents list.
NETWORKS = [
    ("vgg16", "full", "none", set()),
    ("vgg16", "full", "group", set()),
    ("vgg11_bn", "full", "batch", {"BatchNormalization"}),
    ("resnet18", "full", "batch", {"BatchNormalization"}),
    ("mobilenet_v2", "lite", "batch", {"BatchNormalization"}),
    ("mobilenet_v3_small", "lite", "batch", {"BatchNormalization", "HardSwish"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "head", "norm", "more"), NETWORKS, ids=[f"{n[0]}-{n[2]}" for n in NETWORKS])
def test_every_kind_of_network_is_plain(backbone: str, head: Any, norm: Any, more: set[str], tmp_path: Path) -> None:
    settings = factory.settings_for(
        made.CLASSES, input_size=96, width=0.125 if "vgg" in backbone else 1.0, backbone=backbone, head=head,
        extras_norm=norm,
    )  # fmt: skip
    settings = dataclasses.replace(settings, preprocessing=dataclasses.replace(settings.preprocessing, channels="bgr"))
    torch.manual_seed(0)
    network = factory.from_settings(settings).eval()
    path = written(tmp_path, settings, network)
    assert operators(path) - DOCUMENTED <= more
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 96, 96)).astype(np.float32))
    with torch.no_grad():
        expected = PlainGraph(network, settings)(images)
    # OpenCV 5.0 cannot reshape after MobileNetV3's squeeze and excitation in a batch of two; docs/embed.md says so.
    for backend in ("onnxruntime", "opencv") if "v3" not in backbone else ("onnxruntime",):
        for ours, theirs in zip(light.load(path, backend=backend)._engine(images.numpy()), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 90])
@pytest.mark.parametrize("format", [*made.SUFFIXES, "plain"])
def test_a_detector_of_any_number_of_classes_exports_in_every_format(format: str, count: int, tmp_path: Path) -> None:
    if not all(importlib.util.find_spec(name) for name in made.EXTRAS.get(format, ())):
        pytest.skip(f"{format} is not installed")
    names = tuple(f"class{number}" for number in range(count))
    settings = factory.settings_for(names, input_size=64, width=0.125, backbone="vgg11")
    network, images = made.loud(settings), made.images(4)
    path = tmp_path / f"small{made.SUFFIXES.get(format, '.onnx')}"
    export(network, settings, path, "onnx" if format == "plain" else format, plain=format == "plain")
    detector: Any = light.load(path) if format == "plain" else ssd.load(path, precision="fp32", trust=True)
    expected = Detector(NetworkPipeline(network, settings, device="cpu", precision="fp32")).detect_batch(images)
    assert min(map(len, expected)) > 0
    made.assert_same(detector.detect_batch(images, 3), expected)


@pytest.mark.slow
def test_an_opset_without_an_operator_of_the_network_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Any, opset: int) -> Any:
        raise RuntimeError("No Adapter From Version $14 for HardSwish")

    monkeypatch.setattr(onnx.version_converter, "convert_version", refuse)
    with pytest.raises(ExportError, match=r"cannot be written in opset 14 .*HardSwish.*Use --opset 18"):
        written(tmp_path, opset=14)


@pytest.mark.slow
def test_the_command_writes_and_checks_a_plain_graph(tmp_path: Path) -> None:
    from ssd.weights.native import save_weights

    weights = tmp_path / "small.safetensors"
    save_weights(weights, made.network().state_dict(), made.settings())
    result = ssd.export(weights, "onnx", plain=True, limit=3)
    assert result.accepted
    assert result.path == tmp_path / "small.plain.onnx"
    assert result.check.parity.compared > 100


@pytest.mark.parametrize("plain", [True, False])
def test_a_line_of_class_names_is_one_class(plain: bool, tmp_path: Path) -> None:
    names = ("red\nblood", "white\r\u2028blood", "a,b")
    settings = dataclasses.replace(made.settings(), class_names=names)
    export(made.network(), settings, tmp_path / "x.onnx", plain=plain)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "x.onnx").metadata_props}
    assert metadata["class_names"].split("\n") == ["red blood", "white  blood", "a,b"]
    load = light.load if plain else ssd.load
    assert load(tmp_path / "x.onnx").class_names == names
