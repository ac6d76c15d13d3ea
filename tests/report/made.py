"""An evaluation with a tiny network, and a run's rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ssd.data.dataset import Dataset
from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.metrics.error_breakdown import ErrorBreakdown
from ssd.evaluation.metrics.voc import VocMetric
from ssd.evaluation.page.page import evaluation_page
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.model.factory import from_settings, settings_for
from ssd.report.blocks import Page
from ssd.structures import ImageDetections, Record
from tests.evaluation.metrics.made import hand_in, random_case

JPEG = b"\xff\xd8\xff\xd9"


@dataclass(frozen=True)
class Evaluated:
    """What a page of an evaluation is made of."""

    summary: dict[str, Any]
    details: Details
    detector: Detector
    dataset: Dataset

    def page(self, **options: Any) -> Page:
        return evaluation_page(self.summary, self.details, self.detector, self.dataset, **options)


def evaluation(
    case: tuple[list[Record], dict[int | str, ImageDetections]] | None = None, names: tuple[str, ...] = ("a", "b", "c")
) -> Evaluated:
    """The figures of a random case; the images are grey."""
    records, detections = random_case(5) if case is None else case
    details = Details(records, names)
    hand_in(details, detections)
    metrics = (CocoMetric(records, names), VocMetric(records, names), ErrorBreakdown(records, names))
    settings = settings_for(names, input_size=64, width=0.125)
    return Evaluated(
        summary(names, **{metric.name: hand_in(metric, detections).compute() for metric in metrics}),
        details,
        Detector(NetworkPipeline(from_settings(settings), settings, device="cpu", precision="fp32", backend="torch")),
        Dataset(tuple(records), names, tuple(range(1, len(names) + 1)), "cells", "val", read=_grey),
    )


def _grey(record: Record) -> np.ndarray:
    return np.full((record.height, record.width, 3), 128, np.uint8)


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
