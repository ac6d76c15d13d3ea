"""The images for calibration and parity of an export: named ones, the run's own, or synthetic ones."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ssd.data.dataset import Dataset, open_dataset
from ssd.data.formats.recognition import recognise
from ssd.data.formats.registry import default_split
from ssd.data.shapes.dataset import shapes
from ssd.errors import DatasetError
from ssd.images.decode import load_image
from ssd.inference.bulk.sources import find_images
from ssd.rules import Depth
from ssd.weights.resolve import config_beside


@dataclass(frozen=True)
class Images:
    """Images, and the annotations that some of them have."""

    title: str
    paths: tuple[Path, ...] = ()
    dataset: Dataset | None = None
    drawn: bool = False
    depth: Depth | None = None  # of the weights: how files of more than 8 bits a channel are read

    def __len__(self) -> int:
        return len(self.paths) if self.dataset is None else len(self.dataset)

    def load(self, index: int) -> np.ndarray:
        """Decode one image to uint8 RGB."""
        if self.dataset is None:
            return load_image(self.paths[index], depth=self.depth)
        return self.dataset.load(index).image

    def spread(self, limit: int | None) -> list[int]:
        """At most `limit` indices, evenly spread, since neighbours in a folder are often alike."""
        count = len(self) if limit is None else min(limit, len(self))
        places: list[int] = np.linspace(0, len(self) - 1, count).round().astype(int).tolist()
        return places

    def some(self, limit: int) -> Iterator[np.ndarray]:
        """At most `limit` images."""
        return (self.load(index) for index in self.spread(limit))


def open_images(
    named: str, which: Literal["train", "val"], split: str | None = None, depth: Depth | None = None
) -> Images:
    """The `split` of a data set (by default its usual `which` split), or the images of a folder, glob or file.

    Raises:
        DatasetError: a data set without such a split.
        ArgumentError: there are no images.
    """
    try:
        described = Path(named).suffix.lower() in (".yaml", ".yml")  # by YOLO's data.yaml
        kind = recognise(named) if described or Path(named).is_dir() else None
    except DatasetError:
        kind = None
    if kind is None and split is None:
        return Images(named, paths=tuple(find_images([named])), depth=depth)
    split = split or default_split(named, kind or "auto", which)
    dataset = open_dataset(named, split, bad_objects="drop")
    return Images(f"{named}, split {split}", dataset=replace(dataset, depth=depth))


def own_images(weights: str) -> Images:
    """The validation images of the run of these weights; synthetic ones if the run is unknown."""
    from ssd.experiment import config_file
    from ssd.experiment import data as experiment_data

    beside = config_beside(weights)
    if beside is not None:
        settings = config_file.load(beside)
        try:
            dataset = experiment_data.open_split(settings, "val")
        except DatasetError:  # the data set was moved
            pass
        else:
            return Images(f"{dataset.name}, split {dataset.split}", dataset=dataset)
    return Images("images drawn by the program", dataset=shapes("val", 16, 480), drawn=True)
