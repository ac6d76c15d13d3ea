"""Which class is taken for which: one table over all images, at a score threshold."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from ssd.boxes import iou_of_arrays
from ssd.evaluation.metrics.error_breakdown import ignored_detections, match_best_first
from ssd.structures import ImageDetections, Record


def confusion_matrix(
    images: Iterable[tuple[Record, ImageDetections]], classes: int, threshold: float
) -> Int[np.ndarray, "C C"]:
    """Count pairs (row: what is there, column: what was said); the last row and column stand for "nothing".

    Detections scoring `threshold` or more take, best score first, the free object that they overlap most, of
    whichever class, from an IoU of 0.5 on. What is left over is a false alarm (last row), what is not taken is missed
    (last column). Difficult objects and crowds, and what answers for them, do not count.
    """
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for record, found in images:
        kept, counted = found.scores >= threshold, ~(record.crowd | record.difficult)
        labels, truth = found.labels[kept], record.labels[counted]
        matched = match_best_first(iou_of_arrays(found.boxes[kept], record.boxes[counted]), found.scores[kept])
        said = np.full(len(truth), classes)
        said[matched[matched >= 0]] = labels[matched >= 0]
        np.add.at(matrix, (truth, said), 1)
        false_alarms = (matched < 0) & ~ignored_detections(record, found)[kept]
        np.add.at(matrix[classes], labels[false_alarms], 1)
    return matrix
