"""Photometric distortion with Caffe's ranges (section 2.2 of the paper; its reference 14 describes the idea)."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

_LEVELS = np.arange(256, dtype=np.float32)


@dataclass(frozen=True)
class Colours:
    """One draw of the distortion. The defaults change nothing."""

    brightness: float = 0.0  # added to every channel, -32 to 32
    contrast: float = 1.0  # factor, 0.5 to 1.5
    saturation: float = 1.0  # factor, 0.5 to 1.5
    hue: float = 0.0  # OpenCV's units of 2 degrees, -18 to 18
    contrast_last: bool = False  # after saturation and hue, else before them


def draw_colours(rng: np.random.Generator) -> Colours:
    """Draw each part with probability one half, and whether the contrast comes last."""
    apply = rng.random(4) < 0.5
    return Colours(
        brightness=rng.uniform(-32, 32) if apply[0] else 0.0,
        contrast=rng.uniform(0.5, 1.5) if apply[1] else 1.0,
        saturation=rng.uniform(0.5, 1.5) if apply[2] else 1.0,
        hue=rng.uniform(-18, 18) if apply[3] else 0.0,
        contrast_last=bool(rng.random() < 0.5),
    )


def distort(image: UInt8[np.ndarray, "H W 3"], colours: Colours) -> UInt8[np.ndarray, "H W 3"]:
    """Apply a draw; every step rounds and saturates to 8 bits as in Caffe.

    Consecutive steps are combined in lookup tables of 256 entries, so that an image needs at most five passes.
    """
    levels = _saturate(_LEVELS + colours.brightness)
    if not colours.contrast_last:
        levels = _saturate(levels * colours.contrast)
    if not np.array_equal(levels, _LEVELS):
        image = cv2.LUT(image, levels)
    if colours.saturation != 1.0 or colours.hue != 0.0:
        image = _distort_hsv(image, colours.saturation, colours.hue)
    if colours.contrast_last and colours.contrast != 1.0:
        image = cv2.LUT(image, _saturate(_LEVELS * colours.contrast))
    return image


def _distort_hsv(image: UInt8[np.ndarray, "H W 3"], saturation: float, hue: float) -> UInt8[np.ndarray, "H W 3"]:
    # Hue is an angle and wraps around; Caffe cuts it off at 0 and 255 instead, which turns reds into pure red.
    hues = np.rint(_LEVELS + hue).astype(np.int64) % 180
    table = np.stack([hues.astype(np.uint8), _saturate(_LEVELS * saturation), _LEVELS.astype(np.uint8)], axis=-1)
    distorted = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table[None])
    return np.asarray(cv2.cvtColor(distorted, cv2.COLOR_HSV2RGB))


def _saturate(levels: np.ndarray) -> UInt8[np.ndarray, "256"]:
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)
