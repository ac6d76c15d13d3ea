"""Pictures to look at after an evaluation: what is there on the left, what was found on the right."""

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd.drawing import class_color, draw_boxes, write_image

if TYPE_CHECKING:
    from ssd.data import Dataset
    from ssd.detector import Detector

_READABLE = 400  # pixels; smaller pictures are enlarged so that labels can be read
_GAP = 8


def draw_pictures(detector: "Detector", dataset: "Dataset", count: int, folder: Path) -> int:
    """Write the first `count` pictures of a data set, truth beside detections from 0.5 on; gives how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = min(count, len(dataset))
    for index in range(count):
        sample = dataset.load(index)
        found = detector.detect(sample.image, score_threshold=0.5)
        truth = [dataset.class_names[label] for label in sample.labels]
        guesses = [f"{name} {score:.2f}" for name, score in zip(found.names, found.scores, strict=True)]
        # Colours go by the data's labels: a class has one colour on both sides.
        labels = [dataset.class_names.index(n) if n in dataset.class_names else -1 for n in found.names]
        sides = [
            _draw(sample.image, sample.boxes, truth, sample.labels.tolist()),
            _draw(sample.image, found.boxes, guesses, labels),
        ]
        gap = np.full((sides[0].shape[0], _GAP, 3), 255, np.uint8)
        write_image(folder / f"{Path(sample.path).stem}.jpg", np.hstack([sides[0], gap, sides[1]]))
    return count


def _draw(
    image: UInt8[np.ndarray, "H W 3"], boxes: np.ndarray, texts: list[str], labels: list[int]
) -> UInt8[np.ndarray, "_ _ 3"]:
    factor = max(1, -(-_READABLE // min(image.shape[:2])))
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return draw_boxes(large, boxes * factor, texts, [class_color(label) for label in labels])
