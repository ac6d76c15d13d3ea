"""What computes a plain graph without PyTorch: ONNX Runtime, or OpenCV's module dnn.

An engine is a function from images, float32 RGB (B, 3, S, S) from 0 to 255, to boxes (B, K, 4) and scores (B, K, C).
"""

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ssd.errors import ArgumentError, CheckpointError, MissingExtraError

Engine = Callable[[Float32[np.ndarray, "B 3 S S"]], tuple[Float32[np.ndarray, "B K 4"], Float32[np.ndarray, "B K C"]]]
BACKENDS = ("auto", "onnxruntime", "opencv")
_OUTPUTS = ["boxes", "scores"]


def open_engine(path: Path, backend: str, threads: int | None) -> tuple[Engine, str]:
    """The engine of a file, and its name; `auto` is ONNX Runtime where it is installed, else OpenCV.

    Raises:
        ArgumentError: an unknown backend.
        MissingExtraError: ONNX Runtime is asked for and not installed.
        CheckpointError: the engine cannot read the file.
    """
    if backend not in BACKENDS:
        raise ArgumentError(f"{backend!r} is unknown", place="backend", remedy=f"Choose from {', '.join(BACKENDS)}.")
    installed = importlib.util.find_spec("onnxruntime") is not None
    if backend == "onnxruntime" and not installed:
        remedy = 'Run: pip install onnxruntime, or use backend="opencv".'
        raise MissingExtraError("is not installed", place="onnxruntime", remedy=remedy)
    name = backend if backend != "auto" else "onnxruntime" if installed else "opencv"
    try:
        return (_onnxruntime if name == "onnxruntime" else _opencv)(path, threads), name
    except Exception as error:  # ONNX Runtime's errors have no base of their own, and cv2.error is a bare Exception
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"is not a graph that {name} can read ({reason})", place=path) from None


def _onnxruntime(path: Path, threads: int | None) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors; they come back as exceptions
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Float32[np.ndarray, "B 3 S S"]) -> Any:
        return tuple(session.run(_OUTPUTS, {"images": images}))

    return run


def _opencv(path: Path, threads: int | None) -> Engine:
    import cv2

    network = cv2.dnn.readNetFromONNX(str(path))
    if threads is not None:
        cv2.setNumThreads(threads)  # of the whole process: OpenCV has no others

    lock = threading.Lock()  # the network keeps its input: another thread must not set its own before `forward`

    def run(images: Float32[np.ndarray, "B 3 S S"]) -> Any:
        with lock:
            network.setInput(images)
            return tuple(network.forward(_OUTPUTS))

    return run
