"""The data structures that modules exchange: samples, targets, predictions and detections.

Letters in shapes: B images, K default boxes, N objects of one image, C classes with background first,
D detections kept, S input side. Boxes are `xyxy`; a name ends in `_cxcywh` where they are not.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Record:
    """One annotated image on disk, checked but not decoded. Boxes are pixels of the upright image."""

    path: str
    image_id: int | str
    width: int
    height: int
    boxes: Float32[np.ndarray, "N 4"]
    labels: Int[np.ndarray, "N"]
    difficult: Bool[np.ndarray, "N"]
    crowd: Bool[np.ndarray, "N"]
    areas: Float32[np.ndarray, "N"]  # what COCO's small/medium/large go by: the mask's area where there is one


@dataclass(frozen=True)
class Sample:
    """One annotated image, decoded: uint8 RGB, boxes in pixels, labels from 0."""

    image: UInt8[np.ndarray, "H W 3"]
    boxes: Float32[np.ndarray, "N 4"]
    labels: Int[np.ndarray, "N"]
    difficult: Bool[np.ndarray, "N"]
    crowd: Bool[np.ndarray, "N"]
    path: str
    image_id: int | str
    shrink: int = 1  # the image was decoded at 1/shrink of the size in which the boxes are pixels
    complete: Bool[np.ndarray, "n"] | None = None  # the classes of which every object is annotated; None: all


@dataclass(frozen=True)
class Targets:
    """The objects of a batch, padded to the fullest image. `valid` marks the real rows.

    Padding rows have box 0 0 0 0 and label 0. `complete` marks the columns of the logits whose objects are all
    annotated in an image: background, and the classes that its data folder is complete for; None: all of every image.
    """

    boxes: Float[Tensor, "B N 4"]
    labels: Int[Tensor, "B N"]
    crowd: Bool[Tensor, "B N"]
    valid: Bool[Tensor, "B N"]
    complete: Bool[Tensor, "B C"] | None = None

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Targets":
        """Move every tensor to `device`."""
        return Targets(
            self.boxes.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
            self.crowd.to(device, non_blocking=non_blocking),
            self.valid.to(device, non_blocking=non_blocking),
            None if self.complete is None else self.complete.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True)
class Batch:
    """Images ready for the network, with what is needed to score and to name them."""

    images: Float[Tensor, "B 3 S S"] | UInt8[Tensor, "B 3 S S"]
    targets: Targets
    ids: tuple[int | str, ...]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Predictions:
    """The network's outputs for every default box; the same in training and in evaluation."""

    offsets: Float[Tensor, "B K 4"]
    logits: Float[Tensor, "B K C"]  # column 0 is background


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one image in NumPy, best first; boxes are fractions of the image until `in_pixels`."""

    boxes: Float[np.ndarray, "D 4"]
    scores: Float[np.ndarray, "D"]
    labels: Int[np.ndarray, "D"]

    def __len__(self) -> int:
        return len(self.scores)

    def subset(self, rows: Bool[np.ndarray, "D"] | Int[np.ndarray, "_"]) -> "ImageDetections":
        """Select detections by a mask or by indices."""
        return ImageDetections(self.boxes[rows], self.scores[rows], self.labels[rows])

    def in_pixels(self, height: int, width: int) -> "ImageDetections":
        """Fractions to pixels of an image of this size, and not beyond its border; NaN stays NaN."""
        boxes = self.boxes.clip(0, 1) * np.array([width, height, width, height], np.float32)
        return ImageDetections(boxes, self.scores, self.labels)


@dataclass(frozen=True)
class BatchDetections:
    """Detections of a batch at a fixed shape, best first. Rows from `counts[b]` on are padding (score 0)."""

    boxes: Float[Tensor, "B D 4"]  # fractions of the image
    scores: Float[Tensor, "B D"]
    labels: Int[Tensor, "B D"]  # from 0, without background
    counts: Int[Tensor, "B"]

    def to_images(self) -> list[ImageDetections]:
        """Each image's detections on the host, without the padding."""
        boxes, scores, labels = (column.cpu().numpy() for column in (self.boxes, self.scores, self.labels))
        scores, labels = scores.astype(np.float32), labels.astype(np.int64)
        return [
            ImageDetections(boxes[image, :count], scores[image, :count], labels[image, :count])
            for image, count in enumerate(self.counts.tolist())
        ]
