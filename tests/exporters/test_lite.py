"""SSDLite in every format: the graph finds what the weights find."""

import importlib.util
from pathlib import Path

import pytest
import torch

from ssd.exporters.export import export
from ssd.inference.detector import Detector
from ssd.inference.load import load
from ssd.inference.pipelines import NetworkPipeline
from ssd.model import factory
from tests.exporters import made

LITE = factory.settings_for(
    made.CLASSES, input_size=96, backbone="mobilenet_v3_small", head="lite", extras_norm="batch"
)


def loud() -> torch.nn.Module:
    """Random weights with the statistics of noise, and a head that is sure of itself."""
    torch.manual_seed(0)
    network = factory.from_settings(LITE)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 96, 96))
    for level in network.head.classes:
        torch.nn.init.normal_(level.pointwise.weight, std=0.3)
        level.pointwise.bias.data.view(-1, len(made.CLASSES) + 1)[:, 0] = 3  # background
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("format", made.SUFFIXES)
def test_a_graph_of_ssdlite_finds_the_same(format: str, tmp_path: Path) -> None:
    if not all(importlib.util.find_spec(name) for name in made.EXTRAS[format]):
        pytest.skip(f"{format} is not installed")
    network = loud()
    path = tmp_path / f"lite{made.SUFFIXES[format]}"
    export(network, LITE, path, format)
    graph = load(path, device="cpu", precision="fp32", trust=True)
    pipeline = NetworkPipeline(network, LITE, device="cpu", precision="fp32", backend="torch")
    images = made.images()
    ours, theirs = Detector(pipeline).detect_batch(images), graph.detect_batch(images)
    assert sum(map(len, ours)) > 50, "the comparison would be empty"
    made.assert_same(theirs, ours)
