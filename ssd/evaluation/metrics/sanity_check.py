"""Proof before measuring: ground truth handed in as detections must score 1."""

import numpy as np

from ssd.errors import EvaluationError
from ssd.evaluation.metrics.accumulator import Metric
from ssd.structures import ImageDetections, Record


def sanity_check(metric: Metric, images: int = 50) -> None:
    """Give a metric its own ground truth, on a few images, and see that its headline is 1.

    Catches boxes in the wrong form, labels shifted by one and ids that do not meet, at the start of an evaluation
    instead of as a low figure at its end.

    Raises:
        EvaluationError: it is not.
    """
    chosen = [record for record in metric.records if _can_score_one(record)][:images]
    if not chosen:
        return
    trial = metric.fresh(chosen)
    for record in chosen:
        counted = ~(record.crowd | record.difficult)
        scores = np.ones(int(counted.sum()), dtype=np.float32)
        trial.update(record.image_id, ImageDetections(record.boxes[counted], scores, record.labels[counted]))
    figure = trial.compute()[metric.headline]
    if figure is None or abs(figure - 1) > 1e-6:
        problem = (
            f"ground truth given as detections scores {metric.headline} {figure} instead of 1 on {len(chosen)} images"
        )
        remedy = "Its boxes, labels or ids are not what the metric expects; please report this."
        raise EvaluationError(problem, place=f"metric {metric.name!r}", remedy=remedy)


def _can_score_one(record: Record) -> bool:
    """Leave out images that no detector can score 1 on, by the rules of the metrics.

    These have no objects; an empty box, which overlaps nothing; a box twice, of which VOC lets only one be found; or
    more objects than the 100 detections that COCO looks at.
    """
    counted = ~(record.crowd | record.difficult)
    if not counted.any() or len(record.labels) > 100:
        return False
    if ((record.boxes[:, 2:] - record.boxes[:, :2]) <= 0).any():
        return False
    rows = np.column_stack([record.boxes, record.labels])
    return len(np.unique(rows, axis=0)) == len(rows)
