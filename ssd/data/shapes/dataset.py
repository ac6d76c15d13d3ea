"""A synthetic data set: no download, the same on every machine.

The objects are circles, squares, triangles and stars of many sizes, tilted, filled, outlined, striped or speckled, some
overlapping, some cut by the image's edge, on gradients, stripes, checks and clouds. Crosses, bars, arcs and dots are
distractors, and some images have no object. An image depends on (seed, split, index) alone.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Float, Float32, UInt8

from ssd.data.dataset import Dataset
from ssd.data.shapes.painting import background, distract, paint
from ssd.structures import Record

CLASS_NAMES = ("circle", "square", "star", "triangle")
_EMPTY = 0.06  # share of images without an object
_MOST = 5  # most objects in one image
_SMALLEST, _LARGEST = 0.18, 0.5  # sides of an object, as fractions of the image's
_TILT = np.pi / 8  # largest rotation of a shape, in radians


@dataclass(frozen=True)
class _Thing:
    """One shape: its outline in pixels, and the box of its visible part."""

    label: int
    outline: Float[np.ndarray, "P 2"]
    box: Float32[np.ndarray, "4"]


def shapes(split: str, count: int, size: int, seed: int = 0) -> Dataset:
    """A split of `count` drawn images of `size` x `size` pixels; splits differ in every image."""
    return Dataset(
        records=tuple(_record(split, index, size, seed) for index in range(count)),
        class_names=CLASS_NAMES,
        category_ids=tuple(range(1, len(CLASS_NAMES) + 1)),
        name="shapes",
        split=split,
        read=partial(draw, split=split, seed=seed),
    )


def draw(record: Record, *, split: str, seed: int) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a record's image."""
    return _paint(split, int(record.image_id), record.width, seed)


@lru_cache(maxsize=2048)  # at 160 pixels 150 MiB at most; drawing takes as long as augmenting
def _paint(split: str, index: int, size: int, seed: int) -> UInt8[np.ndarray, "H W 3"]:
    rng = _generator(seed, split, index, what=1)
    image = background(rng, size)
    for _ in range(rng.integers(0, 4)):
        distract(rng, image)
    for thing in _place(split, index, size, seed):
        paint(rng, image, thing.outline)
    noise = rng.normal(0, rng.uniform(0, 10), image.shape)
    drawn = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    drawn.flags.writeable = False  # the cache returns it again
    return drawn


def _record(split: str, index: int, size: int, seed: int) -> Record:
    things = _place(split, index, size, seed)
    boxes = np.array([thing.box for thing in things], np.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    nothing = np.zeros(len(things), bool)
    return Record(
        path=f"shapes/{split}/{index:06d}",
        image_id=index,
        width=size,
        height=size,
        boxes=boxes,
        labels=np.array([thing.label for thing in things], np.int64),
        difficult=nothing,
        crowd=nothing,
        areas=sides[:, 0] * sides[:, 1],
    )


def _generator(seed: int, split: str, index: int, *, what: int) -> np.random.Generator:
    """A random generator that depends on the arguments alone; places and looks have different streams."""
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index, what])


def _place(split: str, index: int, size: int, seed: int) -> list[_Thing]:
    """Choose the objects of one image, the last in front."""
    rng = _generator(seed, split, index, what=0)
    things: list[_Thing] = []
    wanted = 0 if rng.random() < _EMPTY else rng.integers(1, _MOST + 1)
    for _ in range(8 * wanted):
        if len(things) == wanted:
            break
        label = int(rng.integers(len(CLASS_NAMES)))
        side = size * np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST)))
        centre = rng.uniform(0.4 * side, size - 0.4 * side, 2)  # so that some are cut by the edge
        outline = centre + side / 2 * _turned(
            _unit_outline(CLASS_NAMES[label]), _upright(CLASS_NAMES[label]) + rng.uniform(-_TILT, _TILT)
        )
        low, high = outline.min(axis=0).clip(0, size), outline.max(axis=0).clip(0, size)
        thing = _Thing(label, outline, np.concatenate([low, high]).astype(np.float32))
        if all(_covered(other.box, thing.box) < 0.2 for other in things):
            things.append(thing)
    return things


def _covered(behind: Float32[np.ndarray, "4"], front: Float32[np.ndarray, "4"]) -> float:
    """The share of the smaller box that lies in the other."""
    shared = np.clip(np.minimum(behind[2:], front[2:]) - np.maximum(behind[:2], front[:2]), 0, None).prod()
    return float(shared / min((behind[2:] - behind[:2]).prod(), (front[2:] - front[:2]).prod()))


def _unit_outline(name: str) -> Float[np.ndarray, "P 2"]:
    """Corners of the shape on (or in) the circle of radius 1."""
    corners = {"circle": 64, "square": 4, "star": 10, "triangle": 3}[name]
    angles = np.arange(corners) * (2 * np.pi / corners)
    radii = np.where(np.arange(corners) % 2, 0.42, 1.0) if name == "star" else np.ones(corners)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _upright(name: str) -> float:
    """Angle that puts the shape on its base, with y pointing down."""
    return {"square": np.pi / 4}.get(name, -np.pi / 2)


def _turned(points: Float[np.ndarray, "P 2"], angle: float) -> Float[np.ndarray, "P 2"]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))
