"""Ground truth and detections in, figures out. Nothing here knows a network, a config or a dataset class."""

from ssd.metrics.coco import CocoMetric
from ssd.metrics.collected import Metric, annotation_hash
from ssd.metrics.details import Details
from ssd.metrics.self_test import self_test
from ssd.metrics.tide import ErrorBreakdown
from ssd.metrics.voc import VocMetric

__all__ = ["CocoMetric", "Details", "ErrorBreakdown", "Metric", "VocMetric", "annotation_hash", "self_test"]
