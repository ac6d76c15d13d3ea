"""Checks a metric with the ground truth as detections, which must score 1."""

import numpy as np

from ssd.errors import EvaluationError
from ssd.evaluation.metrics.accumulator import Metric
from ssd.evaluation.metrics.coco import MAX_DETECTIONS
from ssd.structures import ImageDetections, Record


def sanity_check(metric: Metric, images: int = 50) -> None:
    """Give a metric its own ground truth of a few images, and check that its headline figure is 1.

    This finds boxes in a wrong form, labels shifted by one and ids that do not match at the start of an evaluation.

    Raises:
        EvaluationError: the figure is not 1.
    """
    limit = getattr(metric, "max_detections", MAX_DETECTIONS[-1])
    chosen = [record for record in metric.records if _can_score_one(record, limit)][:images]
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


def _can_score_one(record: Record, limit: int) -> bool:
    """Leave out images that no detector can score 1 on, by the rules of the metrics.

    These have no objects; an empty box, which overlaps nothing; the same box twice, since only one counts for VOC; or
    more objects than the detections that count.
    """
    counted = ~(record.crowd | record.difficult)
    if not counted.any() or len(record.labels) > limit:
        return False
    if ((record.boxes[:, 2:] - record.boxes[:, :2]) <= 0).any():
        return False
    rows = np.column_stack([record.boxes, record.labels])
    return len(np.unique(rows, axis=0)) == len(rows)
