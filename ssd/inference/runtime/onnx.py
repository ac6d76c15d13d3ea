"""ONNX Runtime: an exported `.onnx`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from ssd.errors import CheckpointError
from ssd.inference.runtime.checksum import check_checksum
from ssd.inference.runtime.facts import Facts, as_found, refuse_device, refuse_precision
from ssd.structures import BatchDetections
from ssd.system.optional import load_extra


class OnnxGraph:
    """A graph in ONNX Runtime, on the CPU or, where `onnxruntime-gpu` is installed, on CUDA."""

    backend = "onnx"

    def __init__(self, path: Path, device: str = "auto", precision: str = "auto") -> None:
        refuse_precision(precision, ("auto", "fp32"), path)
        engine = load_extra("onnxruntime", "onnx")
        check_checksum(path)
        on_cuda = "CUDAExecutionProvider" in engine.get_available_providers()
        refuse_device(device, ("auto", "cpu", "cuda") if on_cuda else ("auto", "cpu"), "ONNX Runtime")
        self.device = "cuda" if on_cuda and device != "cpu" else "cpu"
        self.precision = "fp32"
        providers = ["CUDAExecutionProvider"] if self.device == "cuda" else []
        options = engine.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; they come back as exceptions
        try:
            self._session = engine.InferenceSession(path, options, providers=[*providers, "CPUExecutionProvider"])
        except Exception as error:  # its kinds of error have no base of their own
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(f"is not a graph that ONNX Runtime can read ({reason})", place=path) from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        if "ssd_plain" in metadata:
            remedy = f"Open it by ssd.light.load({str(path)!r}), or export again without --plain."
            raise CheckpointError("is a plain graph, without suppression", place=path, remedy=remedy)
        self.facts = Facts.from_text(metadata.get("ssd"), path)
        self._path = path.absolute()

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle or copy opens the file again."""
        return type(self), (self._path, self.device, self.precision)

    def find(self, images: UInt8[np.ndarray, "B H W 3"]) -> BatchDetections:
        """Detections by the rules inside the graph."""
        return as_found(self._session.run(["boxes", "scores", "labels", "counts"], {"images": images}))
