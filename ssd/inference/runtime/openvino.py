"""OpenVINO on the CPU: a network converted in memory, and any of its models made ready."""

import copy
import queue
import threading
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssd.errors import CheckpointError
from ssd.inference.runtime.ir import core
from ssd.inference.runtime.openvino_conversion import converted
from ssd.structures import Predictions

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVINORuntime:
    """A network converted for OpenVINO; the same predictions as PyTorch's, to rounding."""

    backend = "openvino"
    device = "cpu"

    def __init__(self, network: nn.Module, input_size: int, precision: str = "fp32", *, keep: bool = True) -> None:
        self.precision = precision
        self._model = CompiledModel(converted(network, input_size, keep=keep), precision)

    def predict(self, images: Float[Tensor, "B 3 S S"]) -> Predictions:
        """Offsets and logits for every default box, float32."""
        pixels = images.detach().to("cpu", torch.float32).contiguous().numpy()
        offsets, logits = self._model(pixels)
        return Predictions(torch.from_numpy(offsets), torch.from_numpy(logits))

    def for_throughput(self) -> "tuple[OpenVINORuntime, int]":
        """A runtime for many images, and how many threads should call it; see `CompiledModel.for_throughput`."""
        twin = copy.copy(self)
        twin._model = self._model.for_throughput()
        return twin, twin._model.callers


class CompiledModel:
    """A model made ready for this CPU, with as many threads as PyTorch has; a pickle needs the same OpenVINO.

    A call takes all threads for itself, which is best for one image, and other calls wait.
    """

    def __init__(self, model: Any, precision: str) -> None:
        self._model: Any = model
        self._exported: bytes | None = None  # in place of the model, where it came from a pickle
        self._precision = precision
        self._open(self._compile("LATENCY"))

    def _compile(self, hint: str) -> Any:
        options = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        if self._exported is None:
            return core().compile_model(self._model, "CPU", options)
        try:
            return core().import_model(self._exported, "CPU", options)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-160:]
            problem = f"was pickled by another OpenVINO or for another CPU ({reason})"
            raise CheckpointError(problem, place="detector", remedy="Load it from its weights there.") from None

    @property
    def callers(self) -> int:
        """How many threads should call it: one more than calls are computed at once, which prepares the next."""
        return 1 if self._at_once == 1 else self._at_once + 1

    def _open(self, compiled: Any, at_once: int = 1) -> None:
        self._compiled, self._at_once = compiled, at_once
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()  # a request holds the numbers of one call
        for _ in range(at_once):
            self._idle.put(compiled.create_infer_request())
        self._throughput: CompiledModel | None = None
        self._one_at_a_time = threading.Lock()

    def for_throughput(self) -> "CompiledModel":
        """The same model made for calls from many threads: OpenVINO gives each of several calls a part of the cores.

        It is compiled at the first call and shares the weights. Several threads on one image wait for each other at
        every layer; on images of their own they do not.
        """
        with self._one_at_a_time:
            if self._throughput is None:
                compiled = self._compile("THROUGHPUT")
                twin = object.__new__(CompiledModel)
                twin._model, twin._exported, twin._precision = self._model, self._exported, self._precision
                twin._open(compiled, int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))
                self._throughput = twin
        return self._throughput

    def __getstate__(self) -> dict[str, Any]:
        # OpenVINO does not export an imported model again.
        exported = self._exported or self._compiled.export_model().getvalue()
        return {"exported": exported, "precision": self._precision}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._model, self._exported, self._precision = None, state["exported"], state["precision"]
        self._open(self._compile("LATENCY"))

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute all outputs; the arrays are the caller's own."""
        request = self._idle.get()
        try:
            results = request.infer([images], share_inputs=True)
            return [results[index] for index in range(len(results))]
        finally:
            self._idle.put(request)
