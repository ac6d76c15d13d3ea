"""The detections in every image of a data set, batch by batch; of a tiled image, in its windows and then merged."""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ssd.data.tiled import sample_in
from ssd.evaluation.class_map import ClassMap, make_targets
from ssd.inference.tiling import merge
from ssd.settings import Postprocessing
from ssd.structures import BatchDetections, ImageDetections, Predictions, Record, Sample, Targets
from ssd.system.threads import map_ahead, map_at_once
from ssd.tiles import Window


@dataclass
class LossSums:
    """The parts of a loss summed over images, and the matched default boxes that they are divided by in the end."""

    parts: dict[str, float] = field(default_factory=dict)
    positives: int = 0

    def add(self, other: "LossSums") -> None:
        """Add the sums of other images."""
        self.positives += other.positives
        for name, value in other.parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value

    def divided(self) -> dict[str, float]:
        """The parts of the loss; without a matched default box, their sums."""
        return {name: value / max(1, self.positives) for name, value in self.parts.items()}


Loss = Callable[[Predictions, Targets], LossSums]
Plan = Callable[[int, int], Sequence[Window]]
"""The windows of an image of (height, width), the whole image first."""


@runtime_checkable
class EvaluatedDetector(Protocol):
    """The interface of a detector in an evaluation; `ssd.inference.detector.Detector` has it.

    The values passed between its methods may have any type, but a loss requires `Predictions`.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""

    def preprocess(self, images: Sequence[np.ndarray]) -> Any:
        """Turn uint8 RGB images into the network's input."""

    def predict(self, images: Any) -> Any:
        """Run the network."""

    def postprocess(self, predictions: Any, rules: Postprocessing | None = None) -> BatchDetections:
        """Select the detections, by `rules` or by the detector's own."""


@runtime_checkable
class EvaluatedData(Protocol):
    """The interface of a data set in an evaluation; `ssd.data.Dataset` has it."""

    @property
    def records(self) -> Sequence[Record]:
        """The annotated images."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""

    def load(self, index: int) -> Sample:
        """Decode one image."""


@dataclass(frozen=True)
class Searched:
    """A batch of images with what was found in them, and their loss."""

    samples: list[Sample]
    found: list[ImageDetections]
    losses: LossSums


@dataclass(frozen=True)
class Prepared:
    """A batch of images, the windows of each where they are tiled, and all that is searched, in batches."""

    samples: list[Sample]
    plans: list[Sequence[Window]]  # empty: the images are searched as they are
    batches: list[tuple[list[Sample], Any]]  # images or windows with their objects, and the network's input


@dataclass(frozen=True)
class Work:
    """What is done with each batch, in two steps."""

    detector: EvaluatedDetector
    dataset: EvaluatedData
    classes: ClassMap
    rules: Postprocessing | None
    loss: Loss | None
    plan: Plan | None
    batch_size: int

    def prepare(self, chosen: Sequence[int]) -> Prepared:
        """Decode and resize images, or their windows."""
        samples = [self.dataset.load(index) for index in chosen]
        if self.plan is None:
            return Prepared(samples, [], [(samples, self._input(samples))])
        plans = [self.plan(*sample.image.shape[:2]) for sample in samples]
        views = [_view(sample, window) for sample, plan in zip(samples, plans, strict=True) for window in plan]
        parts = [views[first : first + self.batch_size] for first in range(0, len(views), self.batch_size)]
        return Prepared(samples, plans, [(part, self._input(part)) for part in parts])

    def search(self, prepared: Prepared) -> Searched:
        """Run the network, the loss and the post-processing, and merge what windows of one image have."""
        found: list[ImageDetections] = []
        losses = LossSums()
        for part, inputs in prepared.batches:
            predictions = self.detector.predict(inputs)
            if self.loss is not None:
                targets = make_targets(part, self.classes).to(predictions.logits.device)
                losses.add(self.loss(predictions, targets))
            found += self.detector.postprocess(predictions, self.rules).to_images()
        return Searched(prepared.samples, self._merged(prepared.plans, found) if prepared.plans else found, losses)

    def for_throughput(self) -> "tuple[Work, int]":
        """The work of a detector made for many images, and how many threads should do it at once; see `Detector`.

        A loss is of a network in training, whose batches stay as they are.
        """
        many = getattr(self.detector, "for_throughput", None)
        if many is None or self.loss is not None:
            return self, 1
        detector, callers = many()
        # Each thread takes the windows of its image one by one, for the memory.
        return (self, 1) if callers == 1 else (dataclasses.replace(self, detector=detector, batch_size=1), callers)

    def _input(self, samples: Sequence[Sample]) -> Any:
        return self.detector.preprocess([sample.image for sample in samples])

    def _merged(self, plans: Sequence[Sequence[Window]], found: list[ImageDetections]) -> list[ImageDetections]:
        assert self.rules is not None, "windows are merged by the rules that they are searched by"
        images = []
        for plan in plans:
            ours, found = found[: len(plan)], found[len(plan) :]
            images.append(merge(plan, ours, self.rules) if len(plan) > 1 else ours[0])
        return images


def search_all(work: Work, indices: Sequence[int], workers: int) -> Generator[Searched, None, None]:
    """Decode and resize in threads, a few batches ahead of the network; OpenCV releases the GIL.

    Images that are tiled come one at a time, since each has several windows.
    """
    size = work.batch_size
    many, callers = work.for_throughput() if min(workers, size - 1, len(indices) - 1) > 0 else (work, 1)
    if callers > 1:
        threads = min(callers, size - 1, len(indices))  # one more image is held
        yield from map_at_once(lambda index: many.search(many.prepare([index])), indices, threads=threads)
        return
    step = size if work.plan is None else 1
    groups = [indices[first : first + step] for first in range(0, len(indices), step)]
    if workers == 0:
        yield from map(work.search, map(work.prepare, groups))
        return
    with contextlib.closing(map_ahead(work.prepare, groups, threads=workers)) as prepared:
        yield from map(work.search, prepared)


def _view(sample: Sample, window: Window) -> Sample:
    height, width = sample.image.shape[:2]
    part = sample.image[window.top : window.bottom, window.left : window.right]
    return sample_in(sample, window, height, width, part)
