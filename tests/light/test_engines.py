"""The engines of the light detector, without a graph."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd.light.engines import open_engine


class KeptInput:
    """A network of OpenCV, which keeps its input: boxes and scores are that."""

    def setInput(self, images: np.ndarray) -> None:  # noqa: N802 - OpenCV's names
        self.images = images
        time.sleep(0.002)

    def forward(self, names: list[str]) -> list[np.ndarray]:
        return [self.images for _ in names]


def test_threads_that_share_an_opencv_network_get_their_own_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda path: KeptInput())
    engine, _ = open_engine(Path("x.onnx"), "opencv", None)
    batches = [np.full((1, 3, 2, 2), number, np.float32) for number in range(40)]
    with ThreadPoolExecutor(4) as threads:
        found = [float(boxes[0, 0, 0, 0]) for boxes, _ in threads.map(engine, batches)]
    assert found == list(range(40))
