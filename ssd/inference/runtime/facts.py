"""Exported graphs: images in, detections out. The facts that a detector needs besides travel in the file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from ssd.errors import ArgumentError, CheckpointError
from ssd.images.resize import resize_8bit
from ssd.settings import Settings
from ssd.structures import BatchDetections

# What computes a graph, by the suffix of its file.
GRAPH_ENGINES = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}
_VERSION = 1
_NOT_OURS = "Export one: ssd export WEIGHTS --format onnx"


@dataclass(frozen=True)
class Facts:
    """Facts about an exported graph, which the export writes as text into the file.

    `settings.postprocessing` is what happens inside the graph. `precision`: fp32, bf16 (the numbers are stored in 16
    bits) or int8 (computed in 8 bits).
    """

    settings: Settings
    precision: str = "fp32"
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def side(self) -> int | None:
        """Side of the images it takes; None: any size, the graph resizes."""
        rule = self.settings.preprocessing.resize
        return None if rule == "float" else self.settings.network.input_size

    def to_text(self) -> str:
        """JSON."""
        side = self.side or "any"
        rules = {"uint8": "OpenCV bilinear", "antialias": "PIL bilinear", "area": "OpenCV area, then bilinear to grow"}
        how = f"; resized in 8 bits, {rules[self.settings.preprocessing.resize]}" if self.side else ""
        facts = {
            "version": _VERSION,
            "input": f"images: uint8 RGB, batch x {side} x {side} x 3{how}",
            "outputs": "boxes x1 y1 x2 y2 as fractions, scores, labels from 0, counts: rows from counts on are padding",
            "settings": self.settings.to_dict(),
            "precision": self.precision,
            "versions": self.versions,
        }
        return json.dumps(facts, ensure_ascii=True, allow_nan=False)

    @staticmethod
    def from_text(text: str | None, place: Path) -> "Facts":
        """Read them back.

        Raises:
            CheckpointError: there are none, they are damaged, or of a newer version.
        """
        if not text:
            raise CheckpointError("was not exported by this package", place=place, remedy=_NOT_OURS)
        try:
            raw = json.loads(text)
            version = raw["version"]
            settings, precision, versions = raw["settings"], str(raw["precision"]), dict(raw["versions"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"its facts are damaged ({error!r})", place=place, remedy="Export again.") from None
        if version != _VERSION:
            problem = f"was exported in version {version!r}, this package reads {_VERSION}"
            raise CheckpointError(problem, place=place, remedy="Update the package, or export again.")
        return Facts(Settings.from_dict(settings, str(place)), precision, versions)


@runtime_checkable
class Graph(Protocol):
    """An exported graph made ready on one machine."""

    backend: str
    precision: str
    device: str
    facts: Facts

    def find(self, images: UInt8[np.ndarray, "B H W 3"]) -> BatchDetections:
        """Detections by the rules inside the graph, on the CPU."""
        ...


def is_graph(path: str | Path) -> bool:
    """Whether a file's name says that it is an exported graph."""
    return Path(path).suffix.lower() in GRAPH_ENGINES


def stack(images: Sequence[np.ndarray], facts: Facts) -> list[UInt8[np.ndarray, "B H W 3"]]:
    """Images as a graph takes them: resized, or as they are, neighbours of one size together."""
    if facts.side is not None:
        images = [resize_8bit(image, facts.side, facts.settings.preprocessing.resize) for image in images]
    return [np.stack(list(group)) for _, group in groupby(images, key=lambda image: image.shape)]


def join(parts: Sequence[BatchDetections]) -> BatchDetections:
    """One after the other."""
    columns = zip(*((part.boxes, part.scores, part.labels, part.counts) for part in parts), strict=True)
    return BatchDetections(*(torch.cat(column) for column in columns))


def narrow(found: BatchDetections, score_threshold: float, max_detections: int) -> BatchDetections:
    """Keep what a higher threshold and a smaller number would have kept: suppression looks at better boxes alone."""
    size = min(max_detections, found.scores.shape[1])
    scores, boxes, labels = found.scores[:, :size], found.boxes[:, :size], found.labels[:, :size]
    keep = scores > score_threshold
    counts = keep.sum(dim=1)
    return BatchDetections(boxes * keep[..., None], scores * keep, labels * keep, counts)


def as_found(outputs: Sequence[Any]) -> BatchDetections:
    """The four outputs of a graph, by whatever engine, as tensors."""
    boxes, scores, labels, counts = (torch.as_tensor(output) for output in outputs)
    return BatchDetections(boxes, scores, labels.long(), counts.long())


def refuse_device(device: str, wanted: Sequence[str], engine: str) -> None:
    """Raise `ArgumentError` unless the engine can compute there."""
    if device not in wanted:
        remedy = f"Use {' or '.join(wanted)}."
        raise ArgumentError(f"{engine} does not run on {device!r} here", place="device", remedy=remedy)


def refuse_precision(precision: str, wanted: Sequence[str], path: Path) -> None:
    """Raise `ArgumentError` unless the file can be computed so."""
    if precision not in wanted:
        problem = f"{path.name} is not for {precision!r}"
        raise ArgumentError(problem, place="precision", remedy=f"Use {', '.join(wanted)}.")
