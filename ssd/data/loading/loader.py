"""Batches for training and evaluation."""

import itertools
import logging
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from ssd.data.dataset import are_few_images
from ssd.data.loading.balance import epoch_length, repeat_factors
from ssd.data.loading.batches import BadImages, Source, TrainBatches, TrainKey, Transform
from ssd.data.loading.sampler import EpochSampler, steps_per_epoch
from ssd.data.loading.workers import BatchSampler, Workers
from ssd.errors import DatasetError, ImageDecodeError
from ssd.structures import Batch

_log = logging.getLogger(__name__)


class TrainLoader:
    """Augmented batches of each epoch, for one process. They depend on (seed, epoch, step), not on the workers.

    `batch_size` counts images over all processes. Images of classes that fewer than the share `balance` of all images
    have are repeated; 0 repeats none. `images` is the number of files where the records of `source` are tiles of them;
    None: each is a file. `pin_memory` puts batches into page-locked memory, for asynchronous copies to a GPU.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        timeout: float = 120.0,
        rank: int = 0,
        world_size: int = 1,
        bad_images: BadImages = "error",
        pin_memory: bool = False,
        balance: float = 0.0,
        images: int | None = None,
    ) -> None:
        self._batches = TrainBatches(source, transform, seed, bad_images)
        self._factors = repeat_factors(source.records, len(source.class_names), balance) if balance else None
        self._images = len(source) if images is None else images
        self.images_per_epoch = len(source) if self._factors is None else epoch_length(self._factors)
        self.steps_per_epoch = steps_per_epoch(self.images_per_epoch, batch_size, world_size)
        self.workers = workers
        self.bad_paths: set[str] = set()  # images that were left out so far, under bad_images="skip"
        self._share: dict[str, int] = {"batch_size": batch_size, "rank": rank, "world_size": world_size}
        self._keys: BatchSampler[TrainKey] = BatchSampler()
        self._workers = Workers(self._batches, self._keys, workers, timeout, pin_memory=pin_memory)

    def epoch(self, number: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from `start_step` on in a resumed run.

        Raises:
            DataWorkerError: a worker died, hung or met an unforeseen exception.
            SSDError: an image or its objects are bad; the message names the file.
        """
        length, seed = len(self._batches.source), self._batches.seed
        order = EpochSampler(
            length, seed=seed, epoch=number, start_step=start_step, factors=self._factors, **self._share
        )
        self._keys.now = zip(itertools.repeat(number), order)  # a list of them would take 400 bytes a batch
        for delivery in self._workers.deliveries():
            self._note(delivery.bad)
            yield delivery.open()

    def close(self) -> None:
        """End the workers; the loader cannot be used afterwards."""
        self._workers.close()

    def first_images(self, count: int) -> UInt8[Tensor, "B 3 S S"]:
        """Augmented images from the start of epoch 0, the same on every process; fewer if there are fewer."""
        length = len(self._batches.source)
        order = EpochSampler(length, seed=self._batches.seed, epoch=0, batch_size=min(count, length))
        delivery = self._batches[0, next(iter(order))]
        self._note(delivery.bad)
        images = delivery.open().images
        assert images.dtype == torch.uint8
        return images

    def _note(self, bad: Sequence[ImageDecodeError]) -> None:
        for error in bad:
            if error.place is None or error.place in self.bad_paths:
                continue
            self.bad_paths.add(error.place)
            _log.warning("%s Another image stands in for it (%d so far).", error, len(self.bad_paths))
        count, length = len(self.bad_paths), self._images
        if not are_few_images(count, length):
            names = ", ".join(sorted(self.bad_paths)[:10])
            remedy = "Repair or remove them; ssd check-data lists them all."
            raise DatasetError(f"{count} of {length} images cannot be decoded: {names}", remedy=remedy)
