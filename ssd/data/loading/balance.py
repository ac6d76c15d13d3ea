"""Repeats images of rare classes: repeat-factor sampling of Gupta et al., "LVIS", 2019, appendix B."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ssd.data.tiled import TiledRecords
from ssd.structures import Record


def class_factors(records: Sequence[Record], classes: int, threshold: float) -> Float[np.ndarray, "C"]:
    """How often images of each class are shown: max(1, sqrt(threshold / share of images with the class)).

    1 for a class without objects. Crowd regions do not count.
    """
    images = np.zeros(classes)
    for record in records:
        images[np.unique(record.labels[~record.crowd])] += 1
    shares = np.where(images > 0, images, len(records) or 1) / (len(records) or 1)
    return np.asarray(np.maximum(1.0, np.sqrt(threshold / shares)))


def repeat_factors(records: Sequence[Record], classes: int, threshold: float) -> Float[np.ndarray, "N"]:
    """How often each image is shown in an epoch, on average: the largest factor of its classes, 1 without objects.

    A tile is shown as often as its image.
    """
    if isinstance(records, TiledRecords):
        return repeat_factors(records.images, classes, threshold)[records.owners]
    by_class = class_factors(records, classes, threshold)
    found = (by_class[record.labels[~record.crowd]].max(initial=1.0) for record in records)
    return np.fromiter(found, float, len(records))


def epoch_length(factors: Float[np.ndarray, "N"]) -> int:
    """Images of an epoch, the same in each: the sum of the factors, rounded."""
    whole = np.floor(factors)
    return int(whole.sum()) + round(float((factors - whole).sum()))


def epoch_order(factors: Float[np.ndarray, "N"], seed: int, epoch: int) -> Int[np.ndarray, "L"]:
    """The order of an epoch: each image as often as its factor says, rounded up or down at random.

    It depends on (seed, epoch) alone. The k-th repetition of image i is i + k N: `TrainBatches` takes it modulo N, and
    augments each repetition in another way.
    """
    # The spawn key keeps this stream apart from those of the plain order and of the augmentations.
    rng = np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(2,)))
    count = len(factors)
    times = np.floor(factors).astype(np.int64)
    extra = epoch_length(factors) - int(times.sum())
    if extra:
        # Systematic sampling: `extra` points at equal distances, and each image covers its fraction of the line.
        images = rng.permutation(count)
        ends = np.cumsum((factors - times)[images])
        points = (np.arange(extra) + rng.random()) * (ends[-1] / extra)
        np.add.at(times, images[np.searchsorted(ends, points, side="right").clip(max=count - 1)], 1)
    repeated = [np.flatnonzero(times > number) + number * count for number in range(int(times.max(initial=0)))]
    return np.asarray(rng.permutation(np.concatenate([np.zeros(0, np.int64), *repeated])))
