"""Applies a `Geometry` to the pixels and boxes of an image: step by step as in the paper, or in one warp."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ssd.images.resize import shrink_by_area

INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)

Colour = tuple[int, int, int]
Recolour = Callable[[UInt8[np.ndarray, "H W 3"]], UInt8[np.ndarray, "H2 W2 3"]]


@dataclass(frozen=True)
class Geometry:
    """One draw. Rectangles are `left, top, right, bottom` in pixels of the image and may reach beyond it."""

    crop: tuple[int, int, int, int]  # the part that is shown
    size: int  # side of the square it is warped to
    mirror: bool = False
    flip: bool = False
    canvas: tuple[int, int, int, int] | None = None  # the expanded image; only `by_steps` needs it
    interpolation: int = 0  # index into INTERPOLATIONS, for the resize of `by_steps`

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the result per pixel of the source, horizontally and vertically."""
        left, top, right, bottom = self.crop
        return self.size / (right - left), self.size / (bottom - top)

    @property
    def spare(self) -> int:
        """The largest reduction of the source (1, 2, 4 or 8) that still has a pixel for each pixel of the result."""
        return next((shrink for shrink in (8, 4, 2) if shrink * max(self.scale) <= 1), 1)


def move_boxes(boxes: Float[np.ndarray, "N 4"], geometry: Geometry) -> Float[np.ndarray, "N 4"]:
    """Boxes in pixels of the result, clipped to its border."""
    corner, scale = np.array(geometry.crop[:2] * 2), np.array(geometry.scale * 2)
    moved = ((boxes - corner) * scale).clip(0, geometry.size)
    if geometry.mirror:
        moved[:, [0, 2]] = geometry.size - moved[:, [2, 0]]
    if geometry.flip:
        moved[:, [1, 3]] = geometry.size - moved[:, [3, 1]]
    return np.asarray(moved)


def by_steps(
    image: UInt8[np.ndarray, "H W 3"], geometry: Geometry, fill: Colour, recolour: Recolour, shrink: int = 1
) -> UInt8[np.ndarray, "S S 3"]:
    """Apply the paper's steps to the full-size image: colours, expansion, crop, resize, mirror."""
    assert shrink == 1, "the paper's order works on the whole image"
    height, width = image.shape[:2]
    left, top, right, bottom = geometry.canvas or (0, 0, width, height)
    canvas = np.full((bottom - top, right - left, 3), fill, np.uint8)
    canvas[-top : height - top, -left : width - left] = recolour(image)
    crop = np.array(geometry.crop) - [left, top, left, top]
    shown = canvas[crop[1] : crop[3], crop[0] : crop[2]]
    resized = cv2.resize(shown, (geometry.size, geometry.size), interpolation=INTERPOLATIONS[geometry.interpolation])
    return _turn(resized, geometry)


def in_one_warp(
    image: UInt8[np.ndarray, "H W 3"], geometry: Geometry, fill: Colour, recolour: Recolour, shrink: int = 1
) -> UInt8[np.ndarray, "S S 3"]:
    """Compute the same image up to interpolation from the visible pixels only.

    The visible part is shrunk with an area filter where it shrinks, then distorted in colour, then placed on the fill
    colour with subpixel precision. The fill keeps its colour. The image may be `shrink` times smaller than the pixels
    of the geometry.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = geometry.crop
    low = max(left // shrink, 0), max(top // shrink, 0)
    high = min(-(-right // shrink), width), min(-(-bottom // shrink), height)
    if low[0] >= high[0] or low[1] >= high[1]:
        return np.full((geometry.size, geometry.size, 3), fill, np.uint8)
    shown = image[low[1] : high[1], low[0] : high[0]]
    scale = [shrink * each for each in geometry.scale]
    target = (high[0] - low[0]) * scale[0], (high[1] - low[1]) * scale[1]
    small = recolour(
        shrink_by_area(shown, (round(target[0]), round(target[1])))
    )  # a direction that grows is resized in the last step
    corner = [low[axis] - geometry.crop[axis] / shrink for axis in (0, 1)]
    whole = (shown.shape[0] * shrink, shown.shape[1] * shrink) == (bottom - top, right - left)
    if whole and corner == [0, 0]:
        return _turn(cv2.resize(small, (geometry.size, geometry.size), interpolation=cv2.INTER_LINEAR), geometry)
    # `small` has a whole number of pixels; this matrix has the rest of the scale and the fractional offset.
    # Pixel i covers [i, i + 1], but in warpAffine its centre is at i: hence the halves.
    rest = [target[0] / small.shape[1], target[1] / small.shape[0]]
    offset = [corner[axis] * scale[axis] + (rest[axis] - 1) / 2 for axis in (0, 1)]
    matrix = np.array([[rest[0], 0, offset[0]], [0, rest[1], offset[1]]])
    place = (geometry.size, geometry.size)
    placed = cv2.warpAffine(
        small, matrix, place, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )
    return _turn(placed, geometry)


def _turn(image: UInt8[np.ndarray, "S S 3"], geometry: Geometry) -> UInt8[np.ndarray, "S S 3"]:
    turned = image[:: -1 if geometry.flip else 1, :: -1 if geometry.mirror else 1]
    return np.ascontiguousarray(turned)
