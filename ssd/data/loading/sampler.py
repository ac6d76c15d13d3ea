"""The images of each batch, known in advance for every process, epoch and step."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from ssd.data.loading.balance import epoch_length, epoch_order
from ssd.errors import ConfigError


class EpochSampler:
    """The indices of this process's batches in one epoch, from `start_step` on.

    The order is a permutation that depends on (seed, epoch) alone, so it is the same on every process and for every
    number of processes. Step g trains on its entries from g * batch_size up to (g + 1) * batch_size; each process takes
    a contiguous share. The permutation is repeated at its end: every step has a full batch, every image is seen at
    least once, and all processes take the same number of steps.

    Numbers from the number of images on are repetitions, which `TrainBatches` augments with other draws: those at the
    end, and with repeat `factors` of the images those of `balance.epoch_order`.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        epoch: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        factors: Float[np.ndarray, "N"] | None = None,
    ) -> None:
        length = length if factors is None else epoch_length(factors)
        steps = steps_per_epoch(length, batch_size, world_size)
        if not 0 <= start_step <= steps:
            raise ConfigError(f"{start_step} is not a step of an epoch of {steps} steps", place="start_step")
        self.steps = range(start_step, steps)
        self._share = batch_size // world_size
        self._first = rank * self._share
        self._batch_size = batch_size
        self._order = _permutation(length, seed, epoch) if factors is None else epoch_order(factors, seed, epoch)
        images = length if factors is None else len(factors)
        self._beyond = images * (int(self._order.max()) // images + 1)  # above every number, and a multiple of theirs

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        for step in self.steps:
            start = step * self._batch_size + self._first
            places = np.arange(start, start + self._share)
            again = places // len(self._order) * self._beyond
            yield tuple((self._order[places % len(self._order)] + again).tolist())


def steps_per_epoch(length: int, batch_size: int, world_size: int = 1) -> int:
    """Number of batches in an epoch: enough for every image, the last one filled up.

    Raises:
        ConfigError: there are no images, or the batch cannot be divided evenly among the processes.
    """
    if length == 0:
        raise ConfigError("there are no images to train on", place="data.train")
    if batch_size < 1 or batch_size % world_size:
        problem = f"{batch_size} images cannot be shared out evenly over {world_size} processes"
        raise ConfigError(problem, place="train.batch_size", remedy=f"Use a multiple of {world_size}.")
    return -(-length // batch_size)


def _permutation(length: int, seed: int, epoch: int) -> Int[np.ndarray, "N"]:
    # The spawn key keeps this stream apart from the augmentations', which are seeded with (seed, epoch, index).
    return np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(1,))).permutation(length)
