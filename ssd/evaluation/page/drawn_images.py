"""Images for the page: ground truth beside detections, and mistakes with their surroundings."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Num, UInt8

from ssd.data.dataset import Dataset
from ssd.data.labels.labelled import Stems
from ssd.images.drawing import Color, class_color, draw_boxes, write_image
from ssd.inference.detector import Detector
from ssd.system.files import writing

_READABLE = 400  # pixels; smaller images are enlarged so that labels can be read
_GAP = 8
_CROP = 320  # pixels of the side of a mistake's image
_AROUND = 2.4  # side of the crop, in longer sides of the box
_LEAST_AROUND = 48  # pixels of the image
_MISTAKE, _TRUTH, _FOUND = (255, 120, 0), (0, 160, 90), (60, 130, 255)
_JPEG_QUALITY = 85
Image = UInt8[np.ndarray, "_ _ 3"]
Boxes = Num[np.ndarray, "_ 4"]
Drawn = tuple[Boxes, list[str]]  # boxes in pixels, and a text for each


def draw_images(detector: Detector, dataset: Dataset, count: int, folder: Path, **options: Any) -> int:
    """Write the first `count` images, ground truth beside the readable detections; returns their number.

    `options` are those of `Detector.detect`; with a score threshold every detection is readable.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    count, stems = min(count, len(dataset)), Stems()
    for index in range(count):
        sample = dataset.load(index)
        found = detector.detect(sample.image, **options).readable()
        truth = [dataset.class_names[label] for label in sample.labels]
        guesses = [f"{name} {score:.2f}" for name, score in zip(found.names, found.scores, strict=True)]
        # Colours follow the data's labels, so that a class has the same colour on both sides.
        labels = [dataset.class_names.index(n) if n in dataset.class_names else -1 for n in found.names]
        pair = side_by_side(sample.image, (sample.boxes, truth, sample.labels.tolist()), (found.boxes, guesses, labels))
        write_image(folder / f"{stems.take(Path(sample.path).name)}.jpg", pair)
    return count


def side_by_side(
    image: Image, truth: tuple[Boxes, list[str], list[int]], found: tuple[Boxes, list[str], list[int]]
) -> Image:
    """Draw an image twice: the objects on the left, the detections on the right, each under its caption."""
    sides = [_captioned(_draw(image, *truth), "truth"), _captioned(_draw(image, *found), "detections")]
    gap = np.full((sides[0].shape[0], _GAP, 3), 255, np.uint8)
    return np.hstack([sides[0], gap, sides[1]])


def _captioned(image: Image, text: str) -> Image:
    """The image with a word on white above it, whose height follows the width of the image."""
    height = max(16, round(image.shape[1] / 20))
    strip = np.full((height, image.shape[1], 3), 255, np.uint8)
    size, thick = height / 40, max(1, height // 24)
    cv2.putText(strip, text, (4, round(0.72 * height)), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), thick, cv2.LINE_AA)
    return np.vstack([strip, image])


def draw_mistake(
    image: Image,
    box: tuple[float, float, float, float],
    text: str,
    truth: Drawn,
    found: Drawn,
    *,
    least: int = _LEAST_AROUND,
) -> Image:
    """Crop a mistake with its surroundings; objects and detections are drawn, and named if they overlap it.

    `least` is the least side of the crop, in pixels of the image.
    """
    left, top, right, bottom = _surroundings(box, image.shape[1], image.shape[0], least)
    factor = _CROP / max(right - left, bottom - top)
    interpolation = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    size = (max(1, round((right - left) * factor)), max(1, round((bottom - top) * factor)))
    cut = cv2.resize(image[top:bottom, left:right], size, interpolation=interpolation)
    rows: list[tuple[np.ndarray, str, Color]] = [(np.array(box), text, _MISTAKE)]
    for color, drawn_too in ((_TRUTH, truth), (_FOUND, found)):
        rows += [(row, name * _overlap(row, box), color) for row, name in zip(*drawn_too, strict=True)]
    moved = [((row - [left, top, left, top]) * factor, name, color) for row, name, color in rows]
    # The mistake is drawn even if a bad annotation puts it outside the image.
    seen = [moved[0], *(row for row in moved[1:] if _touches(row[0], cut.shape))]
    corners, texts, colors = zip(*seen, strict=True)
    boxes = np.stack(corners).clip(-_CROP, 2 * _CROP)
    drawn = draw_boxes(cut, boxes, texts, colors)
    x1, y1, x2, y2 = np.rint(boxes[0]).astype(int).tolist()
    return np.asarray(cv2.rectangle(drawn, (x1 + 1, y1 + 1), (x2 - 2, y2 - 2), _MISTAKE, 2))


def as_jpeg(image: Image, widest: int | None = None) -> bytes:
    """Encode an image for a page, no wider than that many pixels."""
    if widest is not None and image.shape[1] > widest:
        factor = widest / image.shape[1]
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done, "a uint8 image can always be encoded as JPEG"
    encoded: bytes = data.tobytes()
    return encoded


def _surroundings(
    box: tuple[float, float, float, float], width: int, height: int, least: int
) -> tuple[int, int, int, int]:
    """A square about the middle of the box, moved into the image and cut to it."""
    x1, y1, x2, y2 = box
    side = max(_AROUND * max(x2 - x1, y2 - y1), least)
    starts, ends = [], []
    for low, high, length in ((x1, x2, width), (y1, y2, height)):
        start = min(max((low + high - side) / 2, 0.0), max(length - side, 0.0))
        starts.append(int(start))
        ends.append(min(max(round(start + side), int(start) + 1), length))
    return starts[0], starts[1], ends[0], ends[1]


def _overlap(row: np.ndarray, box: tuple[float, float, float, float]) -> bool:
    """Whether the intersection of two boxes is at least a tenth of the smaller one."""
    x1, y1, x2, y2 = row.tolist()
    shared = max(0.0, min(x2, box[2]) - max(x1, box[0])) * max(0.0, min(y2, box[3]) - max(y1, box[1]))
    return bool(shared > 0.1 * min((x2 - x1) * (y2 - y1), (box[2] - box[0]) * (box[3] - box[1])))


def _touches(box: np.ndarray, shape: tuple[int, ...]) -> bool:
    x1, y1, x2, y2 = box.tolist()
    return bool(x2 > 0 and y2 > 0 and x1 < shape[1] and y1 < shape[0])


def _draw(image: Image, boxes: Boxes, texts: list[str], labels: list[int]) -> Image:
    factor = max(1, -(-_READABLE // min(image.shape[:2])))
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return draw_boxes(large, boxes * factor, texts, [class_color(label) for label in labels])
