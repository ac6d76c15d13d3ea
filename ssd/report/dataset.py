"""The dataset doctor's page: what is in a data set, what is wrong with it, what the default boxes reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ssd.report.blocks import (
    Block,
    Cell,
    Chart,
    Gallery,
    Lines,
    Page,
    Picture,
    Row,
    Section,
    Source,
    Table,
    Text,
    Tile,
    number,
    percent,
)
from ssd.report.charts import Axis, bar_chart

_FINEST, _COARSEST = 4.0, 1024.0  # pixels at the network's input
_WIDEST = 8.0  # aspect ratio
_OBJECTS = (1, 2, 3, 5, 9, 17, 33, 65)  # lower bounds of bins of objects in a picture


@dataclass(frozen=True)
class ClassRow:
    """What there is of one class in one split."""

    name: str
    objects: int
    pictures: int


@dataclass(frozen=True)
class Wrong:
    """One kind of problem in one split, and what becomes of it."""

    kind: str
    count: int
    fate: str  # stops, noted, left out by ...
    lines: Sequence[str]


@dataclass(frozen=True)
class SplitFigures:
    """One split."""

    name: str
    pictures: int
    objects: int
    empty: int  # pictures without objects
    classes: Sequence[ClassRow]
    sides: Float[np.ndarray, "N 2"]  # width and height of each object at the network's input, in pixels
    per_picture: Sequence[int]  # objects in each picture
    wrong: Sequence[Wrong]


@dataclass(frozen=True)
class Reached:
    """What one set of default boxes reaches; figures by object size, `all` among them."""

    name: str
    default_boxes: int
    recall: Mapping[str, float | None]
    mean: Mapping[str, float | None]


@dataclass(frozen=True)
class Fitted:
    """Default boxes fitted to the data."""

    splits: Sequence[str]
    reached: Mapping[str, Sequence[float | None]]  # by the name of the boxes: recall in each split
    worth: str
    config: str  # YAML, empty where the tables are as good


@dataclass(frozen=True)
class DatasetFigures:
    """Everything that the doctor's page shows."""

    folder: str
    verdict: str
    stops: bool
    cautions: Sequence[str]
    splits: Sequence[SplitFigures]
    input_size: int
    box_sizes: Sequence[float]  # of the levels' square default boxes, in pixels of the input
    box_ratios: Sequence[float]  # of all levels, 1 and inverses among them
    reached: Sequence[Reached]  # of the first split's objects
    remarks: Sequence[str]  # on what is not reached
    folder_problems: Sequence[str]
    wrong_pictures: Sequence[Picture]
    hardest: Sequence[Picture]
    copies: Sequence[str]
    augmented: Picture | None
    fit: Fitted | None
    made: str = ""


def dataset_page(figures: DatasetFigures) -> Page:
    """Lay out the page."""
    counts = ", ".join(f"{split.name} {split.pictures} pictures" for split in figures.splits)
    sections = [
        _problems(figures),
        _classes(figures),
        _sizes(figures),
        _reach(figures),
        *([_fit(figures.fit)] if figures.fit is not None else []),
        _augmented(figures),
    ]
    return Page(
        title=f"Data set: {figures.folder.rstrip('/').rpartition('/')[2] or figures.folder}",
        subtitle=f"{figures.folder}: {counts}",
        sections=[section for section in sections if section.blocks],
        tiles=_tiles(figures),
        verdict=Text(f"{figures.verdict[:1].upper()}{figures.verdict[1:]}.", "bad" if figures.stops else "good"),
        made=figures.made,
    )


def _tiles(figures: DatasetFigures) -> list[Tile]:
    splits = figures.splits
    wrong = sum(wrong.count for split in splits for wrong in split.wrong if wrong.fate == "stops")
    tiles = [
        Tile(
            "pictures",
            f"{sum(split.pictures for split in splits):,}",
            f"in {len(splits)} split" + "s" * (len(splits) != 1),
        ),
        Tile("objects", f"{sum(split.objects for split in splits):,}", "crowd regions apart"),
        Tile("classes", str(len({row.name for split in splits for row in split.classes}))),
        Tile("bad", f"{wrong + len(figures.folder_problems):,}", "problems at which training would stop"),
    ]
    if figures.reached:
        own = figures.reached[0]
        tiles.append(Tile("reached", percent(own.recall["all"]), f"objects of {splits[0].name}, {own.name}"))
    return tiles


def _problems(figures: DatasetFigures) -> Section:
    blocks: list[Block] = []
    if figures.cautions:
        blocks.append(Lines(figures.cautions, "Worth a look"))
    if figures.folder_problems:
        blocks.append(Lines(figures.folder_problems, "The folder"))
    rows: list[Row] = [
        [split.name, wrong.kind, wrong.fate, str(wrong.count)] for split in figures.splits for wrong in split.wrong
    ]
    if rows:
        blocks.append(Table(["split", "problem", "what becomes of it", "count"], rows, words=3))
    if figures.wrong_pictures:
        note = "Orange: the box in question, as far as it lies in the picture."
        blocks.append(Gallery(figures.wrong_pictures, "Where they are", note, 200))
    for split in figures.splits:
        for wrong in split.wrong:
            blocks.append(Lines(wrong.lines, f"{split.name}: {wrong.kind}", shown=20))
    if figures.copies:
        blocks.append(Lines(figures.copies, f"Pictures with the same content: {len(figures.copies)}", shown=20))
    return Section("problems", "Problems", blocks or [Text("None found.", "good")])


def _classes(figures: DatasetFigures) -> Section:
    """What occurs of every class, the splits side by side."""
    names = list(dict.fromkeys(row.name for split in figures.splits for row in split.classes))
    known = {(split.name, row.name): row for split in figures.splits for row in split.classes}
    rows: list[Row] = []
    for name in names:
        cells: Row = [name]
        for split in figures.splits:
            row = known.get((split.name, name), ClassRow(name, 0, 0))
            most = max((other.objects for other in split.classes), default=0) or 1
            cells += [Cell(f"{row.objects:,}", bar=row.objects / most), f"{row.pictures:,}"]
        rows.append(cells)
    head = ["class", *(text for split in figures.splits for text in (f"{split.name} objects", "in pictures"))]
    blocks: list[Block] = [Table(head, rows)] if rows else []
    if any(split.per_picture for split in figures.splits):
        blocks.append(_per_picture(figures.splits))
    intro = "Rare classes are learned late and badly; a class that one split lacks cannot be judged."
    return Section("classes", "Class balance", blocks, intro)


def _per_picture(splits: Sequence[SplitFigures]) -> Chart:
    labels = ["0", *(_range(low, high) for low, high in zip(_OBJECTS, [*_OBJECTS[1:], 0], strict=True))]
    edges = [0, *_OBJECTS, np.inf]
    series = {split.name: _shares(np.histogram(split.per_picture, edges)[0]) for split in splits if split.per_picture}
    return bar_chart("Objects in a picture", labels, series, x="objects", y="share of the pictures")


def _range(low: int, high: int) -> str:
    return f"{low}+" if not high else str(low) if high == low + 1 else f"{low}-{high - 1}"


def _sizes(figures: DatasetFigures) -> Section:
    splits = [split for split in figures.splits if len(split.sides)]
    if not splits:
        return Section("sizes", "Sizes and shapes", [])
    size_edges = 2.0 ** np.arange(np.log2(_FINEST), np.log2(_COARSEST) + 0.5, 0.5)
    ratio_edges = 2.0 ** np.arange(-np.log2(_WIDEST), np.log2(_WIDEST) + 0.25, 0.5)
    lengths = {split.name: np.sqrt(split.sides.prod(axis=1)) for split in splits}
    ratios = {split.name: split.sides[:, 0] / split.sides[:, 1] for split in splits}
    sizes = sorted({round(float(size), 1) for size in figures.box_sizes})
    shapes = sorted({round(float(ratio), 3) for ratio in figures.box_ratios})
    blocks: list[Block] = [
        _histogram("Object sizes", lengths, size_edges, sizes, x="square root of the area, pixels of the input"),
        _histogram("Aspect ratios", ratios, ratio_edges, shapes, x="width / height at the input"),
        _percentiles(splits, lengths),
    ]
    intro = (
        f"As the network sees them, resized to {figures.input_size} x {figures.input_size} pixels. Dotted: the default "
        "boxes' own sizes and aspect ratios. What lies far from all of them is hard to learn."
    )
    return Section("sizes", "Sizes and shapes", blocks, intro)


def _histogram(
    title: str, values: Mapping[str, np.ndarray], edges: np.ndarray, marks: Sequence[float], *, x: str
) -> Chart:
    """Shares of each split in bins of equal ratio, from the least to the greatest of values and marks.

    What lies beyond the ends of `edges` is in the last bins.
    """
    counts = {name: np.histogram(own.clip(edges[0], edges[-1]), edges)[0] for name, own in values.items()}
    marked = np.histogram(np.clip(marks, edges[0], edges[-1]), edges)[0]
    occupied = np.flatnonzero(np.sum([*counts.values(), marked], axis=0))
    first, last = int(occupied[0]), int(occupied[-1]) + 1
    shown = edges[first : last + 1]
    series = {name: _shares(own)[first:last] for name, own in counts.items()}
    step = np.log2(shown[1] / shown[0])
    places = [(float(np.log2(mark / shown[0]) / step), f"default box: {mark:g}") for mark in marks]
    inside = [place for place in places if 0 <= place[0] <= len(shown) - 1]
    labels = [f"{edge:.2g}" if edge < 10 else f"{edge:.0f}" for edge in shown]
    return bar_chart(title, labels, series, x=x, y="share of the objects", marks=inside)


def _shares(counts: np.ndarray) -> list[float]:
    shares: list[float] = (counts / max(counts.sum(), 1)).tolist()
    return shares


def _percentiles(splits: Sequence[SplitFigures], lengths: Mapping[str, np.ndarray]) -> Table:
    levels = (1, 5, 25, 50, 75, 95, 99)
    rows: list[Row] = [
        [split.name, *(f"{value:.1f}" for value in np.percentile(lengths[split.name], levels))] for split in splits
    ]
    return Table(["size at percentile", *map(str, levels)], rows)


def _reach(figures: DatasetFigures) -> Section:
    if not figures.reached:
        return Section("reach", "What the default boxes reach", [])
    sizes = list(figures.reached[0].recall)
    chart = bar_chart(
        "Share reached",
        sizes,
        {one.name: [one.recall[size] for size in sizes] for one in figures.reached},
        x="size of the object",
        y=Axis(0, 1, "IoU of 0.5 or more"),
    )
    rows: list[Row] = [
        [one.name, f"{one.default_boxes:,}", *(f"{number(one.recall[s])} / {number(one.mean[s])}" for s in sizes)]
        for one in figures.reached
    ]
    note = (
        "Share of the objects with an IoU of 0.5 / mean of the best IoUs. Sizes are COCO's, in pixels of the picture."
    )
    blocks: list[Block] = [chart, Table(["default boxes", "number", *sizes], rows, note=note)]
    if figures.remarks:
        blocks.append(Lines(figures.remarks))
    if figures.hardest:
        blocks.append(Gallery(figures.hardest, "Farthest from any default box", "", 180))
    intro = (
        f"An object of {figures.splits[0].name} is reached when a default box overlaps it by 0.5; otherwise it learns "
        "from its one best box, which has a long way to go. The paper's tables at 300 and 512 pixels side by side."
    )
    return Section("reach", "What the default boxes reach", blocks, intro)


def _fit(fit: Fitted) -> Section:
    rows: list[Row] = [
        [name, *(Cell(number(recall), bar=recall) for recall in recalls)] for name, recalls in fit.reached.items()
    ]
    blocks: list[Block] = [Table(["default boxes", *fit.splits], rows), Text(fit.worth)]
    if fit.config:
        blocks.append(Source(fit.config, "For the config of a run that does not start from another detector's weights"))
    return Section("fit", "Fitted default boxes", blocks, "Share of the objects with an IoU of 0.5.")


def _augmented(figures: DatasetFigures) -> Section:
    blocks = [Gallery([figures.augmented], width=600)] if figures.augmented is not None else []
    intro = "Augmented training pictures, as the network is shown them in the first epoch."
    return Section("augmented", "What training shows", blocks, intro)
