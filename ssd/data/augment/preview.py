"""A grid of augmented training images with their boxes, as the network sees them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd.data.loading.batches import Source, Transform, load_checked
from ssd.errors import DatasetError
from ssd.images.drawing import class_color, draw_boxes
from ssd.structures import Sample
from ssd.system.files import write_atomic

_GAP = 4  # white pixels between images
_CROWD_COLOR = (160, 160, 160)


def preview(source: Source, transform: Transform, path: str | Path, *, count: int = 16, seed: int = 0) -> Path:
    """Write the first `count` images of a data set as they enter the first epoch; crowd regions are grey."""
    sheet = draw_sheet(source, transform, count=count, seed=seed)
    done, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert done, "a uint8 image can always be encoded as PNG"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data.tobytes())
    return path


def draw_sheet(source: Source, transform: Transform, *, count: int = 16, seed: int = 0) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the grid that `preview` writes.

    Raises:
        DatasetError: the data set is empty.
    """
    if len(source) == 0:
        raise DatasetError("there are no images to show", place="data.train")
    samples = [transform(load_checked(source, index), (seed, 0, index)) for index in range(min(count, len(source)))]
    return _grid([_draw(sample, source.class_names) for sample in samples])


def _draw(sample: Sample, class_names: Sequence[str]) -> UInt8[np.ndarray, "H W 3"]:
    rows = list(zip(sample.labels.tolist(), sample.crowd.tolist(), sample.difficult.tolist(), strict=True))
    texts = [class_names[label] + " crowd" * crowd + " difficult" * difficult for label, crowd, difficult in rows]
    colors = [_CROWD_COLOR if crowd else class_color(label) for label, crowd, _ in rows]
    return draw_boxes(sample.image, sample.boxes, texts, colors)


def _grid(images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "H W 3"]:
    """Arrange squares of equal size in a grid that is nearly square."""
    size = images[0].shape[0]
    columns = int(np.ceil(len(images) ** 0.5))
    rows = -(-len(images) // columns)
    cell = size + _GAP
    sheet = np.full((rows * cell - _GAP, columns * cell - _GAP, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * cell, place % columns * cell
        sheet[top : top + size, left : left + size] = image
    return sheet
