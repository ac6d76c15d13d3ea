"""Timings of detection on a GPU from 8-bit images to detections, beside torchvision's SSD300 with the same weights."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ssd.benchmark import torchvision_baseline
from ssd.benchmark.fixtures import prepared
from ssd.benchmark.gpu.setup import Setup
from ssd.benchmark.gpu.timings import rate
from ssd.inference.device_steps import DeviceSteps
from ssd.inference.load import load_network
from ssd.inference.runtime.open import open_runtime
from ssd.settings import Postprocessing


def inference(setup: Setup) -> dict[str, Any]:
    """From 8-bit images in pinned memory to detections on the host: launches, CUDA graphs, torchvision's model."""
    rules = Postprocessing(box_voting=0.05)
    if setup.tiny:
        return _of_steps(setup, setup.steps(graphs=True), "graphs", rules)
    figures: dict[str, Any] = {}
    with prepared(str(setup.device)) as fixtures:  # weights for both that find as much as trained ones
        network, settings = load_network(fixtures.weights)
        runtime = open_runtime(network, device=str(setup.device), backend="torch")
        steps = DeviceSteps(runtime, settings)
        for name, graphs in (("CUDA graphs", True), ("launches", False)):
            steps.graphs.enabled = graphs
            figures |= _of_steps(setup, steps, name, rules)
        model = fixtures.torchvision_model
        for name, tuned in (("as it comes", False), ("in low precision, channels last", True)):
            low = torchvision_baseline.tuned_(model, setup.device, tuned)
            for batch in (1, 32):
                images = list(fixtures.inputs(batch).to(setup.device).float().div(255))

                @torch.inference_mode()
                def call(images: list[Tensor] = images, low: Any = low) -> object:
                    with low:
                        return model(images)

                figures |= rate(setup, f"torchvision {name}", batch, setup.milliseconds(call))
    return figures


def _of_steps(setup: Setup, steps: DeviceSteps, name: str, rules: Postprocessing) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for batch in setup.batches:
        call = partial(steps.detect, setup.inputs(batch), rules)
        for _ in range(2):
            call()  # a batch size that comes again is recorded
        figures |= rate(setup, f"ours, {name}", batch, setup.milliseconds(call))
    return figures
