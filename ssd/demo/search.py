"""Detection for the demo's page: loads weights, detects in an image, and keeps the answer for the slider."""

import dataclasses
import functools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ssd.errors import ArgumentError, ImageDecodeError, counted
from ssd.images.decode import decode
from ssd.images.drawing import shrink
from ssd.inference.detections import Detections
from ssd.inference.detector import Detector
from ssd.inference.load import load

_SHOWN_SIDE = 1600  # pixels of the longer side on the page


@dataclass(frozen=True)
class Answer:
    """All detections of one image, and a copy of the image small enough for the page."""

    found: Detections  # in pixels of the image, without the image
    name: str
    shown: UInt8[np.ndarray, "H W 3"]
    detector: str
    read_ms: float
    search_ms: float

    @property
    def has_own(self) -> bool:
        """Whether the weights have thresholds of their own."""
        return isinstance(self.found.draw_from, tuple)

    def above(self, threshold: float | None) -> Detections:
        """The detections with a score of `threshold` or more; None: above the weights' own thresholds, else 0.5."""
        return self.found.readable() if threshold is None else self.found.filter(min_score=threshold)

    def drawn(self, threshold: float | None) -> UInt8[np.ndarray, "H W 3"]:
        """The image at the size of the page, with the boxes above `threshold`."""
        height, width = self.shown.shape[:2]
        factor = np.array([width, height] * 2, np.float32) / np.array(self.found.image_size[::-1] * 2, np.float32)
        chosen = self.above(threshold)
        boxes = (chosen.boxes * factor).astype(np.float32)
        return dataclasses.replace(chosen, boxes=boxes, image_size=(height, width)).plot(self.shown)

    def json(self, threshold: float | None) -> str:
        """The detections above `threshold` as JSON, in pixels of the image."""
        return dataclasses.replace(self.above(threshold), source=Path(self.name)).to_json(indent=2)

    def summary(self, threshold: float | None) -> str:
        """One line with the number of detections, the time, and the device, precision and runtime."""
        height, width = self.found.image_size
        count = len(self.above(threshold))
        return (
            f"**{counted(count, 'object')}** in {width} x {height} pixels. "
            f"Reading {self.read_ms:.0f} ms, searching {self.search_ms:.0f} ms ({self.detector})."
        )


class Search:
    """The detectors of the page, loaded on first use; only the last one stays in memory."""

    def __init__(self, choices: Sequence[str], *, device: str, precision: str, backend: str) -> None:
        self.choices = tuple(choices)
        self._load = functools.partial(load, device=device, precision=precision, backend=backend)
        self._loaded: tuple[str, Detector] | None = None
        self._lock = threading.Lock()

    def load(self, weights: str) -> Detector:
        """The detector of one of the choices.

        Raises:
            ArgumentError: the weights are not among the choices.
        """
        if weights not in self.choices:
            raise ArgumentError("is not one of the choices", place=repr(weights))
        with self._lock:
            if self._loaded is None or self._loaded[0] != weights:
                self._loaded = None  # frees its memory before the next is loaded
                detector = self._load(weights)
                detector.detect(np.zeros((64, 64, 3), np.uint8))  # the first detection takes longer, and is not timed
                self._loaded = (weights, detector)
            return self._loaded[1]

    def find(self, path: Path, weights: str) -> Answer:
        """Detect in an image file.

        Raises:
            SSDError: the file is no image, or the weights cannot be used.
        """
        detector = self.load(weights)
        start = time.perf_counter()
        image = decode(_read_uploaded(path), path.name, depth=detector.settings.preprocessing.depth)
        read = time.perf_counter()
        found = detector.detect(image)
        searched = time.perf_counter()
        return Answer(
            found=dataclasses.replace(found, source=None),
            name=path.name,
            shown=shrink(image, _SHOWN_SIDE),
            detector=repr(detector).removeprefix("<Detector: ").removesuffix(">"),
            read_ms=1000 * (read - start),
            search_ms=1000 * (searched - read),
        )


def _read_uploaded(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # the page still shows it
        problem = "was deleted some minutes after it came"
        raise ImageDecodeError(problem, place=path.name, remedy="Drop it again.") from None
