"""The complete check of a data folder, as a report."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssd.audit.box_presets import BoxPreset, box_presets
from ssd.audit.decoding import Copies, Seen, StrictDecoder, find_copies, see
from ssd.audit.fit_boxes import Shapes, fit
from ssd.audit.near_copies import NearCopy, find_near_copies
from ssd.audit.recall import Bucket, Hard, MissedBestBox, Reach, bucket, count_missed_best_box, hardest, measure
from ssd.audit.splits import Opened, Reading, Split, boxes_from_zero, open_splits
from ssd.audit.statistics import (
    ClassCount,
    ObjectSizes,
    Repeats,
    count_classes,
    count_repeats,
    empty_images,
    measure_sizes,
    repeated_objects,
)
from ssd.data.dataset import FEW_BAD, Dataset, are_few, are_few_images
from ssd.data.formats.annotations import Problem
from ssd.data.objects import gather
from ssd.data.tiled import TiledRecords
from ssd.images.value_range import ValueRange
from ssd.multibox.best_overlaps import best_overlaps
from ssd.settings import BoxSettings
from ssd.tiles import Tiles, has_tiles

FITTED = "fitted"


@dataclass(frozen=True)
class SplitReport:
    """The results of one split."""

    name: str
    images: int
    problems: tuple[Problem, ...]
    classes: tuple[ClassCount, ...]
    empty: tuple[str, ...]
    sizes: ObjectSizes | None
    reach: dict[str, Reach]  # by the name of the default boxes, the config's own first
    missed_best_box: MissedBestBox  # with the config's own default boxes, as are
    hardest: tuple[Hard, ...]  # the objects farthest from any
    values: ValueRange | None  # of the images with more than 8 bits a channel
    forgiven: dict[str, str]  # problems that stop nothing: level or kind -> the config value that leaves them out

    @property
    def objects(self) -> int:
        """Number of objects without crowd regions."""
        return sum(row.objects for row in self.classes)

    def fate(self, problem: Problem) -> str:
        """The effect of a problem: it `stops` training or evaluation, is left out, or is only noted."""
        value = self.forgiven.get(problem.kind) or self.forgiven.get(problem.level)
        return "noted" if problem.level == "note" else f"left out by {value}" if value else "stops"

    @property
    def stopping(self) -> list[Problem]:
        """The problems at which training, or evaluation on this split, would stop."""
        return [problem for problem in self.problems if self.fate(problem) == "stops"]

    def by_kind(self) -> dict[tuple[str, str], list[str]]:
        """The problems as lines, by their kind and what becomes of them."""
        kinds: dict[tuple[str, str], list[str]] = {}
        for problem in self.problems:
            kinds.setdefault((problem.kind, self.fate(problem)), []).append(str(problem))
        return kinds


@dataclass(frozen=True)
class Fit:
    """Default boxes fitted to the training split, and the reach of these and the others on it and on another split."""

    shapes: Shapes
    splits: tuple[str, ...]  # the one fitted to, then the one held out, if there is one
    reached: dict[str, tuple[Bucket, ...]]  # by the name of the default boxes: one bucket a split

    @property
    def best_table(self) -> str:
        """The best table on the held-out split."""
        return max((name for name in self.reached if name != FITTED), key=self._recall)

    @property
    def held_out_gain(self) -> float | None:
        """Gain in the share of reached held-out objects over the best table; None without held-out objects."""
        objects = len(self.splits) > 1 and self.reached[FITTED][1].objects
        return self._recall(FITTED) - self._recall(self.best_table) if objects else None

    def _recall(self, name: str) -> float:
        return self.reached[name][-1].recall or 0.0


@dataclass(frozen=True)
class Report:
    """The results of a data folder."""

    folder: str
    opened: Opened
    splits: tuple[SplitReport, ...]
    copies: tuple[Copies, ...]
    near: tuple[NearCopy, ...]  # images that look like one of another split
    boxes_from_zero: int
    choices: tuple[BoxPreset, ...]
    fit: Fit | None
    repeats: Repeats | None  # of the training split, with data.balance
    mirror: bool  # whether training would mirror images
    tiles: Tiles  # data.tiles: in these, sizes and overlaps of objects are those at the network's input
    usable: Dataset | None = field(repr=False)  # the first split without what cannot be decoded
    keys: tuple[str, ...] = ()  # the keys of the check, as they are typed

    def dataset(self, split: SplitReport) -> Dataset:
        """The good images and objects of a split."""
        opened = self.opened.named(split.name)
        assert opened is not None, "every split that is reported on was opened"
        return opened.dataset

    def copied(self) -> list[str]:
        """One line for each image that occurs more than once."""
        return [
            ("in several splits: " if copies.leaks else "in one split: ")
            + " = ".join(f"{split}/{path}" for split, path in copies.places)
            for copies in self.copies
        ]


def examine(
    folder: str | Path | None,
    reading: Reading,
    own_boxes: BoxSettings,
    *,
    only: str | None = None,
    drop: bool = False,
    skip: bool = False,
    fit_boxes: bool = False,
    balance: float = 0.0,
    mirror: bool = True,
    tiles: Tiles = 1,
    strict: StrictDecoder | None = None,
    workers: int = 2,
    progress: bool = False,
) -> Report:
    """Check every split of a folder, or `only` one; nothing is ever written.

    `own_boxes` are those that training would use; `drop` and `skip` say that bad objects, and training images that
    cannot be decoded, would be left out. `balance` and `tiles` are `data.balance` and `data.tiles`, `mirror` is
    `augment.mirror`.

    Raises:
        DatasetError: no such folder or split, or an unknown format.
    """
    opened = open_splits(folder, reading, only)
    choices = box_presets(own_boxes)
    seen = [(split, see(split.dataset, strict=strict, workers=workers, progress=progress)) for split in opened.splits]
    # The training split is measured with every set of default boxes, the others only with the config's.
    reports = [
        _report(
            split,
            images,
            choices if place == 0 else choices[:1],
            _forgiven(split, images, drop=drop, skip=skip and split.name == opened.train),
            tiles,
        )
        for place, (split, images) in enumerate(seen)
    ]
    copies = tuple(find_copies(seen))
    known = {place for group in copies for place in group.places}
    return Report(
        folder=opened.splits[0].dataset.name if opened.splits else str(folder),
        opened=opened,
        splits=tuple(reports),
        copies=copies,
        near=tuple(find_near_copies(opened.splits, known)),
        boxes_from_zero=boxes_from_zero(folder, opened, reading),
        choices=choices,
        fit=_fit([in_tiles(split.dataset, tiles, own_boxes) for split in opened.splits], choices)
        if fit_boxes
        else None,
        repeats=_repeats(opened.splits[0].dataset, balance, tiles, own_boxes) if balance and opened.splits else None,
        mirror=mirror,
        tiles=tiles,
        usable=_usable(*seen[0]) if seen else None,
    )


def in_tiles(dataset: Dataset, tiles: Tiles, boxes: BoxSettings) -> Dataset:
    """The windows of the images in place of these, for figures about objects; for a single tile the images."""
    if not has_tiles(tiles):
        return dataset
    return dataclasses.replace(dataset, records=TiledRecords(dataset.records, tiles, boxes.input_size))


def _repeats(dataset: Dataset, balance: float, tiles: Tiles, boxes: BoxSettings) -> Repeats:
    return count_repeats(dataset, balance, in_tiles(dataset, tiles, boxes).records)


def _forgiven(split: Split, seen: Sequence[Seen], *, drop: bool, skip: bool) -> dict[str, str]:
    bad = [problem for problem in split.problems if problem.level == "object"]
    few = f"default: fewer than one in {FEW_BAD:,}" if bad and are_few(bad, split.dataset) else None
    forgiven = {"object": "data.bad_objects=drop"} if drop else {"object": few} if few else {}
    unread = sum(problem.kind == "undecodable" for problem in split.problems)
    undecodable = unread + sum(image.problem is not None and image.problem.kind == "undecodable" for image in seen)
    if skip and are_few_images(undecodable, unread + len(seen)):  # training stops above it
        forgiven["undecodable"] = "data.bad_images=skip"
    return forgiven


def _report(
    split: Split, seen: Sequence[Seen], choices: Sequence[BoxPreset], forgiven: dict[str, str], tiles: Tiles
) -> SplitReport:
    dataset, own = split.dataset, choices[0]
    shown = in_tiles(dataset, tiles, own.boxes)
    images = tuple(image.problem for image in seen if image.problem is not None)
    objects = gather(shown)
    reach = {choice.name: measure(objects, choice.boxes) for choice in choices}
    return SplitReport(
        name=split.name,
        images=len(dataset),
        problems=(*split.problems, *images, *repeated_objects(dataset)),
        classes=tuple(count_classes(dataset)),
        empty=tuple(empty_images(dataset)),
        sizes=measure_sizes(objects, own.boxes.input_size, own.boxes.steps[0]),
        reach=reach,
        missed_best_box=count_missed_best_box(shown, own.boxes),
        hardest=tuple(hardest(shown, objects, reach[own.name].overlaps, own.boxes.input_size)),
        values=functools.reduce(_both, (image.values for image in seen), None),
        forgiven=forgiven,
    )


def _both(one: ValueRange | None, other: ValueRange | None) -> ValueRange | None:
    return other if one is None else one.plus(other)


def _fit(datasets: Sequence[Dataset], choices: Sequence[BoxPreset]) -> Fit | None:
    """Fit to the first split, and evaluate on the second."""
    parts = [(dataset.split, gather(dataset).boxes) for dataset in datasets[:2]]
    if not parts or not len(parts[0][1]):
        return None
    own = choices[0].boxes
    same_levels = [choice for choice in choices if choice.boxes.grids == own.grids]
    shapes = fit(parts[0][1], *(choice.boxes for choice in same_levels))
    sets = {choice.name: choice.boxes for choice in same_levels} | {FITTED: shapes.settings(own)}
    reached = {
        name: tuple(bucket(best_overlaps(objects, boxes)) for _, objects in parts) for name, boxes in sets.items()
    }
    return Fit(shapes, tuple(split for split, _ in parts), reached)


def _usable(split: Split, seen: Sequence[Seen]) -> Dataset:
    records = split.dataset.records
    good = tuple(record for record, image in zip(records, seen, strict=True) if image.digest is not None)
    return dataclasses.replace(split.dataset, records=good)
