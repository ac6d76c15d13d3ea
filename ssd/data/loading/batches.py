"""Makes a batch from indices, inside a data worker: load, check, transform, collate."""

import dataclasses
import functools
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ssd.errors import AnnotationError, DataWorkerError, ImageDecodeError, SSDError
from ssd.structures import Batch, Record, Sample, Targets

BadImages = Literal["error", "skip"]
TrainKey = tuple[int, tuple[int, ...]]  # epoch, indices: a worker outlives the epoch it was started in

Made = TypeVar("Made")

_SUBSTITUTES = 20  # how many neighbours of a bad image are tried


@runtime_checkable
class Source(Protocol):
    """The interface of a data set for the loaders; `ssd.data.dataset.Dataset` has it."""

    @property
    def records(self) -> Sequence[Record]:
        """The annotated images."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names; labels are indices into them."""

    def __len__(self) -> int: ...

    def load(self, index: int, shrink: int = 1) -> Sample:
        """Decode one image, at 1/`shrink` of its size if that is faster."""


class Plan(Protocol):
    """The random draw of a transform."""

    @property
    def shrink(self) -> int:
        """How many times smaller the image may be decoded."""


@runtime_checkable
class Transform(Protocol):
    """Prepares a sample for the network, as `ssd.data.augment.transforms.TrainTransform` does."""

    def plan(
        self,
        shape: tuple[int, int],
        boxes: Float[np.ndarray, "N 4"],
        crowd: Bool[np.ndarray, "N"],
        seed: Sequence[int],
    ) -> Any:
        """Draw for an image of `shape` (height, width) with these objects; gives a `Plan`."""

    def __call__(self, sample: Sample, seed: Sequence[int], plan: Any = None) -> Sample:
        """Apply the plan."""


@dataclass(frozen=True)
class WorkerResult:
    """The result of a worker: a batch and the images left out of it, or the error that prevented it."""

    batch: Batch | None = None
    bad: tuple[ImageDecodeError, ...] = ()
    error: SSDError | None = None

    def pin_memory(self) -> "WorkerResult":
        """Copy the result to page-locked memory, for asynchronous copies to a GPU; the DataLoader calls this."""
        if self.batch is None:
            return self
        targets = self.batch.targets
        given = {field.name: getattr(targets, field.name) for field in dataclasses.fields(targets)}
        pinned = {name: tensor.pin_memory() for name, tensor in given.items() if tensor is not None}
        batch = dataclasses.replace(self.batch, images=self.batch.images.pin_memory(), targets=Targets(**pinned))
        return dataclasses.replace(self, batch=batch)

    def open(self) -> Batch:
        """Return the batch, or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.batch is not None
        return self.batch


@dataclass(frozen=True)
class TrainBatches(TorchDataset[WorkerResult]):
    """Augmented batches with uint8 images; `ssd.images.preprocess.normalise` turns them into floats on the device.

    An index from the number of images on is a repetition (`balance.epoch_order`): the same image with other draws.
    """

    source: Source
    transform: Transform
    seed: int
    bad_images: BadImages = "error"

    def __getitem__(self, key: TrainKey) -> WorkerResult:
        epoch, indices = key
        bad: list[ImageDecodeError] = []
        try:
            samples = [self._prepare(index, (self.seed, epoch, index), bad) for index in indices]
        except SSDError as error:
            return WorkerResult(error=error)
        # The memory order stays height x width x channel, PyTorch's channels-last, which convolutions prefer.
        images = torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2)
        return WorkerResult(collate(images, samples), tuple(bad))

    def _prepare(self, index: int, seed: Sequence[int], bad: list[ImageDecodeError]) -> Sample:
        """Load and augment an image; under "skip" the next one that can be decoded replaces a bad one."""
        for shift in range(_SUBSTITUTES):
            chosen = (index + shift) % len(self.source)
            record = self.source.records[chosen]
            size = record.height, record.width
            draw = functools.partial(self.transform.plan, size, record.boxes, record.crowd, seed)
            plan: Plan = _guarded(draw, self.source, chosen)
            try:
                sample = load_checked(self.source, chosen, plan.shrink)
            except ImageDecodeError as error:
                if self.bad_images == "error":
                    raise
                bad.append(error)
                continue
            return _guarded(functools.partial(self.transform, sample, seed, plan), self.source, chosen)
        raise bad[-1]


def load_checked(source: Source, index: int, shrink: int = 1) -> Sample:
    """Decode one image, and check that its boxes have an area and its labels a class, as the loss requires.

    Raises:
        AnnotationError: names the image, the object and its values.
    """
    sample = _guarded(functools.partial(source.load, index, shrink), source, index)
    boxes, classes = sample.boxes, len(source.class_names)
    bad_boxes = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    if bad_boxes.any():
        row = int(bad_boxes.argmax())
        problem = f"object {row} has the box {boxes[row].tolist()}, which has no area"
        raise AnnotationError(problem, place=sample.path, remedy="Correct it, or set data.bad_objects=drop.")
    bad_labels = (sample.labels < 0) | (sample.labels >= classes)
    if bad_labels.any():
        row = int(bad_labels.argmax())
        problem = f"object {row} has the label {sample.labels[row]}, but there are {classes} classes"
        raise AnnotationError(problem, place=sample.path, remedy=f"Labels go from 0 to {classes - 1}.")
    return sample


def collate(images: Tensor, samples: Sequence[Sample]) -> Batch:
    """Combine images and the objects of their samples into one batch; boxes become fractions of each image."""
    shape = len(samples), max((len(sample.boxes) for sample in samples), default=0)
    targets = Targets(
        boxes=torch.zeros(*shape, 4),
        labels=torch.zeros(shape, dtype=torch.int64),
        crowd=torch.zeros(shape, dtype=torch.bool),
        valid=torch.zeros(shape, dtype=torch.bool),
        complete=complete_columns([sample.complete for sample in samples]),
    )
    for row, sample in enumerate(samples):
        count = len(sample.boxes)
        targets.boxes[row, :count] = torch.from_numpy(_fractions(sample))
        targets.labels[row, :count] = torch.from_numpy(sample.labels.astype(np.int64))
        targets.crowd[row, :count] = torch.from_numpy(sample.crowd)
        targets.valid[row, :count] = True
    ids, paths = tuple(sample.image_id for sample in samples), tuple(sample.path for sample in samples)
    return Batch(images, targets, ids, paths)


def complete_columns(rows: Sequence[Bool[np.ndarray, "n"] | None]) -> Bool[Tensor, "B C"] | None:
    """`Targets.complete` of images that are complete for these classes; None where nothing is said of them."""
    given = [torch.from_numpy(row) for row in rows if row is not None]
    assert len(given) in (0, len(rows))
    return F.pad(torch.stack(given), (1, 0), value=True) if given else None


def _fractions(sample: Sample) -> Float32[np.ndarray, "N 4"]:
    height, width = sample.image.shape[:2]
    return np.asarray(sample.boxes / np.array([width, height, width, height], np.float32), np.float32)


def _guarded(step: Callable[[], Made], source: Source, index: int) -> Made:
    """Run one step on one image; every exception becomes an error that names the image."""
    try:
        return step()
    except SSDError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {last.filename}:{last.lineno}: {error}"
        remedy = "Set data.workers=0 for the whole traceback."
        problem = f"image {index} could not be prepared: {where}"
        raise DataWorkerError(problem, place=source.records[index].path, remedy=remedy) from error
