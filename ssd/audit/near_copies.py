"""Finds images of one split that look like images of another: near duplicates, and frames of the same video."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd.audit.splits import Split
from ssd.data.formats import paths as folders
from ssd.data.formats.grouping import ALIKE_IN_ORDER, MOST_LOOKED_AT, numbered_pairs, without_splits
from ssd.images.looks import ALIKE, nearest, read_looks


@dataclass(frozen=True)
class NearCopy:
    """An image, and the one of another split that it looks like."""

    split: str
    path: str  # relative to the data folder
    other_split: str
    other_path: str
    correlation: float  # of their thumbnails

    def __str__(self) -> str:
        return f"{self.split}/{self.path} looks like {self.other_split}/{self.other_path} ({self.correlation:.2f})"


def find_near_copies(splits: Sequence[Split], known: Collection[tuple[str, str]] = ()) -> list[NearCopy]:
    """For each image the most similar one of the splits before its own, the most similar pairs first.

    `known` are split and path of images that are equal byte by byte to others, which are left out. In folders of more
    than 50,000 images nothing is looked for.
    """
    images = [
        (split.name, Path(record.path), split.dataset.name) for split in splits for record in split.dataset.records
    ]
    if len(splits) < 2 or len(images) > MOST_LOOKED_AT:
        return []
    looks = read_looks([path for _, path, _ in images])
    shown = [(split, folders.relative(path, Path(root))) for split, path, root in images]
    found: dict[int, tuple[int, float]] = {}
    start = 0
    for split in splits:
        end = start + len(split.dataset.records)
        places, values = nearest(looks[start:end], looks[:start])
        for row in np.flatnonzero(values >= ALIKE):
            found[start + int(row)] = int(places[row]), float(values[row])
        start = end
    for pair in numbered_pairs(without_splits([path for _, path in shown])):
        one, other = sorted(pair)
        correlation = float(looks[one] @ looks[other])
        if shown[one][0] != shown[other][0] and correlation >= ALIKE_IN_ORDER:
            found.setdefault(other, (one, correlation))
    near = [
        NearCopy(*shown[place], *shown[other], round(correlation, 3))
        for place, (other, correlation) in found.items()
        if shown[place] not in known and images[place][1] != images[other][1]
    ]
    return sorted(near, key=lambda pair: (-pair.correlation, pair.split, pair.path))
