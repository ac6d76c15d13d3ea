"""OpenVINO on the CPU: a network converted in memory, and any of its models made ready."""

import threading
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssd.errors import CheckpointError
from ssd.inference.runtime.openvino_conversion import converted
from ssd.structures import Predictions
from ssd.system.optional import load_extra

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVINORuntime:
    """A network converted for OpenVINO; the same predictions as PyTorch's, in a half to two thirds of the time."""

    backend = "openvino"
    device = "cpu"

    def __init__(self, network: nn.Module, input_size: int, precision: str = "fp32") -> None:
        self.precision = precision
        self._model = CompiledModel(converted(network, input_size), precision)

    def predict(self, images: Float[Tensor, "B 3 S S"]) -> Predictions:
        """Offsets and logits for every default box, float32."""
        pixels = images.detach().to("cpu", torch.float32).contiguous().numpy()
        offsets, logits = self._model(pixels)
        return Predictions(torch.from_numpy(offsets), torch.from_numpy(logits))


def _options(precision: str) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }


class CompiledModel:
    """A model made ready for this CPU, with as many threads as PyTorch has; a pickle needs the same OpenVINO."""

    def __init__(self, model: Any, precision: str) -> None:
        core = load_extra("openvino", "openvino").Core()
        self._open(core.compile_model(model, "CPU", _options(precision)), precision, None)

    def _open(self, compiled: Any, precision: str, exported: bytes | None) -> None:
        self._compiled, self._precision = compiled, precision
        self._exported = exported  # where it came from a pickle: OpenVINO does not export an imported model again
        self._request = compiled.create_infer_request()
        self._one_at_a_time = threading.Lock()  # a request holds one image's numbers

    def __getstate__(self) -> dict[str, Any]:
        exported = self._exported or self._compiled.export_model().getvalue()
        return {"exported": exported, "precision": self._precision}

    def __setstate__(self, state: dict[str, Any]) -> None:
        core = load_extra("openvino", "openvino").Core()
        exported, precision = state["exported"], state["precision"]
        try:
            compiled = core.import_model(exported, "CPU", _options(precision))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-160:]
            problem = f"was pickled by another OpenVINO or for another CPU ({reason})"
            raise CheckpointError(problem, place="detector", remedy="Load it from its weights there.") from None
        self._open(compiled, precision, exported)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute all outputs; the arrays are the caller's own."""
        with self._one_at_a_time:
            results = self._request.infer([images], share_inputs=True)
            return [results[index] for index in range(len(results))]
