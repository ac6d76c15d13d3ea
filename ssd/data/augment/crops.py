"""Random expansion, crop and mirroring of a training sample (section 2.2 of the paper).

Only numbers are drawn here, in whole pixels of the source; `ssd.data.augment.warp` applies them to pixels and boxes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from ssd.data.augment.warp import Geometry

Rectangle = tuple[int, int, int, int]

PAPER_EXPANSION, PAPER_CROP = 4.0, 0.3
TRIALS = 50
WHOLE, FREE = -1.0, 0.0
CHOICES = (WHOLE, 0.1, 0.3, 0.5, 0.7, 0.9, FREE)  # the least IoU that some object must have with the crop
_INTERPOLATIONS = 5  # how many `ssd.data.augment.warp.INTERPOLATIONS` there are to choose from


@dataclass(frozen=True)
class Switches:
    """The largest expansion and the least crop, in sides of the image: 1 is none; and switches for the mirrors."""

    expand: float = PAPER_EXPANSION
    crop: float = PAPER_CROP
    mirror: bool = True
    flip_vertical: bool = False


def draw_geometry(
    rng: np.random.Generator,
    shape: tuple[int, int],
    boxes: Float[np.ndarray, "N 4"],
    crowd: Bool[np.ndarray, "N"],
    *,
    size: int,
    switches: Switches,
) -> Geometry:
    """Draw the part of the source that a `size` x `size` training image shows.

    In an image with objects at least one stays visible: its centre inside, its sides at least a pixel long.
    `shape` is the image's (height, width); crowd regions need not stay visible.
    """
    height, width = shape
    objects = boxes[~crowd].astype(np.float64)
    if len(objects) == 0:
        objects = np.array([[0.0, 0.0, width, height]])  # without objects the whole image counts as one
    canvas: Rectangle = (0, 0, width, height)
    if switches.expand > 1 and rng.random() < 0.5:
        larger = _expand(rng, width, height, switches.expand)
        canvas = larger if visible(objects, np.array([larger]), size).any() else canvas
    crop = _draw_crop(rng, canvas, objects, size, switches.crop) if switches.crop < 1 else canvas
    return Geometry(
        crop=crop,
        size=size,
        mirror=bool(switches.mirror and rng.random() < 0.5),
        flip=bool(switches.flip_vertical and rng.random() < 0.5),
        canvas=canvas,
        interpolation=int(rng.integers(_INTERPOLATIONS)),
    )


def visible(
    boxes: Num[np.ndarray, "N 4"],
    crops: Int[np.ndarray, "T 4"],
    size: int,
    crowd: Bool[np.ndarray, "N"] | None = None,
    *,
    slack: float = 0.0,
) -> Bool[np.ndarray, "T N"]:
    """Which boxes each crop keeps: centre inside, and at least one pixel in each direction at an output of `size`.

    A crowd region is kept if any part of it lies inside, since that part is no background. `slack` is how many pixels
    of the image the boxes may have moved by rounding.
    """
    low, high = crops[:, None, :2], crops[:, None, 2:]
    sides = np.minimum(boxes[:, 2:], high) - np.maximum(boxes[:, :2], low)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centres >= low - slack) & (centres <= high + slack)).all(axis=-1)
    if crowd is not None:
        inside |= crowd
    return np.asarray(inside & ((sides + slack) * size >= high - low).all(axis=-1))


def _expand(rng: np.random.Generator, width: int, height: int, most: float) -> Rectangle:
    """Place the image on a canvas up to `most` times as wide and high; coordinates are pixels of the image."""
    ratio = rng.uniform(1.0, most)
    canvas_width, canvas_height = int(width * ratio), int(height * ratio)
    left = int(rng.integers(canvas_width - width + 1))
    top = int(rng.integers(canvas_height - height + 1))
    return -left, -top, canvas_width - left, canvas_height - top


def _draw_crop(
    rng: np.random.Generator, canvas: Rectangle, objects: Float[np.ndarray, "N 4"], size: int, least: float
) -> Rectangle:
    """Take the first choice, in random order, for which a crop is found.

    Caffe draws a crop for every choice and then picks one of those found, which has the same distribution.
    """
    for least_iou in rng.permutation(CHOICES):
        if least_iou == WHOLE:
            return canvas
        crops = _propose(rng, canvas, least)
        found = (_iou(crops, objects) >= least_iou).any(axis=1) & visible(objects, crops, size).any(axis=1)
        if found.any():
            left, top, right, bottom = crops[found.argmax()].tolist()
            return left, top, right, bottom
    raise AssertionError("the whole image is one of the choices")


def _propose(rng: np.random.Generator, canvas: Rectangle, least: float) -> Int[np.ndarray, "T 4"]:
    """Draw trial crops inside the canvas: `least` to 1 of its scale, aspect ratio 0.5 to 2 relative to it."""
    scale = rng.uniform(least, 1.0, TRIALS)
    aspect = rng.uniform(np.maximum(0.5, scale**2), np.minimum(2.0, 1 / scale**2))
    sides = np.stack([scale * np.sqrt(aspect), scale / np.sqrt(aspect)], axis=-1).clip(max=1.0)
    corner = rng.uniform(size=(TRIALS, 2)) * (1 - sides)
    whole = np.array([canvas[2] - canvas[0], canvas[3] - canvas[1]])
    low = np.floor(corner * whole).astype(np.int64)
    high = np.minimum(low + np.maximum(np.rint(sides * whole).astype(np.int64), 1), whole)
    return np.asarray(np.concatenate([low, high], axis=-1) + np.array(canvas[:2] * 2))


def _iou(crops: Int[np.ndarray, "T 4"], boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "T N"]:
    low = np.maximum(crops[:, None, :2], boxes[:, :2])
    high = np.minimum(crops[:, None, 2:], boxes[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=-1)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=-1) for each in (crops, boxes)]
    return np.asarray(shared / (areas[0][:, None] + areas[1] - shared))
