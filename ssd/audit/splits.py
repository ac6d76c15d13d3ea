"""Opens every split of a data folder, and collects the problems of each.

Errors of `open_dataset` become a `Problem` here: a file that cannot be parsed, a split without images, no validation
split. Only a folder that does not exist, or is no data set, raises an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ssd.data.dataset import Dataset, scan
from ssd.data.formats.annotations import Problem
from ssd.data.formats.lists import is_list
from ssd.data.formats.read_options import DEFAULT_OPTIONS, ReadOptions
from ssd.data.formats.recognition import recognise
from ssd.data.formats.registry import PARTS, default_split, has_parts, openable, splits
from ssd.data.formats.unused import about_unread_images, find_unused
from ssd.data.split_checks import nothing_to_learn
from ssd.errors import DatasetError
from ssd.rules import Depth


@dataclass(frozen=True)
class Split:
    """One split: its good images and objects, and the problems of the others."""

    dataset: Dataset
    problems: tuple[Problem, ...]

    @property
    def name(self) -> str:
        """The split's name."""
        return self.dataset.split


@dataclass(frozen=True)
class Opened:
    """The splits of a folder, the training split first where there is one."""

    splits: tuple[Split, ...]
    unions: tuple[str, ...]  # splits that are not checked, as unions of others: trainval is train and val
    problems: tuple[Problem, ...]  # of the folder as a whole
    train: str | None
    val: str | None
    unused: tuple[Problem, ...] = ()  # files of the folder that belong to no split

    def named(self, name: str | None) -> Split | None:
        """The split of that name, if it was checked."""
        return next((split for split in self.splits if split.name == name), None)


@dataclass(frozen=True)
class Reading:
    """How a folder is read, from `data.*` and `preprocessing.depth` of a config."""

    format: str = "auto"
    options: ReadOptions = DEFAULT_OPTIONS
    train: str | None = None
    val: str | None = None
    depth: Depth | None = None  # preprocessing.depth


def open_splits(folder: str | Path | None, reading: Reading, only: str | None = None) -> Opened:
    """Scan every split, or `only` one.

    The classes are the training split's, as in training: an object of another class elsewhere is a problem.

    Raises:
        DatasetError: no such folder or split, or an unknown format.
    """
    there, named = splits(folder, reading.format), openable(folder, reading.format)
    if only is not None and only not in (*named, *PARTS) and not is_list(folder, only):
        raise DatasetError(
            f"no split {only!r}", place=folder or reading.format, remedy=f"There is: {', '.join(named)}."
        )
    problems: list[Problem] = []
    train, val = (_choose(folder, reading, which, named, problems) for which in ("train", "val"))
    parts = {name for name in (train, val) if name is not None and name not in there}  # of a single split
    chosen = [name for name in (train, val) if name is not None] if parts else there
    wanted = sorted((only,) if only else dict.fromkeys(chosen), key=lambda name: (name != train, name != val))
    found: list[Split] = []
    classes = reading.options.classes
    for name in wanted:
        split = _open(folder, name, reading, classes, trained=name == train)
        classes = classes or split.dataset.class_names or None
        found.append(split)
    unions = () if only else _unions(found, keep={train, val})
    kept = tuple(split for split in found if split.name not in unions)
    unused = () if only else tuple(find_unused(folder, reading.format))
    return Opened(kept, unions, () if only else tuple(problems), train, val, unused)


def _choose(
    folder: str | Path | None,
    reading: Reading,
    which: Literal["train", "val"],
    there: Sequence[str],
    problems: list[Problem],
) -> str | None:
    """The split that training would use for training or validation, or a problem and None."""
    named = reading.train if which == "train" else reading.val
    if named is not None and (named in there or (named in PARTS and has_parts(there)) or is_list(folder, named)):
        return named
    try:
        if named is not None:
            raise DatasetError(f"data.{which} is {named!r}, and there is only: {', '.join(there)}")
        return default_split(folder, reading.format, which)
    except DatasetError as error:
        message = f"{error.problem}; name one with data.{which}={there[0] if there else '...'}"
        problems.append(Problem(str(folder or reading.format), "no_split", message, "file"))
        return None


def _open(
    folder: str | Path | None, name: str, reading: Reading, classes: Sequence[str] | None, *, trained: bool = False
) -> Split:
    try:
        dataset, problems = scan(folder, name, replace(reading.options, classes=classes), format=reading.format)
    except DatasetError as error:  # the folder and the split exist, so the problem is inside
        dataset = Dataset((), (), (), str(folder or reading.format), name)
        return Split(
            dataset, (Problem(error.place or name, "unreadable", f"{error.problem}. {error.remedy}".strip(), "file"),)
        )
    if not dataset.records and not any(problem.level == "file" for problem in problems):
        unread = about_unread_images(folder)
        kind, more = ("empty_split", "") if unread is None else ("unread_images", f"; there are {unread}")
        problems.append(Problem(f"split {name}", kind, f"has no images{more}", "file"))
    elif not dataset.class_names:
        problems.append(
            Problem(f"split {name}", "no_objects", "no object is annotated, so there are no classes", "file")
        )
    elif trained and dataset.records and (nothing := nothing_to_learn(dataset)) is not None:
        problems.append(Problem(f"split {name}", "no_objects", ". ".join(nothing), "file"))
    return Split(replace(dataset, depth=reading.depth), tuple(problems))


def _unions(found: Sequence[Split], keep: set[str | None]) -> tuple[str, ...]:
    """Splits whose images are exactly those of smaller splits together; never the two that training uses.

    A split that is only *part* of another, or equal to it, is kept: its images leak.
    """
    images = {split.name: {record.path for record in split.dataset.records} for split in found}
    unions = []
    for name, own in images.items():
        smaller = [other for other in images.values() if other < own]
        if name not in keep and own and set().union(*smaller) == own:
            unions.append(name)
    return tuple(unions)


def boxes_from_zero(folder: str | Path | None, opened: Opened, reading: Reading) -> int:
    """How many VOC boxes start at pixel 0, where VOC counts from 1; 0 for other formats and other offsets."""
    kind = recognise(folder) if reading.format == "auto" and folder is not None else reading.format
    if kind != "voc" or reading.options.voc_offset != "1":
        return 0
    as_written = replace(reading, options=replace(reading.options, voc_offset="0"))
    boxes = [
        record.boxes
        for split in opened.splits
        for record in _open(folder, split.name, as_written, split.dataset.class_names).dataset.records
    ]
    return sum(int((box[:, :2] < 1).any(axis=1).sum()) for box in boxes)
