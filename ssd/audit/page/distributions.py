"""What is in a data set: classes, objects in an image, their sizes and shapes beside the default boxes'."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ssd.report.blocks import Block, Cell, Chart, Row, Section, Table
from ssd.report.charts import bar_chart

_FINEST, _COARSEST = 4.0, 1024.0  # pixels at the network's input
_WIDEST = 8.0  # aspect ratio
_OBJECTS = (1, 2, 3, 5, 9, 17, 33, 65)  # lower bounds of bins of objects in an image


@dataclass(frozen=True)
class ClassRow:
    """What there is of one class in one split."""

    name: str
    objects: int
    images: int


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
    images: int
    objects: int
    empty: int  # images without objects
    classes: Sequence[ClassRow]
    sides: Float[np.ndarray, "N 2"]  # width and height of each object at the network's input, in pixels
    per_image: Sequence[int]  # objects in each image
    wrong: Sequence[Wrong]


def class_section(splits: Sequence[SplitFigures]) -> Section:
    """What occurs of every class, the splits side by side."""
    names = list(dict.fromkeys(row.name for split in splits for row in split.classes))
    known = {(split.name, row.name): row for split in splits for row in split.classes}
    rows: list[Row] = []
    for name in names:
        cells: Row = [name]
        for split in splits:
            row = known.get((split.name, name), ClassRow(name, 0, 0))
            most = max((other.objects for other in split.classes), default=0) or 1
            cells += [Cell(f"{row.objects:,}", bar=row.objects / most), f"{row.images:,}"]
        rows.append(cells)
    head = ["class", *(text for split in splits for text in (f"{split.name} objects", "in images"))]
    blocks: list[Block] = [Table(head, rows)] if rows else []
    if any(split.per_image for split in splits):
        blocks.append(_per_image(splits))
    intro = "Rare classes are learned late and badly; a class that one split lacks cannot be judged."
    return Section("classes", "Class balance", blocks, intro)


def _per_image(splits: Sequence[SplitFigures]) -> Chart:
    labels = ["0", *(_range(low, high) for low, high in zip(_OBJECTS, [*_OBJECTS[1:], 0], strict=True))]
    edges = [0, *_OBJECTS, np.inf]
    series = {split.name: _shares(np.histogram(split.per_image, edges)[0]) for split in splits if split.per_image}
    return bar_chart("Objects in an image", labels, series, x="objects", y="share of the images")


def _range(low: int, high: int) -> str:
    return f"{low}+" if not high else str(low) if high == low + 1 else f"{low}-{high - 1}"


def size_section(
    every: Sequence[SplitFigures], input_size: int, box_sizes: Sequence[float], box_ratios: Sequence[float]
) -> Section:
    """How large the objects are and of which shape, beside the default boxes (sizes in pixels of the input)."""
    splits = [split for split in every if len(split.sides)]
    if not splits:
        return Section("sizes", "Sizes and shapes", [])
    size_edges = 2.0 ** np.arange(np.log2(_FINEST), np.log2(_COARSEST) + 0.5, 0.5)
    ratio_edges = 2.0 ** np.arange(-np.log2(_WIDEST), np.log2(_WIDEST) + 0.25, 0.5)
    lengths = {split.name: np.sqrt(split.sides.prod(axis=1)) for split in splits}
    ratios = {split.name: split.sides[:, 0] / split.sides[:, 1] for split in splits}
    sizes = sorted({round(float(size), 1) for size in box_sizes})
    shapes = sorted({round(float(ratio), 3) for ratio in box_ratios})
    blocks: list[Block] = [
        _histogram("Object sizes", lengths, size_edges, sizes, x="square root of the area, pixels of the input"),
        _histogram("Aspect ratios", ratios, ratio_edges, shapes, x="width / height at the input"),
        _percentiles(splits, lengths),
    ]
    intro = (
        f"As the network sees them, resized to {input_size} x {input_size} pixels. Dotted: the default "
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
