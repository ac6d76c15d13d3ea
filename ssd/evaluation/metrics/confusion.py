"""The confusion matrix of the classes over all images, at a score threshold."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from ssd.boxes import iou_of_arrays
from ssd.evaluation.metrics.error_breakdown import ignored_detections, match_best_first
from ssd.structures import ImageDetections, Record


def confusion_matrix(
    images: Iterable[tuple[Record, ImageDetections]], classes: int, threshold: float
) -> Int[np.ndarray, "C C"]:
    """Count pairs of an object's class (row) and a detection's (column); the last row and column mean "nothing".

    Detections with scores of at least `threshold` match, best score first, the free object of any class that they
    overlap most, if the IoU is at least 0.5. Other detections are false alarms (last row), other objects are missed
    (last column). Difficult objects and crowds, and detections that match them, do not count.
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
