import math
from collections import Counter

import numpy as np
import pytest

from ssd.data.dataset import Dataset
from ssd.data.loading.balance import class_factors, epoch_length, epoch_order, repeat_factors
from ssd.data.loading.batches import TrainBatches
from ssd.data.loading.sampler import EpochSampler
from ssd.data.shapes.dataset import shapes
from ssd.data.tiled import TiledRecords
from ssd.structures import Record, Sample


def record(*labels: int, crowd: int = 0) -> Record:
    """An image with these labels, of which the last `crowd` are crowd regions."""
    count = len(labels)
    boxes = np.tile(np.array([0, 0, 8, 8], np.float32), (count, 1))
    region = np.arange(count) >= count - crowd
    nothing = np.zeros(count, bool)
    return Record(
        "a.jpg", "a", 16, 16, boxes, np.array(labels, np.int64), nothing, region, np.full(count, 64, np.float32)
    )


def rare(length: int = 100, rare_images: int = 4) -> list[Record]:
    return [record(0, 1) if index < rare_images else record(0) for index in range(length)]


def test_factors_are_those_of_the_lvis_paper() -> None:
    """max(1, sqrt(t / f)): a class in 4 of 100 images with t = 0.16 is shown twice as often."""
    assert class_factors(rare(), 3, 0.16).tolist() == [1, 2, 1]  # class 2 has no object
    factors = repeat_factors([*rare(), record(), record(1, 0, crowd=2)], 3, 0.0)
    assert factors.tolist() == [1.0] * 102
    factors = repeat_factors(rare(), 3, 0.16)
    assert factors[:4].tolist() == [2] * 4
    assert factors[4:].tolist() == [1] * 96


def test_an_image_is_repeated_for_its_rarest_class_and_crowds_do_not_count() -> None:
    records = [record(0, 1), record(2), *[record(0)] * 14]
    by_class = class_factors(records, 3, 1.0)
    assert by_class == pytest.approx([math.sqrt(16 / 15), 4, 4])
    assert repeat_factors(records, 3, 1.0)[0] == by_class[1]
    crowded = [record(0, 1, crowd=1), *[record(0)] * 15]
    assert class_factors(crowded, 2, 1.0).tolist() == [1, 1]


def test_a_tile_is_repeated_as_often_as_its_image() -> None:
    images = shapes("train", 8, 64).records
    tiles = TiledRecords(images, 2, 32)
    by_image = repeat_factors(images, 4, 1.0)
    assert by_image.max() > 1
    expected = [by_image[tiles.place(row)[0]] for row in range(len(tiles))]
    assert repeat_factors(tiles, 4, 1.0).tolist() == expected
    assert len(expected) == 8 * 5


@pytest.mark.parametrize("seed", range(20))
def test_every_epoch_has_the_same_length_and_each_image_its_factor_up_or_down(seed: int) -> None:
    rng = np.random.default_rng(seed)
    factors = 1 + rng.exponential(0.8, 50) * (rng.random(50) < 0.5)
    length = epoch_length(factors)
    assert length == pytest.approx(factors.sum(), abs=0.5 + 1e-9)
    for epoch in range(5):
        order = epoch_order(factors, seed, epoch)
        times = np.bincount(order % 50, minlength=50)
        assert len(order) == length == len(set(order.tolist()))
        assert (times >= np.floor(factors)).all()
        assert (times <= np.ceil(factors) + 1).all()
        for image, number in enumerate(times):  # repetitions are numbered from 0
            assert {index // 50 for index in order.tolist() if index % 50 == image} == set(range(number))


def test_over_many_epochs_an_image_is_shown_as_often_as_its_factor_says() -> None:
    factors = np.array([1, 1.25, 2.5, 1, 3.1, 1.4])
    shown = Counter[int]()
    for epoch in range(2000):
        shown.update((epoch_order(factors, 7, epoch) % 6).tolist())
    scale = epoch_length(factors) / factors.sum()
    for image, factor in enumerate(factors):
        expected = math.floor(factor) + (factor - math.floor(factor)) * scale
        assert shown[image] / 2000 == pytest.approx(expected, abs=0.1)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    factors = repeat_factors(rare(), 2, 0.5)
    first = epoch_order(factors, 3, 4).tolist()
    np.random.default_rng(0).random(10)
    assert epoch_order(factors, 3, 4).tolist() == first
    assert epoch_order(factors, 3, 5).tolist() != first
    assert epoch_order(factors, 4, 4).tolist() != first


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_share_the_batches_and_an_epoch_starts_in_its_middle(world_size: int) -> None:
    factors = repeat_factors(rare(), 2, 0.5)

    def batches(**share: int) -> list[tuple[int, ...]]:
        return list(EpochSampler(100, seed=0, epoch=2, batch_size=8, factors=factors, **share))

    shares = [batches(rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [sum(parts, ()) for parts in zip(*shares, strict=True)] == batches()
    assert batches(start_step=5) == batches()[5:]
    assert len(batches()) == -(-epoch_length(factors) // 8)


def test_factors_of_1_show_every_image_once() -> None:
    assert sorted(epoch_order(np.ones(9), 0, 0).tolist()) == list(range(9))


class _Seeds:
    """A transform that keeps the seed of each draw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[int, ...]]] = []

    def plan(self, shape: object, boxes: object, crowd: object, seed: tuple[int, ...]) -> "_Seeds":
        return self

    shrink = 1

    def __call__(self, sample: Sample, seed: tuple[int, ...], plan: object = None) -> Sample:
        self.seen.append((sample.path, tuple(seed)))
        return sample


def test_a_repetition_is_the_same_image_with_other_draws() -> None:
    data: Dataset = shapes("train", 4, 32)
    seeds = _Seeds()
    delivery = TrainBatches(data, seeds, seed=5)[3, (2, 6, 1)]
    assert delivery.open().paths == tuple(data.records[index].path for index in (2, 2, 1))
    assert [seed for _, seed in seeds.seen] == [(5, 3, 2), (5, 3, 6), (5, 3, 1)]
