"""One image with its labels, as the writers of label files take it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32

from ssd.errors import ArgumentError, printable


@dataclass(frozen=True)
class Label:
    """One object; the box is xyxy in pixels of the upright image."""

    name: str
    box: tuple[float, float, float, float]
    score: float | None = None  # of a detection
    difficult: bool = False
    crowd: bool = False


@dataclass(frozen=True)
class Labelled:
    """One image with its labels.

    Raises:
        ArgumentError: a path that is written leads out of the folder of the labels.
    """

    name: str  # its path in its folder of images, as tools name it
    stem: str  # of its label files: the same without suffix, or another where that is taken
    place: str  # from the folder of the labels to the image
    copied: bool  # whether it lies in that folder, in `images/`
    width: int
    height: int
    labels: tuple[Label, ...]
    split: str = ""  # empty where there are none
    detected: bool = False  # whether the labels are a detector's, not a person's

    def __post_init__(self) -> None:
        refuse_outside(self.split, self.stem, self.place if self.copied else "")

    @property
    def base(self) -> str:
        """The image's name without folders."""
        return PurePosixPath(self.name).name


def stays_below(path: str) -> bool:
    """Whether a path leads to a place in the folder that it starts from: it is not absolute and has no `..`."""
    return not Path(path).anchor and ".." not in Path(path).parts


def refuse_outside(*paths: str) -> None:
    """Guard what is written: no path may lead out of the folder of the labels.

    Raises:
        ArgumentError: one is absolute, or has `..`.
    """
    for path in paths:
        if not stays_below(path):
            remedy = "Name it by its path in that folder, without `..`."
            raise ArgumentError("leads out of the folder to write into", place=path, remedy=remedy)


Images = Callable[[], Iterable[Labelled]]  # each call gives all images again: they may be more than memory holds


def make_labels(
    boxes: Float32[np.ndarray, "N 4"],
    names: Iterable[str],
    scores: Iterable[float | None],
    difficult: Iterable[bool],
    crowd: Iterable[bool],
) -> tuple[Label, ...]:
    """The labels of an image from columns of equal length; coordinates to a thousandth of a pixel."""
    rows = zip(np.round(boxes.astype(np.float64), 3).tolist(), names, scores, difficult, crowd, strict=True)
    return tuple(Label(name, (x1, y1, x2, y2), score, bool(d), bool(c)) for (x1, y1, x2, y2), name, score, d, c in rows)


def one_line(name: str) -> str:
    """A name as it stands in a line of a text file."""
    return printable(name)


class Stems:
    """Gives label files names that differ, also where upper and lower case are the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """The path without its suffix, else with it, else numbered."""
        short = PurePosixPath(name).with_suffix("").as_posix()
        stem, number = short if short.lower() not in self._taken else name.replace(".", "_"), 2
        while stem.lower() in self._taken:
            stem, number = f"{short}-{number}", number + 1
        self._taken.add(stem.lower())
        return stem
