"""The three steps from images to detections, with a network or with an exported graph."""

import copy
import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from ssd.errors import ArgumentError, CheckpointError
from ssd.images.preprocess import preprocess_batch
from ssd.inference.device_steps import DeviceSteps, Inputs, check_finite
from ssd.inference.runtime.facts import Graph, join, narrow, stack
from ssd.inference.runtime.open import open_runtime
from ssd.inference.runtime.openvino import OpenVINORuntime
from ssd.inference.runtime.openvino_graph import OpenVINOGraph
from ssd.multibox.class_thresholds import keep_by_class
from ssd.multibox.default_boxes import default_boxes
from ssd.multibox.postprocess import postprocess
from ssd.settings import Postprocessing, Settings
from ssd.structures import BatchDetections, Predictions

_log = logging.getLogger(__name__)

Image = UInt8[np.ndarray, "_ _ 3"]


@runtime_checkable
class Pipeline(Protocol):
    """The three steps of a detector; the values between them may have any type."""

    settings: Settings
    backend: str
    precision: str

    @property
    def device(self) -> str:
        """The device of the network."""

    def preprocess(self, images: Sequence[Image]) -> Any:
        """Convert images (uint8 RGB, any sizes) to the input of `predict`."""

    def predict(self, inputs: Any) -> Any:
        """Run the network."""

    def postprocess(self, predictions: Any, rules: Postprocessing) -> BatchDetections:
        """Select the detections, on the host."""

    def detect(self, inputs: Any, rules: Postprocessing) -> BatchDetections:
        """`predict` and `postprocess` in one."""

    def check_rules(self, rules: Postprocessing) -> None:
        """Raise `ArgumentError` for rules that this pipeline cannot apply."""

    def for_throughput(self) -> "tuple[Pipeline, int]":
        """This pipeline made for many images, and how many threads should call it at once; 1: itself."""


class NetworkPipeline:
    """A network computed by PyTorch or OpenVINO; preprocessing and post-processing are this package's.

    The network is copied: one that is being trained stays as it is.

    `device`: auto, cpu, cuda, cuda:1, mps. `precision`: auto, fp32, bf16, fp16. `backend`: auto, torch, openvino.
    `auto` is the fastest that this machine has, though of backends it is torch here and `load` that chooses; fp32 gives
    a checkpoint's own numbers, bf16 moves scores by a percent or so. On CUDA all steps but the resize run on the
    device, as `device_steps` describes; on MPS the network alone does. Without `keep` a network that is converted for
    OpenVINO is not kept in the cache folder, where it would take the place of another.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: Settings,
        *,
        device: str = "auto",
        precision: str = "auto",
        backend: str = "auto",
        keep: bool = True,
    ) -> None:
        self.settings = settings
        size = settings.network.input_size
        self._runtime = open_runtime(
            network, input_size=size, device=device, precision=precision, backend=backend, keep=keep
        )
        self.backend, self.precision = self._runtime.backend, self._runtime.precision
        self._default_boxes = default_boxes(settings.boxes)
        on_cuda = self.device.startswith("cuda")
        self._on_device = DeviceSteps(self._runtime, settings) if on_cuda else None

    @property
    def device(self) -> str:
        """The device of the network."""
        return self._runtime.device

    def preprocess(self, images: Sequence[Image]) -> Inputs:
        """Resize and normalise images as these weights expect it; on CUDA `predict` normalises: this gives uint8."""
        if self._on_device is not None:
            return self._on_device.preprocess(images)
        return preprocess_batch(images, self.settings.preprocessing, self.settings.network.input_size)

    def predict(self, inputs: Inputs) -> Predictions:
        """Offsets and logits of every default box, float32, on the device."""
        return self._runtime.predict(inputs) if self._on_device is None else self._on_device.predict(inputs)

    def detect(self, inputs: Inputs, rules: Postprocessing) -> BatchDetections:
        """`predict` and `postprocess` in one; on CUDA as a recorded graph for batches of a size that recurs."""
        if self._on_device is None:
            return self.postprocess(self.predict(inputs), rules)
        return self._on_device.detect(inputs, rules)

    def postprocess(self, predictions: Predictions, rules: Postprocessing) -> BatchDetections:
        """Decode, threshold, suppress: boxes as fractions of each image, on the host.

        Raises:
            CheckpointError: the predictions are not finite.
        """
        if self._on_device is not None:
            return self._on_device.postprocess(predictions, rules)
        host = Predictions(predictions.offsets.cpu(), predictions.logits.cpu())
        # One number per tensor tells: NaN and infinity survive a sum.
        check_finite(bool(torch.isfinite(host.logits.sum() + host.offsets.sum())), self._runtime)
        return postprocess(host, self._default_boxes, rules, self.settings.boxes.variances)

    def check_rules(self, rules: Postprocessing) -> None:
        """Any rules will do."""

    def for_throughput(self) -> "tuple[NetworkPipeline, int]":
        """On a CPU each image gets a part of the cores, and several are computed at once; otherwise itself."""
        if isinstance(self._runtime, OpenVINORuntime):
            twin = copy.copy(self)
            twin._runtime, callers = self._runtime.for_throughput()
            return twin, callers
        return self, torch.get_num_threads() if self.device == "cpu" else 1


class GraphPipeline:
    """An exported graph, which preprocesses and suppresses by itself.

    It gives what its export was told to keep: thresholds can be raised, not lowered.
    """

    def __init__(self, graph: Graph, class_names: Sequence[str] | None = None) -> None:
        self.graph, self.settings = graph, graph.facts.settings
        self._warned = False
        self.backend, self.precision, self.device = graph.backend, graph.precision, graph.device
        if class_names is not None:
            if len(class_names) != self.settings.num_classes:
                problem = f"the graph has {self.settings.num_classes} classes, {len(class_names)} names were given"
                raise CheckpointError(problem, place="class_names", remedy="Leave them out: it knows its own.")
            self.settings = dataclasses.replace(self.settings, class_names=tuple(class_names))

    def preprocess(self, images: Sequence[Image]) -> list[UInt8[np.ndarray, "_ _ _ 3"]]:
        """Stack images as the graph takes them, resized if it does not do that itself."""
        return stack(images, self.graph.facts)

    def predict(self, inputs: Sequence[UInt8[np.ndarray, "_ _ _ 3"]]) -> BatchDetections:
        """Detections by the rules inside the graph."""
        return join([self.graph.find(batch) for batch in inputs])

    def postprocess(self, predictions: BatchDetections, rules: Postprocessing) -> BatchDetections:
        """Keep what `rules` keep.

        Raises:
            ArgumentError: rules that the graph cannot keep to.
            CheckpointError: the detections are not finite.
        """
        self.check_rules(rules)
        if not bool(torch.isfinite(predictions.boxes.sum() + predictions.scores.sum())):
            raise CheckpointError("the graph's output is not finite", place=self.backend)
        if rules.class_thresholds:
            self._warn_of_full_images(predictions, min(rules.class_thresholds))
            predictions = keep_by_class(predictions, rules.class_thresholds)
        return narrow(predictions, rules.score_threshold, rules.max_detections)

    def _warn_of_full_images(self, found: BatchDetections, threshold: float) -> None:
        """Say once that detections of a class with a low threshold may have lost their places to those of others."""
        most = self.graph.facts.settings.postprocessing.max_detections
        if self._warned or found.scores.shape[1] < most:
            return
        if bool(((found.counts == most) & (found.scores[:, most - 1] > threshold)).any()):
            self._warned = True
            _log.warning(
                "an image has more than the %d detections that the graph keeps, before the thresholds of classes: "
                "some of a class with a low threshold may be missing. Export it with --max-detections %d",
                most,
                4 * most,
            )

    def detect(self, inputs: Sequence[UInt8[np.ndarray, "_ _ _ 3"]], rules: Postprocessing) -> BatchDetections:
        """`predict` and `postprocess` in one."""
        return self.postprocess(self.predict(inputs), rules)

    def check_rules(self, rules: Postprocessing) -> None:
        """Raise `ArgumentError` for lower thresholds, more detections, or another suppression than the graph's."""
        inside = self.graph.facts.settings.postprocessing
        narrower = dataclasses.replace(
            inside,
            score_threshold=max(rules.score_threshold, inside.score_threshold),
            max_detections=min(rules.max_detections, inside.max_detections),
            class_thresholds=rules.class_thresholds,
        )
        for name in dict.fromkeys(["max_detections", *dataclasses.asdict(narrower)]):  # more of them raise top_k too
            if getattr(rules, name) != getattr(narrower, name):
                wanted = getattr(rules, name)
                problem = f"{wanted} is not possible: the graph was exported with {getattr(inside, name)}"
                remedy = f"Export again with --{name.replace('_', '-')}, or use the weights."
                raise ArgumentError(problem, place=name, remedy=remedy)

    def for_throughput(self) -> "tuple[GraphPipeline, int]":
        """By OpenVINO each image gets a part of the cores, and several are computed at once; otherwise itself."""
        if not isinstance(self.graph, OpenVINOGraph):
            return self, 1
        twin = copy.copy(self)
        twin.graph, callers = self.graph.for_throughput()
        return twin, callers
