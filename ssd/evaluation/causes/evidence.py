"""What the network says about each annotated object, before suppression: read during an evaluation."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssd.boxes import iou
from ssd.errors import ArgumentError
from ssd.evaluation.metrics.error_breakdown import FOREGROUND
from ssd.inference.detector import Detector
from ssd.multibox.best_overlaps import best_overlaps
from ssd.multibox.coder import Variances, decode
from ssd.settings import Postprocessing
from ssd.structures import BatchDetections, Predictions, Record
from ssd.tiles import has_tiles

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """The objects of one image, as the network sees them; "near" is a decoded box with an IoU of 0.5 or more.

    A box that overlaps another object of the class more is that one's.
    """

    sides: Float[np.ndarray, "N 2"]  # width and height in pixels of the network's input
    default_overlaps: Float[np.ndarray, "N"]  # best IoU with a default box
    scores: Float[np.ndarray, "N"]  # best score of the object's class among the boxes near it; 0 without one
    boxes: Float[np.ndarray, "N 4"]  # the box with that score, in pixels of the image; zeros without one
    any_scores: Float[np.ndarray, "N"]  # best score of any class among the boxes near it
    known: Bool[np.ndarray, "N"]  # whether the detector has the object's class


def near_boxes(
    predictions: Predictions,
    default_boxes: Float[Tensor, "K 4"],
    variances: Variances,
    boxes: Float[Tensor, "N 4"],
    labels: Int[np.ndarray, "N"],
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N 4"], Float[np.ndarray, "N"]]:
    """Best own score, the box that has it, and the best score of any class, from the predictions for one image.

    `boxes` are fractions of the image, as the returned ones; `labels` are the detector's, -1 for a class it lacks.
    """
    scores = predictions.logits[0].float().softmax(dim=-1)[:, 1:]
    decoded = decode(predictions.offsets[0].float(), default_boxes, variances).clamp(0, 1)
    own, own_boxes, best = np.zeros(len(labels)), np.zeros((len(labels), 4)), np.zeros(len(labels))
    overlaps = iou(boxes, decoded)
    for row in range(len(labels)):
        rivals = torch.from_numpy(labels == labels[row])
        near = (overlaps[row] >= FOREGROUND) & (overlaps[row] >= overlaps[rivals].amax(dim=0))
        if not bool(near.any()):
            continue
        here = scores[near]
        best[row] = float(here.max())
        if labels[row] >= 0:
            place = int(here[:, labels[row]].argmax())
            own[row], own_boxes[row] = float(here[place, labels[row]]), decoded[near][place].numpy()
    return own, own_boxes, best


class EvidenceDetector:
    """A detector that keeps the evidence of every image it is evaluated on.

    `ssd.evaluation.evaluate.evaluate` hands it the images of `records` in their order.

    Raises:
        ArgumentError: an exported graph, which does not give the network's predictions.
    """

    def __init__(self, detector: Detector, records: Sequence[Record], class_names: Sequence[str]) -> None:
        self.detector, self.evidence = detector, list[Evidence]()
        if has_tiles(detector.settings.tiles):
            log.warning("trained on tiles, but searched here in whole images: small objects may count as missed")
        known = {name: label for label, name in enumerate(detector.class_names)}
        self._labels = np.array([known.get(name, -1) for name in class_names], np.int64)
        self._records = iter(records)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.detector.class_names

    def preprocess(self, images: Sequence[np.ndarray]) -> Any:
        """As the detector."""
        return self.detector.preprocess(images)

    def predict(self, images: Any) -> Any:
        """As the detector."""
        return self.detector.predict(images)

    def postprocess(self, predictions: Any, rules: Postprocessing | None = None) -> BatchDetections:
        """As the detector; the predictions are compared with the objects of these images."""
        if not isinstance(predictions, Predictions):
            problem = "an exported graph gives only its detections, not the scores of every default box"
            raise ArgumentError(problem, place=self.detector.backend, remedy="Name the weights it was exported from.")
        for image in range(len(predictions.logits)):
            part = slice(image, image + 1)
            one = Predictions(predictions.offsets[part].cpu(), predictions.logits[part].cpu())
            self.evidence.append(self._of_image(one, next(self._records)))
        return self.detector.postprocess(predictions, rules)

    def _of_image(self, predictions: Predictions, record: Record) -> Evidence:
        settings = self.detector.settings
        size = np.array([record.width, record.height] * 2, np.float32)
        boxes = torch.from_numpy(record.boxes / size)
        labels = self._labels[record.labels]
        own, own_boxes, best = near_boxes(
            predictions, self.detector.default_boxes, settings.boxes.variances, boxes, labels
        )
        return Evidence(
            sides=(boxes[:, 2:] - boxes[:, :2]).numpy() * settings.network.input_size,
            default_overlaps=best_overlaps(boxes, settings.boxes).numpy(),
            scores=own,
            boxes=own_boxes * size,
            any_scores=best,
            known=labels >= 0,
        )
