"""An evaluation's figures without a network, and a run's rows."""

from typing import Any

import numpy as np

from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.metrics.error_breakdown import ErrorBreakdown
from ssd.evaluation.metrics.voc import VocMetric
from ssd.evaluation.page.page import EvaluationFigures, SizeRow
from ssd.report.blocks import Image
from ssd.structures import Record
from tests.evaluation.metrics.made import Detections, hand_in, random_case

JPEG = b"\xff\xd8\xff\xd9"


def evaluation(
    case: tuple[list[Record], dict[int | str, Detections]] | None = None, names: tuple[str, ...] = ("a", "b", "c")
) -> EvaluationFigures:
    """What the command hands over, with the figures of a random case."""
    records, detections = random_case(5) if case is None else case
    details = Details(records, names)
    hand_in(details, detections)
    metrics = (CocoMetric(records, names), VocMetric(records, names), ErrorBreakdown(records, names))
    threshold = details.threshold()
    return EvaluationFigures(
        summary=summary(names, **{metric.name: hand_in(metric, detections).compute() for metric in metrics}),
        class_names=names,
        curves=details.curves(),
        overall=details.overall(),
        threshold=threshold,
        confusion=details.confusion(threshold),
        calibration=details.calibration(),
        sizes=[SizeRow("all", 5, 0.9, 0.8, 0.7), SizeRow("small", 0, None, None, None)],
        default_boxes=8732,
        stages={"read and decode": 1.5, "network": 98.5},
        misses=[Image(JPEG, "a: not found at any score", "1.jpg")],
        miss_count=3,
        false_alarms=[Image(JPEG, "b 0.91: nothing is there", "2.jpg")],
        false_alarm_count=4,
        worst=[Image(JPEG, "3.jpg", "5 mistakes")],
        config="name: demo\n",
        training_page="report.html",
        made="ssd 0",
    )


def summary(names: tuple[str, ...], **figures: Any) -> dict[str, Any]:
    return {
        "weights": "runs/demo/best.safetensors",
        "data": "cells",
        "split": "val",
        "images": 12,
        "annotation_hash": "0123456789abcdef",
        **figures,
        "classes_missing": [],
        "classes_unused": [],
        "detections_dropped": 0,
        "bad_objects_left_out": 0,
        "detector": "<Detector: SSD300 vgg16, 3 classes, torch fp32 on cpu>",
        "postprocessing": {"score_threshold": 0.01, "top_k": 400},
        "seconds": 4.0,
        "images_per_second": 3.0,
        "versions": {"torch": "2"},
        "python": "3.11",
        "platform": "test",
        "git_commit": None,
    }


def train_rows(epochs: int = 3, steps: int = 40, every: int = 10) -> list[dict[str, Any]]:
    """Rows of train.jsonl."""
    generator = np.random.default_rng(0)
    return [
        {
            "step": step,
            "epoch": (step - 1) // steps + 1,
            "loss": 5 / step**0.5 + float(generator.random()) / 10,
            "loss_box": 2 / step**0.5,
            "loss_confidence": 3 / step**0.5,
            "positives": 50.0,
            "lr": 0.01,
            "missed_best_box": step,
            "images_per_second": 20.0,
        }
        for step in range(every, epochs * steps + 1, every)
    ]


def val_rows(epochs: int = 3, steps: int = 40) -> list[dict[str, Any]]:
    """Rows of val.jsonl."""
    figures = {"AP50": 0.6, "AP75": 0.3, "APs": None, "APm": 0.2, "APl": 0.5, "loss_total": 2.0, "loss_box": 1.0}
    return [
        {"step": epoch * steps, "epoch": epoch, "AP": epoch / 10, **figures, "loss_confidence": 1.0}
        for epoch in range(1, epochs + 1)
    ]
