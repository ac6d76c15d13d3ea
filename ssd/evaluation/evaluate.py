"""Evaluates a detector on a data set in one pass over the images, with one process or many."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from ssd.errors import SSDError
from ssd.evaluation.class_map import ClassMap, match_classes
from ssd.evaluation.metrics.accumulator import Metric
from ssd.evaluation.metrics.sanity_check import sanity_check
from ssd.evaluation.searching import EvaluatedData, EvaluatedDetector, Loss, LossSums, Plan, Searched, Work, search_all
from ssd.settings import Postprocessing
from ssd.structures import ImageDetections
from ssd.system import distributed
from ssd.system.threads import usable_cores

_IMAGES_AHEAD = 128  # whole images in the threads' batches: 5 GB of 12 megapixels


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    metrics: dict[str, Any]  # figures of the first metric
    by_metric: dict[str, dict[str, Any]]  # figures of all metrics, by name
    loss: dict[str, float] | None  # its parts, over the matched default boxes of all images
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
    losses: LossSums = field(default_factory=LossSums)
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
    plan: Plan | None = None,
    loss: Loss | None = None,
    stop: Callable[[], bool] | None = None,
    progress: bool = True,
) -> Evaluation | None:
    """Detect objects in every image, by `rules` or by the detector's own, and pass the detections to the metrics.

    Each of n processes takes every nth image; the detections are gathered by image id, rank 0 computes the figures and
    all get them. `workers` threads decode images; None: 2 for a detector on the CPU, which needs its cores itself, else
    one less than there are cores, 16 at most, fewer for large batches. `loss` is called with the predictions and the
    objects of each batch of images or windows, with the detector's labels. `plan` gives the windows of an image of
    (height, width), the whole image first, as `ssd.tiles.windows` does: each is searched like an image, and what is
    found is merged by `rules`, which are needed then; None: the whole images alone.

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
    threads = _threads(getattr(detector, "device", "cpu"), batch_size) if workers is None else workers
    work = Work(detector, dataset, classes, rules, loss, plan, batch_size)
    searched = contextlib.closing(search_all(work, indices, threads))
    with torch.inference_mode(), bar, searched as batches:
        share = _work_through(batches, len(indices), classes, bar.update, stop)
    shares = distributed.gather_objects(share)
    _raise_first(item.error for item in shares)
    if any(item.stopped for item in shares):
        return None
    figures = _figures(metrics, shares)
    images = len(dataset.records)
    losses = LossSums()
    for item in shares:
        losses.add(item.losses)
    return Evaluation(
        metrics=figures[metric.name],
        by_metric=figures,
        loss=losses.divided() if loss is not None else None,
        images=images,
        seconds=max(item.seconds for item in shares),
        dropped=sum(item.dropped for item in shares),
        classes=classes,
        rules=rules,
    )


def _threads(device: str, batch_size: int) -> int:
    """The default number of decoding threads for a detector on `device`; each holds a batch of whole images."""
    return 2 if device == "cpu" else max(2, min(16, usable_cores() - 1, _IMAGES_AHEAD // batch_size))


def _work_through(
    batches: Iterator[Searched],
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
            share.losses.add(batch.losses)
            _keep(share, batch, classes)
            advance(len(batch.samples))
    except SSDError as error:
        share.error = error
    share.seconds = time.perf_counter() - start
    return share


def _keep(share: _Share, batch: Searched, classes: ClassMap) -> None:
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
