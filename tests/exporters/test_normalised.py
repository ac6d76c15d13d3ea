"""GroupNorm, fewer levels and the undilated VGG go through export like any other network."""

import dataclasses

import pytest

import ssd
from ssd.exporters.export import export
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.model import factory
from tests.exporters import made


@pytest.mark.parametrize(
    "format", ["pt2", *(pytest.param(format, marks=pytest.mark.slow) for format in ("onnx", "openvino"))]
)
def test_group_norm_and_fewer_levels_find_the_same_when_exported(format: str, tmp_path) -> None:
    for package in made.EXTRAS[format]:
        pytest.importorskip(package, reason=f'needs {package}: pip install "ssd-vgg[{format}]"')
    settings = factory.settings_for(
        made.CLASSES, input_size=64, width=0.125, backbone="vgg11",
        atrous=False, fc_norm="group", extras_norm="group", levels=(8, 4, 2),
    )  # fmt: skip
    settings = dataclasses.replace(settings, postprocessing=made.settings().postprocessing)
    network = made.loud(settings)
    path = tmp_path / f"small{made.SUFFIXES[format]}"
    export(network, settings, path, format)
    exported = ssd.load(path, precision="fp32", trust=True)
    ours = Detector(NetworkPipeline(network, settings, device="cpu", precision="fp32", backend="torch"))
    images = made.images(3)
    expected = [ours.detect(image) for image in images]
    assert all(len(found) for found in expected)
    made.assert_same([exported.detect(image) for image in images], expected)
