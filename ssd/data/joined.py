"""Several data sets as one, each complete for its own classes: in its images the others' may lack an annotation."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from ssd.data.dataset import Dataset
from ssd.data.joined_records import CompleteClasses, JoinedRecords
from ssd.errors import DatasetError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """The splits of one folder, which have the same class names, and what is said about its classes."""

    train: Dataset
    val: Dataset | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    complete_for: tuple[str, ...] | None = None  # new names; None: the classes that occur in the training split

    @property
    def names(self) -> tuple[str, ...]:
        """The new name of each label; two labels may have one name."""
        return tuple(self.rename.get(name, name) for name in self.train.class_names)


def join(parts: Sequence[Part]) -> tuple[Dataset, Dataset | None]:
    """The training and the validation set of several folders; without the latter if one of them has none.

    Classes are those of the folders in their order, by their new names. `Dataset.complete` says which of them each
    image is complete for; it is None where every folder is for all. Objects of other classes than those are trained
    on, but not evaluated on, since detections of these classes are not counted either.

    Raises:
        DatasetError: a name to replace that no class has, one that another class has, or an unknown class that a
            folder shall be complete for.
    """
    for part in parts:
        _check_renames(part)
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    _warn_about_alike(names)
    complete = _complete(parts, names)
    for part, row in zip(parts, complete, strict=True):
        _report(part, names, row)
    labels = [np.array([names.index(name) for name in part.names], np.int64) for part in parts]
    train = _joined([part.train for part in parts], names, labels, complete)
    vals = [part.val for part in parts if part.val is not None]
    if len(vals) < len(parts):
        return train, None
    scored = [np.where(row[new], new, -1) for row, new in zip(complete, labels, strict=True)]
    return train, _joined(vals, names, scored, complete)


def _joined(
    sets: Sequence[Dataset],
    names: tuple[str, ...],
    labels: Sequence[Int[np.ndarray, "_"]],
    complete: Bool[np.ndarray, "F n"],
) -> Dataset:
    records = JoinedRecords([one.records for one in sets], labels)
    splits = tuple(dict.fromkeys(one.split for one in sets))
    return Dataset(
        records=records,
        class_names=names,
        category_ids=tuple(range(1, len(names) + 1)),
        name=" + ".join(Path(one.name).resolve().name for one in sets),
        split=" + ".join(splits),
        dropped=tuple(problem for one in sets for problem in one.dropped),
        complete=None if complete.all() else CompleteClasses(records.ends, complete),
        depth=sets[0].depth,
    )


def _check_renames(part: Part) -> None:
    known, folder = part.train.class_names, part.train.name
    for old, new in part.rename.items():
        if old not in known:
            problem = f"rename: {old!r} is no class of this folder"
            raise DatasetError(problem, place=folder, remedy=f"{_nearest(old, known)}There is: {', '.join(known)}.")
        if new in known and new not in part.rename:
            problem = f"rename: {old!r} cannot become {new!r}, which is another class of this folder"
            remedy = f"To make them one class, say so: rename: {{{old}: {new}, {new}: {new}}}."
            raise DatasetError(problem, place=folder, remedy=remedy)


def _complete(parts: Sequence[Part], names: Sequence[str]) -> Bool[np.ndarray, "F n"]:
    """Whether each folder is complete for each class. All are for a class of which no folder has an object."""
    occurs = np.zeros((len(parts), len(names)), bool)
    complete = np.zeros_like(occurs)
    for row, part in enumerate(parts):
        labels = set().union(*(record.labels[~record.crowd].tolist() for record in part.train.records))
        occurs[row, [names.index(part.names[label]) for label in labels]] = True
        for name in part.complete_for or ():
            if name not in names:
                problem = f"complete_for: {name!r} is no class of any folder"
                remedy = f"{_nearest(name, names)}There is, after renaming: {', '.join(names)}."
                raise DatasetError(problem, place=part.train.name, remedy=remedy)
            complete[row, names.index(name)] = True
        if part.complete_for is None:
            complete[row] = occurs[row]
    return complete | ~occurs.any(axis=0)


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}? " if close else ""


def _warn_about_alike(names: Sequence[str]) -> None:
    """Names that differ in case or in spaces alone are probably one class under two names."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault("".join(name.casefold().split()), name)
        if other != name:
            log.warning("data.folders: %r and %r are two classes; to make them one, use rename", other, name)


def _report(part: Part, names: Sequence[str], complete: Bool[np.ndarray, "n"]) -> None:
    inside = ", ".join(name for name, yes in zip(names, complete, strict=True) if yes) or "no class"
    others = ", ".join(name for name, yes in zip(names, complete, strict=True) if not yes)
    rest = f"; its images may have unannotated: {others}" if others else ""
    log.info("%s: %d images, complete for %s%s", part.train.name, len(part.train), inside, rest)
