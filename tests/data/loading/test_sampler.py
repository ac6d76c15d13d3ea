import numpy as np
import pytest

from ssd.data.loading.sampler import EpochSampler, steps_per_epoch
from ssd.errors import ConfigError


def batches(
    length: int = 10, batch_size: int = 4, epoch: int = 0, seed: int = 0, **share: int
) -> list[tuple[int, ...]]:
    return list(EpochSampler(length, seed=seed, epoch=epoch, batch_size=batch_size, **share))


def test_every_step_has_a_full_batch_and_every_image_is_seen() -> None:
    found = batches(10, 4)
    assert [len(batch) for batch in found] == [4, 4, 4]
    flat = [index for batch in found for index in batch]
    assert sorted(flat[:10]) == list(range(10))
    assert flat[10:] == [index + 10 for index in flat[:2]]  # the permutation begins again, as repetitions


def test_fewer_images_than_a_batch_holds_are_repeated() -> None:
    (batch,) = batches(3, 8)
    assert sorted(batch[:3]) == [0, 1, 2]
    assert batch == tuple(index + 3 * again for again in range(3) for index in batch[:3])[:8]
    assert steps_per_epoch(3, 8) == 1


def test_epochs_and_seeds_differ_and_repeat() -> None:
    assert batches() == batches()
    assert batches(epoch=1) != batches()
    assert batches(seed=1) != batches()
    # A resumed run starts a new process: the order must not depend on what was drawn before.
    np.random.default_rng(3).permutation(10)
    assert batches(epoch=1) == batches(epoch=1)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("length", [7, 16, 33])
def test_all_processes_together_train_on_the_same_batches(length: int, world_size: int) -> None:
    shares = [batches(length, 8, epoch=5, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    together = [sum(parts, ()) for parts in zip(*shares, strict=True)]
    assert together == batches(length, 8, epoch=5)


def test_an_epoch_can_start_in_its_middle() -> None:
    for start in range(4):
        assert batches(start_step=start) == batches()[start:]
    with pytest.raises(ConfigError, match="start_step: 4"):
        batches(start_step=4)


def test_a_batch_that_cannot_be_shared_out_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"train.batch_size: 8 .* 3 processes"):
        batches(world_size=3, batch_size=8)
    with pytest.raises(ConfigError, match="no images"):
        batches(0)


def test_what_fills_up_the_last_batch_has_numbers_above_all_repetitions() -> None:
    """So that `TrainBatches`, which takes them modulo the number of images, augments it with other draws."""
    factors = np.array([2.0, 1.0, 1.0])
    (batch,) = EpochSampler(3, seed=0, epoch=0, batch_size=8, factors=factors)
    assert len(set(batch)) == 8
    assert [number % 3 for number in batch[4:]] == [number % 3 for number in batch[:4]]
