"""Moves the pixels and boxes of a picture the way a `Geometry` says: step by step as the paper does, or in one warp."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)

Colour = tuple[int, int, int]
Recolour = Callable[[UInt8[np.ndarray, "H W 3"]], UInt8[np.ndarray, "H2 W2 3"]]


@dataclass(frozen=True)
class Geometry:
    """One draw. Rectangles are `left, top, right, bottom` in pixels of the picture and may reach beyond it."""

    crop: tuple[int, int, int, int]  # what is shown
    size: int  # side of the square it is warped to
    mirror: bool = False
    flip: bool = False
    canvas: tuple[int, int, int, int] | None = None  # the expanded picture, filled by the step-by-step form alone
    interpolation: int = 0  # which of INTERPOLATIONS the step-by-step form resizes with

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the result per pixel of the source, horizontally and vertically."""
        left, top, right, bottom = self.crop
        return self.size / (right - left), self.size / (bottom - top)


def move_boxes(boxes: Float[np.ndarray, "N 4"], geometry: Geometry) -> Float[np.ndarray, "N 4"]:
    """Boxes in pixels of the result, cut to its border."""
    corner, scale = np.array(geometry.crop[:2] * 2), np.array(geometry.scale * 2)
    moved = ((boxes - corner) * scale).clip(0, geometry.size)
    if geometry.mirror:
        moved[:, [0, 2]] = geometry.size - moved[:, [2, 0]]
    if geometry.flip:
        moved[:, [1, 3]] = geometry.size - moved[:, [3, 1]]
    return np.asarray(moved)


def by_steps(
    image: UInt8[np.ndarray, "H W 3"], geometry: Geometry, fill: Colour, recolour: Recolour
) -> UInt8[np.ndarray, "S S 3"]:
    """The paper's order on the big picture: colours, expansion, crop, resize, mirror."""
    height, width = image.shape[:2]
    left, top, right, bottom = geometry.canvas or (0, 0, width, height)
    canvas = np.full((bottom - top, right - left, 3), fill, np.uint8)
    canvas[-top : height - top, -left : width - left] = recolour(image)
    crop = np.array(geometry.crop) - [left, top, left, top]
    shown = canvas[crop[1] : crop[3], crop[0] : crop[2]]
    resized = cv2.resize(shown, (geometry.size, geometry.size), interpolation=INTERPOLATIONS[geometry.interpolation])
    return _turn(resized, geometry)


def in_one_warp(
    image: UInt8[np.ndarray, "H W 3"], geometry: Geometry, fill: Colour, recolour: Recolour
) -> UInt8[np.ndarray, "S S 3"]:
    """The same picture up to interpolation, without ever touching a pixel that is not shown.

    What is shown of the source is shrunk with an area filter where it shrinks, recoloured while it is small, and put in
    its place on the fill colour, exact to the fraction of a pixel. The fill keeps its colour.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = geometry.crop
    low = max(left, 0), max(top, 0)
    high = min(right, width), min(bottom, height)
    if low[0] >= high[0] or low[1] >= high[1]:
        return np.full((geometry.size, geometry.size, 3), fill, np.uint8)
    shown = image[low[1] : high[1], low[0] : high[0]]
    target = [(high[axis] - low[axis]) * geometry.scale[axis] for axis in (0, 1)]
    small = recolour(_shrink(shown, target))
    if shown.shape[:2] == (bottom - top, right - left):
        return _turn(cv2.resize(small, (geometry.size, geometry.size), interpolation=cv2.INTER_LINEAR), geometry)
    # `small` has whole pixels, its place has not: the rest of the scale and the fraction of the offset go here.
    # Pixel i covers [i, i + 1], but warpAffine thinks of its centre as i: hence the halves.
    rest = [target[0] / small.shape[1], target[1] / small.shape[0]]
    offset = [(low[axis] - geometry.crop[axis]) * geometry.scale[axis] + (rest[axis] - 1) / 2 for axis in (0, 1)]
    matrix = np.array([[rest[0], 0, offset[0]], [0, rest[1], offset[1]]])
    place = (geometry.size, geometry.size)
    placed = cv2.warpAffine(
        small, matrix, place, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )
    return _turn(placed, geometry)


def _shrink(image: UInt8[np.ndarray, "H W 3"], target: list[float]) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Filter and shrink in each direction that shrinks; a direction that grows waits for the last step."""
    height, width = image.shape[:2]
    smaller = min(width, max(1, round(target[0]))), min(height, max(1, round(target[1])))
    return image if smaller == (width, height) else cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)


def _turn(image: UInt8[np.ndarray, "S S 3"], geometry: Geometry) -> UInt8[np.ndarray, "S S 3"]:
    turned = image[:: -1 if geometry.flip else 1, :: -1 if geometry.mirror else 1]
    return np.ascontiguousarray(turned)
