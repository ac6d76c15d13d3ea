"""A very small detector with loud random weights, its exports, and images for it."""

import dataclasses
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from ssd.data.dataset import Dataset
from ssd.data.shapes.dataset import shapes
from ssd.exporters.parity import TOLERANCES, compare
from ssd.inference.detections import Detections
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.model import factory
from ssd.settings import Settings

EXACT = dataclasses.replace(TOLERANCES["fp32"], score=0.0)
CLASSES = ("cat", "dog", "cow")
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
EXTRAS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",), "pt2": ()}


def settings(resize: str = "uint8", **rules: float) -> Settings:
    """`resize="float"` is torchvision's way, boxes cut before the suppression included."""
    made = factory.settings_for(CLASSES, input_size=64, width=0.125, backbone="vgg11")
    clip = "before" if resize == "float" else "after"
    return dataclasses.replace(
        made,
        preprocessing=dataclasses.replace(made.preprocessing, resize=resize),
        postprocessing=dataclasses.replace(made.postprocessing, **{"clip": clip, "top_k": 50} | rules),
    )


@cache
def network() -> torch.nn.Module:
    """It finds something in every image, with scores of every size."""
    return loud(settings())


def loud(made: Settings) -> torch.nn.Module:
    """Random weights whose head is sure of itself."""
    torch.manual_seed(0)
    built = factory.from_settings(made)
    for level in built.head.classes:
        torch.nn.init.normal_(level.weight, std=0.05)
        level.bias.data.view(-1, made.num_classes + 1)[:, 0] = 5  # background
    return built.eval()


def detector(made: Settings | None = None) -> Detector:
    return Detector(NetworkPipeline(network(), made or settings(), device="cpu", precision="fp32", backend="torch"))


def images(count: int = 6, seed: int = 0) -> list[np.ndarray]:
    """Smooth colours, of many sizes; the first three have one size."""
    rng = np.random.default_rng(seed)
    sizes = [(47, 91)] * 3 + rng.integers(20, 140, (count, 2)).tolist()
    return [
        cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
        for height, width in sizes[:count]
    ]


def assert_same(found: list[Detections], expected: list[Detections]) -> None:
    """Detections of the same images; two whose scores are equal to the last digit may change places."""
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == len(theirs)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
        parity = compare(theirs, ours, EXACT, input_size=64, score_threshold=0.0, full=10_000)
        assert (parity.lost, parity.gained) == (0, 0)
        assert parity.box < 0.01


def exported(folder: Path, format: str, made: Settings, **options) -> Path:
    from ssd.exporters.export import export

    path = folder / f"small{SUFFIXES[format]}"
    export(network(), made, path, format, **options)
    return path


def dataset() -> Dataset:
    """Drawn images under the names of these classes, and one more."""
    drawn = shapes("val", 5, 64)
    return dataclasses.replace(drawn, class_names=(*CLASSES, "bird"))
