"""Quantisation to 8 bits by nncf, with activation ranges measured on real images."""

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from ssd.errors import ArgumentError
from ssd.inference.runtime.facts import Facts, stack
from ssd.system.optional import load_extra

# The default of nncf; more images do not change the ranges.
CALIBRATION_IMAGES = 300


def quantise(model: Any, images: Iterable[np.ndarray], facts: Facts) -> tuple[Any, str]:
    """Quantise the network and return it with nncf's version; decoding (boxes, scores) stays in fp32.

    `images` are uint8 RGB of any size.

    Raises:
        ArgumentError: there are no images.
        MissingExtraError: nncf is not installed.
    """
    load_extra("openvino", "int8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nncf's own, about its imports
        nncf = load_extra("nncf", "int8")
        inputs = [batch for image in images for batch in stack([image], facts)]
        if not inputs:
            raise ArgumentError("there are no images", place="calibration", remedy="Name some with --calibrate.")
        quantised = nncf.quantize(
            model,
            nncf.Dataset(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            fast_bias_correction=True,
        )
    return quantised, nncf.__version__
