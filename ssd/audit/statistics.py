"""Statistics of a split: classes, images without objects, object sizes at the network's input."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ssd.data.dataset import Dataset
from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem
from ssd.data.loading.balance import class_factors, epoch_length, repeat_factors
from ssd.data.objects import SIZES, Objects
from ssd.structures import Record

_PERCENTILES = (5, 25, 50, 75, 95)
_ELONGATED = 3.0  # the largest aspect ratio of the default boxes


@dataclass(frozen=True)
class ClassCount:
    """One class of one split."""

    name: str
    objects: int  # crowd regions apart
    images: int
    difficult: int
    crowd: int


@dataclass(frozen=True)
class ObjectSizes:
    """Sizes of a split's objects: by COCO's limits in the image, and at the network's input."""

    buckets: dict[str, int]  # small, medium, large, by the area in the image
    input_size: int
    sides: dict[int, float]  # percentile -> square root of the area at the network's input, in pixels
    below_cell: int  # objects narrower or lower than a cell of the finest level (8 pixels)
    elongated: float  # share with an aspect ratio above 3 at the network's input


@dataclass(frozen=True)
class Repeats:
    """What `data.balance` repeats of a training split."""

    balance: float
    images: int
    samples: int  # of an epoch without repeats: the images, with data.tiles also tiles of them
    images_per_epoch: int  # samples with their repeats
    most: float  # how often the most repeated image is shown in an epoch
    classes: dict[str, tuple[float, float]]  # class -> share of the images with it, how often these are shown

    def lines(self) -> list[str]:
        """The epoch's length, then the classes that are repeated, the rarest first."""
        repeated = sorted((share, name, factor) for name, (share, factor) in self.classes.items() if factor > 1)
        kind = "images" if self.samples == self.images else "samples (images and tiles of them)"
        head = f"data.balance={self.balance:g} shows {self.images_per_epoch} {kind} an epoch instead of {self.samples}"
        if not repeated:
            return [f"{head}: every class is in so many images"]
        rows = (
            f"  {name}: in {share:.1%} of the images, each shown {factor:.2f} times" for share, name, factor in repeated
        )
        return [f"{head}, one up to {self.most:.2f} times", *rows]


def count_repeats(dataset: Dataset, balance: float, samples: Sequence[Record]) -> Repeats:
    """How often images are shown in an epoch with `data.balance`; classes without objects are left out.

    `samples` are the records that training sees: those of the data set, or the windows of its images.
    """
    records, names = dataset.records, dataset.class_names
    factors = repeat_factors(samples, len(names), balance)
    by_class = class_factors(records, len(names), balance)
    images = Counter(label for record in records for label in set(record.labels[~record.crowd].tolist()))
    return Repeats(
        balance,
        len(records),
        len(samples),
        epoch_length(factors),
        float(factors.max(initial=1.0)),
        {names[label]: (count / len(records), float(by_class[label])) for label, count in sorted(images.items())},
    )


def count_classes(dataset: Dataset) -> list[ClassCount]:
    """Count objects and images of every class, in the order of the labels."""
    tallies = {kind: Counter[int]() for kind in ("objects", "images", "difficult", "crowd")}
    for record in dataset.records:
        tallies["objects"].update(record.labels[~record.crowd].tolist())
        tallies["difficult"].update(record.labels[record.difficult & ~record.crowd].tolist())
        tallies["crowd"].update(record.labels[record.crowd].tolist())
        tallies["images"].update(set(record.labels.tolist()))
    return [
        ClassCount(name, **{kind: tally[label] for kind, tally in tallies.items()})
        for label, name in enumerate(dataset.class_names)
    ]


def empty_images(dataset: Dataset) -> list[str]:
    """Paths of the images without any object."""
    root = Path(dataset.name)
    return [folders.relative(Path(record.path), root) for record in dataset.records if not len(record.boxes)]


def repeated_objects(dataset: Dataset) -> list[Problem]:
    """Objects annotated more than once: the same class and the same box in one image."""
    problems = []
    for record in dataset.records:
        rows = Counter((int(label), *box) for label, box in zip(record.labels, record.boxes.tolist(), strict=True))
        path = folders.relative(Path(record.path), Path(dataset.name))
        for (label, x1, y1, x2, y2), count in rows.items():
            if count > 1:
                message = f"box {x1:g} {y1:g} {x2:g} {y2:g} is annotated {count} times"
                name, box = dataset.class_names[int(label)], (x1, y1, x2, y2)
                problems.append(Problem(path, "repeated", message, "note", name=name, image=record.path, box=box))
    return problems


def measure_sizes(objects: Objects, input_size: int, cell: float = 8.0) -> ObjectSizes | None:
    """Describe the sizes of a split's objects; None without objects."""
    if not len(objects.labels):
        return None
    sides: Float[np.ndarray, "N 2"] = ((objects.boxes[:, 2:] - objects.boxes[:, :2]).numpy() * input_size).astype(float)
    lengths = np.sqrt(sides.prod(axis=1))
    counts = np.bincount(objects.sizes(), minlength=len(SIZES)).tolist()
    ratios = sides.max(axis=1) / sides.min(axis=1)
    return ObjectSizes(
        buckets=dict(zip(SIZES, counts, strict=True)),
        input_size=input_size,
        sides={p: round(float(np.percentile(lengths, p)), 1) for p in _PERCENTILES},
        below_cell=int((sides.min(axis=1) < cell).sum()),
        elongated=float((ratios > _ELONGATED).mean()),
    )
