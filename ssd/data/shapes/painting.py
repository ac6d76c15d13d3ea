"""Painting of the synthetic images: backgrounds, surfaces of shapes, and distractors.

Images are float32 here, 0 to 255, painted in place; every draw comes from the generator passed in.
"""

import cv2
import numpy as np
from jaxtyping import Float, Float32

_SUBPIXELS = 16  # cv2 takes points in fractions of a pixel, as whole numbers
_SHIFT = 4  # 2 ** 4 of them
_CONTRAST = 110.0  # least distance in RGB between a shape and what lies behind it
_STYLES = ("plain", "outline", "striped", "speckled", "shaded")
_CLUTTER = ("bar", "cross", "arc", "dots")

Image = Float32[np.ndarray, "H W 3"]
Mask = Float32[np.ndarray, "H W"]


def background(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "{size} {size} 3"]:
    """Two colours mixed by a gradient, stripes, checks or clouds."""
    first, second = rng.uniform(20, 235, (2, 3))
    second = first + (second - first) * rng.uniform(0.15, 0.6)  # quieter than the shapes
    patterns = (_gradient, _stripes, _checks, _clouds)
    pattern = patterns[rng.integers(len(patterns))](rng, size)
    mixed = first + pattern[..., None] * (second - first)
    return np.ascontiguousarray(mixed, np.float32)


def paint(rng: np.random.Generator, image: Image, outline: Float[np.ndarray, "P 2"]) -> None:
    """Paint one shape: filled, striped, speckled, shaded, or only its outline."""
    mask = _fill(image, outline)
    colour = _contrasting(rng, image, mask)
    style = _STYLES[rng.integers(len(_STYLES))]
    if style == "outline":
        centre = outline.mean(axis=0)
        mask = np.clip(mask - _fill(image, centre + rng.uniform(0.6, 0.78) * (outline - centre)), 0, 1)
    texture = {"striped": _stripes, "speckled": _speckles, "shaded": _gradient}.get(style)
    shade = np.float32(1) if texture is None else 1 - 0.4 * texture(rng, len(image))[..., None]
    image += mask[..., None] * (colour * shade - image)


def distract(rng: np.random.Generator, image: Image) -> None:
    """Paint a distractor: a bar, a cross, an arc or a few dots."""
    size = len(image)
    centre = rng.uniform(0, size, 2)
    reach, angle = size * rng.uniform(0.08, 0.25), rng.uniform(0, np.pi)
    across = reach * np.array([np.cos(angle), np.sin(angle)])
    along = np.array([-across[1], across[0]])
    width = max(1, round(size * rng.uniform(0.01, 0.025)))
    mask = np.zeros(image.shape[:2], np.uint8)
    kind = _CLUTTER[rng.integers(len(_CLUTTER))]
    if kind in ("bar", "cross"):
        _line(mask, centre - across, centre + across, width)
    if kind == "cross":
        _line(mask, centre - along, centre + along, width)
    if kind == "arc":
        radius = round(reach)
        start = float(np.degrees(angle))
        cv2.ellipse(
            mask, (round(centre[0]), round(centre[1])), (radius, radius), start, 0, 120, 255, width, cv2.LINE_AA
        )
    if kind == "dots":
        for place in rng.normal(centre, reach / 2, (6, 2)):
            cv2.circle(mask, (round(place[0]), round(place[1])), width, 255, -1, cv2.LINE_AA)
    image += (mask / np.float32(255))[..., None] * (_contrasting(rng, image, mask > 0) - image)


def _contrasting(rng: np.random.Generator, image: Image, mask: np.ndarray) -> Float32[np.ndarray, "3"]:
    """A colour with enough contrast to the pixels it will cover, or the best of a few draws."""
    behind = image[mask > 0].mean(axis=0) if (mask > 0).any() else image.mean(axis=(0, 1))
    draws = rng.uniform(0, 255, (12, 3))
    distances = np.linalg.norm(draws - behind, axis=1)
    enough = np.flatnonzero(distances > _CONTRAST)
    return np.asarray(draws[enough[0] if len(enough) else distances.argmax()], np.float32)


def _fill(image: Image, outline: Float[np.ndarray, "P 2"]) -> Mask:
    """The share of each pixel inside the outline. Whole numbers are pixel centres in cv2 and pixel corners here."""
    mask = np.zeros(image.shape[:2], np.uint8)
    points = np.rint((outline - 0.5) * _SUBPIXELS).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, _SHIFT)
    return np.asarray(mask / np.float32(255), np.float32)


def _line(mask: np.ndarray, start: np.ndarray, end: np.ndarray, width: int) -> None:
    (x1, y1), (x2, y2) = np.rint(start).astype(int).tolist(), np.rint(end).astype(int).tolist()
    cv2.line(mask, (x1, y1), (x2, y2), 255, width, cv2.LINE_AA)


def _ramp(rng: np.random.Generator, size: int) -> Mask:
    """0 to 1 across the image in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size, 0:size] / size
    ramp = x * np.cos(angle) + y * np.sin(angle)
    return np.asarray((ramp - ramp.min()) / np.ptp(ramp), np.float32)


def _gradient(rng: np.random.Generator, size: int) -> Mask:
    return _ramp(rng, size)


def _stripes(rng: np.random.Generator, size: int) -> Mask:
    return np.asarray(0.5 + 0.5 * np.sin(_ramp(rng, size) * 2 * np.pi * rng.uniform(4, 14)), np.float32)


def _checks(rng: np.random.Generator, size: int) -> Mask:
    cells = rng.integers(3, 9)
    y, x = np.mgrid[0:size, 0:size] * cells // size
    return np.asarray((x + y) % 2, np.float32)


def _clouds(rng: np.random.Generator, size: int) -> Mask:
    coarse = rng.random((rng.integers(3, 8),) * 2, np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32).clip(0, 1)


def _speckles(rng: np.random.Generator, size: int) -> Mask:
    fine = rng.random((size // 3 + 1,) * 2, np.float32)
    return fine.repeat(3, axis=0).repeat(3, axis=1)[:size, :size]
