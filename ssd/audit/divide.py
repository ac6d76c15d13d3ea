"""Divides the images of a data folder into two lists, for training and for validation."""

import shlex
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ssd.audit.report import Report
from ssd.data.formats import paths as folders
from ssd.data.formats.copies import copies
from ssd.data.formats.division import divide
from ssd.data.formats.grouping import COPIES, group_images, without_splits
from ssd.errors import ArgumentError, DatasetError, printable
from ssd.report.text_table import aligned
from ssd.structures import Record
from ssd.system.files import write_atomic

_OF_A_DIVISION = ("data.folder", "data.train", "data.val", "data.val_fraction", "data.group")  # which lists replace
BY = ("group", "class")  # what a division may go by


@dataclass(frozen=True)
class Divided:
    """The two parts of a folder's images, as paths from the folder on, and how many objects of each class they have."""

    folder: str
    keys: tuple[str, ...]  # with which it was checked, as they are typed
    train: tuple[str, ...]
    val: tuple[str, ...]
    groups: int  # groups of images that were kept together, those of one image included
    objects: dict[str, tuple[int, int]]  # class name -> objects in train, in val

    def write(self, out: str | Path) -> tuple[Path, Path]:
        """Write `train.txt` and `val.txt`, one path a line, and give their paths."""
        files = Path(out) / "train.txt", Path(out) / "val.txt"
        for file, names in zip(files, (self.train, self.val), strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, "".join(f"{name}\n" for name in names).encode(errors="surrogateescape"))
        return files

    def to_text(self, files: tuple[Path, Path]) -> str:
        """The parts, their classes, and the command that trains on them."""
        total = len(self.train) + len(self.val)
        rows = [[name, *map(str, counts)] for name, counts in self.objects.items()]
        lines = [
            f"divided: {len(self.train)} images to train on, {len(self.val)} to evaluate on "
            f"({len(self.val) / total:.1%}); {self.groups} groups of images that stay together",
            aligned([["objects in", "train", "val"], *rows]),
        ]
        one_sided = [name for name, counts in self.objects.items() if any(counts) and not all(counts)]
        if one_sided:
            lines.append(printable(f"only on one side, since few groups have them: {', '.join(one_sided)}"))
        lists = [f"data.{key}={file}" for key, file in zip(("train", "val"), files, strict=True)]
        keys = [key for key in self.keys if key.partition("=")[0] not in _OF_A_DIVISION]
        lines.append(printable(shlex.join(["ssd", "train", "--data", self.folder, *lists, *keys])))
        return "\n".join(lines)


def divide_report(report: Report, fraction: float, *, by: Collection[str] = BY, rule: str) -> Divided:
    """Divide all images of the splits that were checked; `rule` is `data.group`.

    `by` names what counts: `group` keeps copies, near duplicates and what `rule` matches on one side, `class` puts
    every class on both sides where it can be. Without `group` only equal files stay together.

    Raises:
        ArgumentError: a fraction or a word that cannot be.
        DatasetError: there are fewer than two images, or `rule` matches no name.
    """
    if not 0 < fraction < 1:
        raise ArgumentError(f"{fraction:g} is out of range", place="divide", remedy="Use a number between 0 and 1.")
    for word in by:
        if word not in BY:
            raise ArgumentError(f"{word!r} is unknown", place="by", remedy=f"Use {' or '.join(BY)}, or both.")
    root = Path(report.folder)
    root = root.parent if root.is_file() else root
    found: dict[str, tuple[Record, frozenset[str]]] = {}
    for split in report.opened.splits:
        for record in split.dataset.records:
            kinds = frozenset(split.dataset.class_names[label] for label in record.labels[~record.crowd].tolist())
            found.setdefault(folders.relative(Path(record.path), root), (record, kinds))
    if len(found) < 2:
        raise DatasetError(f"{len(found)} images cannot be divided", place=report.folder, remedy="Add images.")
    short = dict(zip(found, without_splits(list(found)), strict=True))
    files = {short[name]: Path(record.path) for name, (record, _) in found.items()}
    first = group_images(files, rule) if "group" in by and rule != COPIES else copies(files)
    images = {
        name: (first.get(short[name], short[name]), kinds if "class" in by else frozenset[str]())
        for name, (_, kinds) in found.items()
    }
    wanted = min(max(1, round(fraction * len(images))), len(images) - 1)
    val = divide(images, 0.0, wanted)
    return Divided(
        folder=report.folder,
        keys=report.keys,
        train=tuple(name for name in sorted(found) if name not in val),
        val=tuple(sorted(val)),
        groups=len({group for group, _ in images.values()}),
        objects=_count(report, root, val),
    )


def _count(report: Report, root: Path, val: Collection[str]) -> dict[str, tuple[int, int]]:
    counts: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    names: dict[str, None] = {}
    seen: set[str] = set()
    for split in report.opened.splits:
        names |= dict.fromkeys(split.dataset.class_names)
        for record in split.dataset.records:
            if record.path not in seen:
                seen.add(record.path)
                side = folders.relative(Path(record.path), root) in val
                labels = record.labels[~record.crowd].tolist()
                counts[side].update(split.dataset.class_names[label] for label in labels)
    return {name: (counts[False][name], counts[True][name]) for name in names}
