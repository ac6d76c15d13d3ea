"""Evaluates a detector on a data set in one pass over the images, with one process or many."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from tqdm import tqdm

from ssd.errors import SSDError
from ssd.evaluation.class_map import ClassMap, make_targets, match_classes
from ssd.evaluation.metrics.accumulator import Metric
from ssd.evaluation.metrics.sanity_check import sanity_check
from ssd.settings import Postprocessing
from ssd.structures import BatchDetections, ImageDetections, Predictions, Record, Sample, Targets
from ssd.system import distributed
from ssd.system.threads import map_ahead, usable_cores

Loss = Callable[[Predictions, Targets], dict[str, float]]


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
class Evaluation:
    """The result of an evaluation."""

    metrics: dict[str, Any]  # figures of the first metric
    by_metric: dict[str, dict[str, Any]]  # figures of all metrics, by name
    loss: dict[str, float] | None  # mean of each part over the images
    images: int
    seconds: float  # from the first image to the last detection, on the slowest process
    dropped: int  # detections of classes that the data does not have
    classes: ClassMap
    rules: Postprocessing | None  # of the post-processing; None: the detector's own

    @property
    def images_per_second(self) -> float:
        """Images per second through decoding, network and post-processing, without the metrics."""
        return self.images / max(self.seconds, 1e-9)


@dataclass
class _Share:
    """The results of one process; they are sent to the others even after an error, so that none waits forever."""

    found: list[tuple[int | str, ImageDetections]] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)  # sums over images
    dropped: int = 0
    seconds: float = 0.0
    stopped: bool = False
    error: SSDError | None = None


def evaluate(
    detector: EvaluatedDetector,
    dataset: EvaluatedData,
    metric: Metric,
    *more: Metric,
    rules: Postprocessing | None = None,
    batch_size: int = 8,
    workers: int | None = None,
    loss: Loss | None = None,
    stop: Callable[[], bool] | None = None,
    progress: bool = True,
) -> Evaluation | None:
    """Detect objects in every image, by `rules` or by the detector's own, and pass the detections to the metrics.

    Each of n processes takes every nth image; the detections are gathered by image id, rank 0 computes the figures and
    all get them. `workers` threads decode images; None: 2 for a detector on the CPU, which needs its cores itself, else
    one less than there are cores, 16 at most. `loss` is called with the predictions and the objects of each batch, with
    the detector's labels.
    Returns None if `stop` returned true on any process, since figures of a part of the data would mislead.

    Raises:
        EvaluationError: no class in common, detections that are not finite, or a metric that fails its sanity check.
    """
    classes = match_classes(detector.class_names, dataset.class_names)
    metrics = (metric, *more)
    for each in metrics:
        sanity_check(each)
    indices = range(distributed.rank(), len(dataset.records), distributed.world_size())
    bar = tqdm(total=len(indices), desc="evaluating", unit="img", leave=False, disable=not progress)
    threads = _threads(getattr(detector, "device", "cpu")) if workers is None else workers
    work = _Work(detector, dataset, classes, rules, loss)
    searched = contextlib.closing(_searched(work, indices, batch_size, threads))
    with torch.inference_mode(), bar, searched as batches:
        share = _work_through(batches, len(indices), classes, bar.update, stop)
    shares = distributed.gather_objects(share)
    _raise_first(item.error for item in shares)
    if any(item.stopped for item in shares):
        return None
    figures = _figures(metrics, shares)
    images = len(dataset.records)
    parts = shares[0].losses
    losses = {part: sum(item.losses.get(part, 0.0) for item in shares) / images for part in parts}
    return Evaluation(
        metrics=figures[metric.name],
        by_metric=figures,
        loss=losses if loss is not None else None,
        images=images,
        seconds=max(item.seconds for item in shares),
        dropped=sum(item.dropped for item in shares),
        classes=classes,
        rules=rules,
    )


def _threads(device: str) -> int:
    """The default number of decoding threads for a detector on `device`."""
    return 2 if device == "cpu" else max(2, min(16, usable_cores() - 1))


@dataclass(frozen=True)
class _Searched:
    """A batch of images with what was found in them, and the parts of the loss as means over them."""

    samples: list[Sample]
    found: list[ImageDetections]
    losses: dict[str, float]


@dataclass(frozen=True)
class _Work:
    """What is done with each batch, in two steps."""

    detector: EvaluatedDetector
    dataset: EvaluatedData
    classes: ClassMap
    rules: Postprocessing | None
    loss: Loss | None

    def prepare(self, chosen: Sequence[int]) -> tuple[list[Sample], Any]:
        """Decode and resize images."""
        samples = [self.dataset.load(index) for index in chosen]
        return samples, self.detector.preprocess([sample.image for sample in samples])

    def search(self, prepared: tuple[list[Sample], Any]) -> _Searched:
        """Run the network, the loss and the post-processing."""
        samples, images = prepared
        predictions, losses = self.detector.predict(images), {}
        if self.loss is not None:
            losses = self.loss(predictions, make_targets(samples, self.classes).to(predictions.logits.device))
        return _Searched(samples, self.detector.postprocess(predictions, self.rules).to_images(), losses)

    def for_throughput(self) -> "tuple[_Work, int]":
        """The work of a detector made for many images, and how many it computes at once; see `Detector`.

        A loss is normalised over the objects of its batch, so that its batches stay as they are.
        """
        many = getattr(self.detector, "for_throughput", None)
        if many is None or self.loss is not None:
            return self, 1
        detector, at_once = many()
        return dataclasses.replace(self, detector=detector), at_once


def _searched(work: _Work, indices: Sequence[int], batch_size: int, workers: int) -> Generator[_Searched, None, None]:
    """Decode and resize in threads, a few batches ahead of the network; OpenCV releases the GIL."""
    many, at_once = work.for_throughput() if min(workers, batch_size - 1, len(indices) - 1) > 0 else (work, 1)
    if at_once > 1:  # one more than are computed, which is decoded or post-processed; `map_ahead` holds another
        threads = min(at_once + 1, batch_size - 1)
        yield from map_ahead(lambda index: many.search(many.prepare([index])), indices, threads=threads)
        return
    groups = [indices[first : first + batch_size] for first in range(0, len(indices), batch_size)]
    if workers == 0:
        yield from map(work.search, map(work.prepare, groups))
        return
    with contextlib.closing(map_ahead(work.prepare, groups, threads=workers)) as prepared:
        yield from map(work.search, prepared)


def _work_through(
    batches: Iterator[_Searched],
    images: int,
    classes: ClassMap,
    advance: Callable[[int], object],
    stop: Callable[[], bool] | None,
) -> _Share:
    """Collect the results of this process for its `images`; an error is part of them."""
    share, start = _Share(), time.perf_counter()
    try:
        while len(share.found) < images:
            if stop is not None and stop():
                share.stopped = True
                break
            batch = next(batches)
            for part, value in batch.losses.items():
                share.losses[part] = share.losses.get(part, 0.0) + value * len(batch.samples)
            _keep(share, batch, classes)
            advance(len(batch.samples))
    except SSDError as error:
        share.error = error
    share.seconds = time.perf_counter() - start
    return share


def _keep(share: _Share, batch: _Searched, classes: ClassMap) -> None:
    """Convert the detections of a batch to pixels and to the data's classes. The metrics refuse NaN.

    Detections of a class that the image's folder is not complete for are left out: the object may be there.
    """
    for sample, found in zip(batch.samples, batch.found, strict=True):
        labels = classes.to_data[found.labels]
        known = labels >= 0
        kept = known if sample.complete is None else known & sample.complete[labels]
        pixels = found.in_pixels(*sample.image.shape[:2])
        share.found.append((sample.image_id, dataclasses.replace(pixels, labels=labels).subset(kept)))
        share.dropped += int((~known).sum())


def _figures(metrics: Sequence[Metric], shares: Sequence[_Share]) -> dict[str, dict[str, Any]]:
    """Compute the figures on rank 0, and send them, or an error, to the others."""
    figures: dict[str, dict[str, Any]] = {}
    error: SSDError | None = None
    if distributed.rank() == 0:
        try:
            for metric in metrics:
                for share in shares:
                    for image in share.found:
                        metric.update(*image)
                figures[metric.name] = metric.compute()
        except SSDError as problem:
            error = problem
    answers = distributed.gather_objects((figures, error))
    _raise_first(error for _, error in answers)
    return answers[0][0]


def _raise_first(errors: Iterator[SSDError | None]) -> None:
    for error in errors:
        if error is not None:
            raise error
