"""PyTorch: an exported program, `.pt2`."""

import functools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from ssd.errors import ArgumentError, CheckpointError
from ssd.inference.runtime.facts import Facts, as_found, refuse_precision
from ssd.structures import BatchDetections
from ssd.system.device import choose_device


class ProgramGraph:
    """A program of `torch.export`, interpreted by PyTorch; for other tools that compile such programs."""

    backend = "torch"

    def __init__(self, path: Path, device: str = "auto", precision: str = "auto", *, trust: bool = False) -> None:
        refuse_precision(precision, ("auto", "fp32"), path)
        if not trust:
            problem = "loading a .pt2 can run code that its author put there"
            remedy = "If you trust the author: ssd.load(..., trust=True) in Python; an .onnx or .xml needs no trust."
            raise ArgumentError(problem, place=path, remedy=remedy)
        if choose_device(device).type != "cpu" and device != "auto":
            raise ArgumentError(f"the program was made for the CPU, not {device!r}", place="device", remedy="Use cpu.")
        import torchvision.ops  # noqa: F401  (registers the suppression)

        extra = {"ssd.json": ""}
        try:
            self._program = torch.export.load(path, extra_files=extra).module()
        except (RuntimeError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(f"is not a program that PyTorch can read ({reason})", place=path) from None
        self.facts = Facts.from_text(extra["ssd.json"], path)
        self.device, self.precision = "cpu", "fp32"
        self._path = path.absolute()

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle or copy opens the file again; whoever opens a pickle trusts it as this file."""
        return functools.partial(type(self), trust=True), (self._path, self.device, self.precision)

    @torch.inference_mode()
    def find(self, images: UInt8[np.ndarray, "B H W 3"]) -> BatchDetections:
        """Detections by the rules inside the program."""
        return as_found(self._program(torch.from_numpy(images)))
