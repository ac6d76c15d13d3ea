"""The steps of a detector on a CUDA device, which the host waits for once a batch: when it reads the detections.

    uint8 images in pinned memory -> upload -> normalise -> network -> post-processing -> one tensor -> host

Images whose detections are unfinished (see `postprocess_without_waiting`) are completed after that, in a slower way.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ssd.errors import CheckpointError
from ssd.images.preprocess import mean_and_std, normalise, preprocess_batch, resized_batch
from ssd.inference.cuda_graphs import CudaGraphs
from ssd.inference.runtime.open import Runtime
from ssd.multibox.default_boxes import default_boxes
from ssd.multibox.packing import pack, unpack
from ssd.multibox.postprocess import finish, postprocess_without_waiting
from ssd.settings import Postprocessing, Settings
from ssd.structures import BatchDetections, Predictions
from ssd.system.threads import image_threads

Inputs = UInt8[Tensor, "B 3 S S"] | Float[Tensor, "B 3 S S"]


@dataclass(frozen=True)
class Launched:
    """The results of a batch on the device, perhaps not computed yet."""

    predictions: Predictions
    packed: Float[Tensor, "B columns"]  # see `multibox.packing`


class DeviceSteps:
    """Preprocessing, network and post-processing on the device of `runtime`, for one set of weights.

    `$SSD_CUDA_GRAPHS=0` turns CUDA graphs off; see `cuda_graphs`.
    """

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self._runtime, self._settings = runtime, settings
        self._device = torch.device(runtime.device)
        self._default_boxes = default_boxes(settings.boxes).to(self._device)
        self._constants = mean_and_std(settings.preprocessing, self._device)
        self._start()

    def _start(self) -> None:
        self._one_at_a_time = threading.Lock()  # a graph holds one batch's numbers
        self.graphs = CudaGraphs(self.launch, self._device)
        self.graphs.enabled = os.environ.get("SSD_CUDA_GRAPHS") != "0"

    def preprocess(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Inputs:
        """Resize images in threads: uint8 in pinned memory, or floats where the weights want a resize in floats."""
        preprocessing, size = self._settings.preprocessing, self._settings.network.input_size
        pinned = self._device.type == "cuda"
        if preprocessing.resize == "float":
            rows = image_threads().map(lambda image: preprocess_batch([image], preprocessing, size), images)
            batch = torch.cat([torch.empty(0, 3, size, size), *rows])
            return batch.pin_memory() if pinned else batch
        return resized_batch(images, preprocessing, size, pinned=pinned, each=image_threads().map)

    @torch.inference_mode()
    def predict(self, inputs: Inputs) -> Predictions:
        """Offsets and logits, float32, on the device. Floats are taken as normalised."""
        images = inputs.to(self._device, non_blocking=True)
        if images.dtype == torch.uint8:
            images = normalise(images, self._settings.preprocessing, self._constants)
        return self._runtime.predict(images)

    def launch(self, inputs: Inputs, rules: Postprocessing) -> Launched:
        """Everything up to the packed detections, without waiting for the device."""
        return self._packed(self.predict(inputs), rules)

    def detect(self, inputs: Inputs, rules: Postprocessing) -> BatchDetections:
        """The detections of a batch, on the host.

        Raises:
            CheckpointError: the predictions are not finite.
        """
        with self._one_at_a_time, torch.inference_mode():
            return self._read(self.graphs(inputs, rules), len(inputs), rules)

    @torch.inference_mode()
    def postprocess(self, predictions: Predictions, rules: Postprocessing) -> BatchDetections:
        """`detect` without the network."""
        return self._read(self._packed(predictions, rules), len(predictions.logits), rules)

    def _packed(self, predictions: Predictions, rules: Postprocessing) -> Launched:
        variances = self._settings.boxes.variances
        found, unfinished = postprocess_without_waiting(predictions, self._default_boxes, rules, variances)
        return Launched(predictions, pack(found, predictions, unfinished))

    def _read(self, launched: Launched, count: int, rules: Postprocessing) -> BatchDetections:
        packed = launched.packed[:count].cpu()  # the one operation that waits
        found, damaged, unfinished = unpack(packed)
        check_finite(not bool(damaged.any()), self._runtime)
        again = unfinished.nonzero()[:, 0]
        if len(again) == 0:
            return found
        variances = self._settings.boxes.variances
        return finish(found, again, launched.predictions, self._default_boxes, rules, variances)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_one_at_a_time", "graphs")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()


def check_finite(finite: bool, runtime: Runtime) -> None:
    """Raise `CheckpointError` for predictions that are not finite: suppression would drop them without a word."""
    if not finite:
        raise CheckpointError(
            "the network's output is not finite",
            place=f"{runtime.backend} in {runtime.precision}",
            remedy="Are the weights damaged? If not, use precision='fp32'.",
        )
