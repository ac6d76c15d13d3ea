"""Images warped to the network's square in NumPy, by the rule that the network was trained with."""

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float32, Int, UInt8
from PIL import Image


def resize_8bit(
    image: UInt8[np.ndarray, "_ _ 3"], size: int, rule: Literal["uint8", "float", "antialias", "area"] = "uint8"
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Warp one 8-bit image to a square as `preprocess_batch` does; "float" is no rule for 8 bits and is "uint8"."""
    if rule == "antialias":
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    if rule == "area":
        image = shrink_by_area(image, (size, size))
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR))


def shrink_by_area(image: UInt8[np.ndarray, "H W 3"], target: tuple[int, int]) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Filter and shrink to the (width, height) of `target` in each direction that shrinks; the others stay."""
    height, width = image.shape[:2]
    smaller = min(width, max(1, target[0])), min(height, max(1, target[1]))
    return image if smaller == (width, height) else np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA))


def resize_floats(image: UInt8[np.ndarray, "_ _ 3"], size: int) -> Float32[np.ndarray, "{size} {size} 3"]:
    """Bilinear in floats without a filter, like `F.interpolate`: the rule "float", before or after normalising."""
    (top, bottom, down), (left, right, across) = (neighbours(count, size) for count in image.shape[:2])
    near = image.take(np.concatenate([top, bottom]), axis=0).take(np.concatenate([left, right]), axis=1)
    pixels = near.astype(np.float32)
    rows = pixels[:, :size] + (pixels[:, size:] - pixels[:, :size]) * across[:, None]
    resized: np.ndarray = rows[:size] + (rows[size:] - rows[:size]) * down[:, None, None]
    return resized


def neighbours(
    count: int, size: int
) -> tuple[Int[np.ndarray, "{size}"], Int[np.ndarray, "{size}"], Float32[np.ndarray, "{size}"]]:
    """For each of `size` pixels along a side of `count`: the pixel before its centre, the one after, and how far."""
    # A float32 ratio, and one rounding at the end: PyTorch's numbers, to the last bit.
    centre = (np.arange(size) + 0.5) * float(np.float32(count) / np.float32(size)) - 0.5
    centre = centre.astype(np.float32).clip(0, count - 1)
    before = centre.astype(np.int64)
    return before, (before + 1).clip(max=count - 1), centre - before.astype(np.float32)
