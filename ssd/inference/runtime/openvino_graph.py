"""OpenVINO: an exported `.xml` with its `.bin`."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ssd.inference.runtime import ir
from ssd.inference.runtime.facts import Facts, as_found, refuse_device, refuse_precision
from ssd.inference.runtime.openvino import CompiledModel
from ssd.inference.runtime.openvino_conversion import round_up_as_openvino
from ssd.structures import BatchDetections
from ssd.system.device import cpu_has_bf16


class OpenVINOGraph:
    """A graph in OpenVINO, on the CPU."""

    backend = "openvino"
    device = "cpu"

    def __init__(self, path: Path, device: str = "auto", precision: str = "auto") -> None:
        refuse_device(device, ("auto", "cpu"), "OpenVINO")
        model = ir.read(path)
        self.facts = Facts.from_text(ir.read_facts(model), path)
        round_up_as_openvino(model)  # in files of earlier versions
        quantised = self.facts.precision == "int8"
        refuse_precision(precision, ("auto", "int8") if quantised else ("auto", "fp32", "bf16"), path)
        if precision == "auto":
            precision = "int8" if quantised else "bf16" if cpu_has_bf16() else "fp32"
        self.precision = precision
        self._model = CompiledModel(model, precision)
        self._path = path.absolute()

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle or copy opens the file again."""
        return type(self), (self._path, self.device, self.precision)

    def for_throughput(self) -> "tuple[OpenVINOGraph, int]":
        """A graph for many images, and how many threads should call it; see `CompiledModel.for_throughput`."""
        twin = object.__new__(type(self))  # a copy opens the file again
        vars(twin).update(vars(self), _model=self._model.for_throughput())
        return twin, twin._model.callers

    def find(self, images: UInt8[np.ndarray, "B H W 3"]) -> BatchDetections:
        """Detections by the rules inside the graph."""
        return as_found(self._model(images))
