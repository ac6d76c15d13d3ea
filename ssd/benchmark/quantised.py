"""The detector in 8 bits, exported for OpenVINO and calibrated on the benchmark's image."""

import contextlib
import io
from pathlib import Path

import numpy as np

from ssd.exporters.export import export
from ssd.images.decode import decode
from ssd.inference.detector import Detector
from ssd.inference.load import load, load_network

_IMAGES = 10


def int8_detector(weights: Path, jpeg: bytes) -> Detector:
    """Export the weights in 8 bits into a file beside them, and load it.

    The calibration images are shifted copies of the image; the loss in AP is measured elsewhere, on real images.

    Raises:
        MissingExtraError: OpenVINO or nncf is not installed.
    """
    path = weights.with_name("int8.xml")
    if path.is_file():  # of another process of this benchmark
        return load(path, precision="int8")
    image = decode(jpeg)
    shifted = (np.roll(image, (17 * index, 29 * index), axis=(0, 1)) for index in range(_IMAGES))
    network, settings = load_network(weights)
    with contextlib.redirect_stdout(io.StringIO()):  # nncf draws progress bars
        export(network, settings, path, "openvino", precision="int8", calibration=shifted)
    return load(path, precision="int8")
