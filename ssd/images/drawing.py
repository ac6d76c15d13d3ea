"""Boxes with readable labels on an image of any size, with OpenCV alone.

Line width and letters follow the size of the image, labels never leave it, and a class keeps its colour from one
image to the next. Images are uint8 RGB, boxes pixels.
"""

import colorsys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Num, UInt8

from ssd.errors import ImageError, SSDError
from ssd.system.files import NO_SPACE, write_atomic

Color = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX  # OpenCV 5 draws it with a built-in font that knows accents, Cyrillic, Greek and CJK
_LETTERS_AT_SCALE_1 = 27  # pixels from the baseline to the top of the line
_MOST_COVERED = 0.1  # of the image by labels, as long as their letters can be read
_GOLDEN_RATIO = 0.6180339887


def class_color(label: int) -> Color:
    """Return the RGB colour of a class; neighbouring labels lie far apart on the colour circle."""
    hue = (0.33 + label * _GOLDEN_RATIO) % 1.0
    saturation, value = ((0.85, 1.0), (0.6, 0.85), (1.0, 0.7))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def text_color(background: Color) -> Color:
    """Black or white, whichever stands out more (relative luminance as in WCAG 2)."""
    linear = [(c / 255) ** 2.2 for c in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def line_width(image: UInt8[np.ndarray, "H W 3"]) -> int:
    """Width of a box's outline: 1 pixel on a thumbnail, 2 on a photograph for the screen, 12 at 12 megapixels."""
    return _line_width(image.shape)


def _line_width(shape: tuple[int, ...]) -> int:
    return max(1, round(sum(shape[:2]) / 2 / 300))


def draw_boxes(
    image: UInt8[np.ndarray, "H W 3"],
    boxes: Num[np.ndarray, "N 4"],
    texts: Sequence[str],
    colors: Iterable[Color],
) -> UInt8[np.ndarray, "H W 3"]:
    """Return a copy of the image with every box outlined and its text beside it; an empty text draws no label.

    The first box is the most important: its label is placed first, and both are drawn last, above the others. Every
    label is above every box, and beside the other labels where there is room; in a crowd the letters are smaller, and a
    label that better ones would hide is left out.
    """
    canvas = np.array(image, order="C")
    width = line_width(canvas)
    drawn = list(zip(boxes, texts, colors, strict=True))
    letters = _letter_height(canvas.shape, texts)
    labels: list[_Label] = []
    for box, text, color in drawn:
        label = _place(text, box, color, canvas.shape, letters, [label.frame for label in labels]) if text else None
        if label is not None:
            labels.append(label)
    for box, _, color in reversed(drawn):
        _outline(canvas, box, color, width)
    for label in reversed(labels):
        _write(canvas, label)
    return canvas


def _outline(canvas: np.ndarray, box: np.ndarray, color: Color, width: int) -> None:
    """The line lies inside the box, so that nothing of it is lost at the image's border."""
    height, length = canvas.shape[:2]
    x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
    inset = width // 2
    left, top = min(max(x1 + inset, 0), length - 1), min(max(y1 + inset, 0), height - 1)
    right, bottom = min(max(x2 - 1 - inset, left), length - 1), min(max(y2 - 1 - inset, top), height - 1)
    cv2.rectangle(canvas, (left, top), (right, bottom), color, width)


@dataclass(frozen=True)
class _Label:
    """A text, and the frame it goes into: left, top, right, bottom in whole pixels, the last ones excluded."""

    text: str
    frame: tuple[int, int, int, int]
    origin: tuple[int, int]  # of the first letter, on the baseline
    scale: float
    color: Color


def _place(
    text: str, box: np.ndarray, color: Color, shape: tuple[int, ...], letters: float, taken: Sequence[tuple[int, ...]]
) -> _Label | None:
    """Above the box, else inside its upper edge, below it, or inside its lower edge: the first place that is free.

    Where none is, the one that hides least of the labels that are `taken` by better boxes, and None if they would hide
    half of it.
    """
    height, length = shape[:2]
    width = _line_width(shape)
    text, pad = _drawable(text), max(2, width)
    scale, (text_width, ascent), descent = _fit(text, letters, length - 2 * pad)
    across, down = text_width + 2 * pad, ascent + descent + pad
    x1, y1, _, y2 = np.rint(box).astype(int).tolist()
    left = max(0, min(x1, length - across))
    tops = [top for top in (y1 - down, y1 + width, y2, y2 - width - down) if 0 <= top <= height - down]
    tops = tops or [max(0, min(y1 + width, height - down))]
    frames = [(left, top, left + across, top + down) for top in tops]
    hidden, place = min((sum(_shared(frame, other) for other in taken), place) for place, frame in enumerate(frames))
    if hidden > across * down / 2:
        return None
    return _Label(text, frames[place], (left + pad, frames[place][1] + pad // 2 + ascent), scale, color)


def _shared(frame: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Pixels that two frames have in common."""
    across = min(frame[2], other[2]) - max(frame[0], other[0])
    down = min(frame[3], other[3]) - max(frame[1], other[1])
    return max(0, across) * max(0, down)


def _write(canvas: np.ndarray, label: _Label) -> None:
    left, top, right, bottom = label.frame
    cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), label.color, cv2.FILLED)
    color, stroke = text_color(label.color), _stroke(label.scale)
    cv2.putText(canvas, label.text, label.origin, _FONT, label.scale, color, stroke, cv2.LINE_AA)


def _letter_height(shape: tuple[int, ...], texts: Sequence[str]) -> float:
    """A fortieth of the image, less where all labels together would cover a tenth of it, and at least 12 pixels."""
    letters = sum(shape[:2]) / 2 / 40
    covered = sum(0.55 * letters * len(text) * 1.4 * letters for text in texts)  # roughly: these letters are narrow
    crowd = covered / (_MOST_COVERED * shape[0] * shape[1])
    return float(max(12.0, letters / max(1.0, crowd) ** 0.5))


def _fit(text: str, letters: float, room: int) -> tuple[float, tuple[int, int], int]:
    """Scale, width and height, and descent of a text in letters that high; smaller where it is wider than `room`."""
    scale = letters / _LETTERS_AT_SCALE_1
    size, descent = cv2.getTextSize(text, _FONT, scale, _stroke(scale))
    if size[0] > room:
        scale *= max(room, 1) / size[0]
        size, descent = cv2.getTextSize(text, _FONT, scale, _stroke(scale))
    return scale, (min(size[0], max(room, 1)), size[1]), descent


def _stroke(scale: float) -> int:
    return max(1, round(1.6 * scale))


def _drawable(text: str) -> str:
    """Leave the text as it is where OpenCV can draw it; before OpenCV 5 it knows ASCII only.

    Half a surrogate pair, which a name in JSON may have, becomes a question mark: OpenCV 5 ends the process there.
    """
    text = text.encode("utf-8", "replace").decode()
    if int(cv2.__version__.split(".")[0]) >= 5 or text.isascii():
        return text
    plain = (unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?" for letter in text)
    return "".join(plain)


def shrink(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """Make the longer side at most `side` pixels; a smaller image stays as it is."""
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return image
    height, width = (max(1, round(length * factor)) for length in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def encode_image(image: UInt8[np.ndarray, "H W 3"], suffix: str) -> bytes:
    """Encode an RGB image in the format that the suffix names.

    Raises:
        ImageError: OpenCV writes no such format.
    """
    if not (suffix and cv2.haveImageWriter(f"image{suffix}")):
        raise ImageError(f"no image format has the suffix {suffix!r}", remedy="Use .jpg, .png or .webp.")
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ImageError(f"an image of shape {image.shape} cannot be written as {suffix}", remedy="Use .png.")
    encoded: bytes = data.tobytes()
    return encoded


def write_image(path: Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write an RGB image, whole or not at all; the suffix says the format.

    Raises:
        ImageError: an unknown suffix, or a place that cannot be written to.
        SSDError: no space left, which the next image meets as well.
    """
    encoded = encode_image(image, path.suffix.lower())
    try:
        write_atomic(path, encoded)
    except SSDError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_SPACE:
            raise
        raise ImageError(error.problem, place=path, remedy=error.remedy) from None
