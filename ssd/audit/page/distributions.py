"""Charts of a data set: classes, objects per image, and object sizes and shapes beside those of default boxes."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from ssd.audit.report import Report
from ssd.data.dataset import Dataset
from ssd.data.objects import gather
from ssd.report.blocks import Block, Cell, Chart, Row, Section, Table
from ssd.report.charts import bar_chart

_FINEST, _COARSEST = 4.0, 1024.0  # pixels at the network's input
_WIDEST = 8.0  # aspect ratio
_OBJECTS = (1, 2, 3, 5, 9, 17, 33, 65)  # lower bounds of bins of objects in an image


def class_section(report: Report) -> Section:
    """Counts of every class, the splits side by side."""
    splits = report.splits
    known = {(split.name, row.name): row for split in splits for row in split.classes}
    # Shares of the split, on one scale for all splits: a class that is rarer in one of them has a shorter bar there.
    greatest = max((row.objects / max(split.objects, 1) for split in splits for row in split.classes), default=0.0)
    rows: list[Row] = []
    for name in dict.fromkeys(row.name for split in splits for row in split.classes):
        cells: Row = [name]
        for split in splits:
            row = known.get((split.name, name))
            objects, images = (row.objects, row.images) if row is not None else (0, 0)
            share = objects / max(split.objects, 1)
            cells += [Cell(f"{objects:,}", bar=share / (greatest or 1.0)), f"{images:,}"]
        rows.append(cells)
    head = ["class", *(text for split in splits for text in (f"{split.name} objects", "in images"))]
    note = "Bars: the class's share of the objects of the split, on one scale for all splits."
    blocks: list[Block] = [Table(head, rows, note=note)] if rows else []
    per_image = {
        split.name: [int((~record.crowd).sum()) for record in report.dataset(split).records] for split in splits
    }
    if any(per_image.values()):
        blocks.append(_per_image({name: counts for name, counts in per_image.items() if counts}))
    intro = "Rare classes are learned late and badly; a class that one split lacks cannot be judged."
    return Section("classes", "Class balance", blocks, intro)


def _per_image(counts: Mapping[str, Sequence[int]]) -> Chart:
    labels = ["0", *(_range(low, high) for low, high in zip(_OBJECTS, [*_OBJECTS[1:], 0], strict=True))]
    edges = [0, *_OBJECTS, np.inf]
    series = {name: _shares(np.histogram(own, edges)[0]) for name, own in counts.items()}
    return bar_chart("Objects in an image", labels, series, x="objects", y="share of the images")


def _range(low: int, high: int) -> str:
    return f"{low}+" if not high else str(low) if high == low + 1 else f"{low}-{high - 1}"


def size_section(report: Report) -> Section:
    """Sizes and aspect ratios of the objects at the network's input, beside those of the default boxes."""
    own = report.choices[0].boxes
    sides = {split.name: _sides(report.dataset(split), own.input_size) for split in report.splits}
    sides = {name: values for name, values in sides.items() if len(values)}
    if not sides:
        return Section("sizes", "Sizes and shapes", [])
    size_edges = 2.0 ** np.arange(np.log2(_FINEST), np.log2(_COARSEST) + 0.5, 0.5)
    ratio_edges = 2.0 ** np.arange(-np.log2(_WIDEST), np.log2(_WIDEST) + 0.25, 0.5)
    lengths = {name: np.sqrt(values.prod(axis=1)) for name, values in sides.items()}
    ratios = {name: values[:, 0] / values[:, 1] for name, values in sides.items()}
    sizes = sorted({round(float(size), 1) for size in own.min_sizes})
    both = [1.0, *(r for level in own.aspect_ratios for ratio in level for r in (ratio, 1 / ratio))]
    shapes = sorted({round(float(ratio), 3) for ratio in both})
    blocks: list[Block] = [
        _histogram("Object sizes", lengths, size_edges, sizes, x="square root of the area, pixels of the input"),
        _histogram("Aspect ratios", ratios, ratio_edges, shapes, x="width / height at the input"),
        _percentiles(lengths),
    ]
    intro = (
        f"As the network sees them, resized to {own.input_size} x {own.input_size} pixels. Dotted: the default "
        "boxes' own sizes and aspect ratios. What lies far from all of them is hard to learn."
    )
    return Section("sizes", "Sizes and shapes", blocks, intro)


def _sides(dataset: Dataset, input_size: int) -> Float[np.ndarray, "N 2"]:
    """Width and height of each object at the network's input, in pixels."""
    boxes = gather(dataset).boxes.numpy()
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).astype(float) * input_size)


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


def _percentiles(lengths: Mapping[str, np.ndarray]) -> Table:
    levels = (1, 5, 25, 50, 75, 95, 99)
    rows: list[Row] = [
        [name, *(f"{value:.1f}" for value in np.percentile(own, levels))] for name, own in lengths.items()
    ]
    return Table(["size at percentile", *map(str, levels)], rows)
