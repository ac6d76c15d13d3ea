"""The page of a run: its curves, its config and its environment.

It is made from the files in the run's folder alone, so it can be written during the run and at any time afterwards.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssd.report.axes import Axis
from ssd.report.blocks import Block, Chart, Facts, Page, Row, Section, Source, Table, Text, Tile, number
from ssd.report.charts import COLORS, Series, line_chart
from ssd.report.page import write_page
from ssd.report.run_log import read_rows

PAGE = "report.html"
_POINTS = 250  # most points of a line
_ROWS = 60  # most evaluations in the table
# Chart -> columns of the training log and of the validation log, and what they are.
_LOSSES = {
    "Loss": (("loss", "loss_total", ""),),
    "Box and class loss": (
        ("loss_box", "loss_box", "box"),
        ("loss_confidence", "loss_confidence", "class"),
    ),
}
_FIGURES = ("AP", "AP50", "AP75", "AP07")
_SIZES = (("APs", "small"), ("APm", "medium"), ("APl", "large"))
_DRAWN = {
    "step",
    "epoch",
    "lr",
    "images_per_second",
    *(column for columns in _LOSSES.values() for column, *_ in columns),
}
_TITLES = {
    "missed_best_box": ("Objects that got their second choice", "objects since the start"),
    "positives": ("Matched default boxes", "a batch"),
    "dead_units": ("Dead units", "share"),
}
RunRow = Mapping[str, Any]


def write_training_page(folder: str | Path, made: str = "") -> Path:
    """Write `report.html` into a run's folder, from its train.jsonl, val.jsonl, config.yaml and environment.json.

    Raises:
        SSDError: the file cannot be written.
    """
    folder = Path(folder)
    page = training_page(
        folder.name,
        _rows(folder / "train.jsonl"),
        _rows(folder / "val.jsonl"),
        config=_text(folder / "config.yaml"),
        environment=json.loads(_text(folder / "environment.json") or "{}"),
        made=made,
    )
    return write_page(page, folder / PAGE)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a log that have an epoch, as all rows of the trainer do."""
    return [row for row in read_rows(path) if isinstance(row.get("epoch"), int) and row["epoch"] > 0]


def training_page(
    name: str,
    train: Sequence[RunRow],
    val: Sequence[RunRow],
    *,
    config: str = "",
    environment: Mapping[str, Any] | None = None,
    made: str = "",
) -> Page:
    """Lay out the page of a run, which may have no rows yet."""
    epochs = _Epochs(train, val)
    sections = [
        _losses(train, val, epochs),
        _figures(val, epochs),
        _pace(train, epochs),
        _setup(config, environment or {}),
    ]
    last = train[-1] if train else {"step": 0, "epoch": 0}
    return Page(
        title=f"Training: {name}",
        subtitle=f"after step {last['step']}, in epoch {last['epoch']}",
        sections=[section for section in sections if section.blocks],
        tiles=_tiles(train, val) if train else [],
        verdict=None if train else Text("No step has been logged yet."),
        made=made,
    )


class _Epochs:
    """The time axis of the charts: epochs where their length is known, else steps."""

    def __init__(self, train: Sequence[RunRow], val: Sequence[RunRow]) -> None:
        # The last step of an epoch is always logged, so an epoch is complete once a later one has a row.
        ends = {row["epoch"]: row["step"] for row in train}
        whole = [epoch for epoch in ends if epoch < max(ends)]
        self.length = ends[whole[0]] / whole[0] if whole else 1.0
        last = max((row["step"] for row in (*train, *val)), default=1) / self.length
        self.axis = Axis(0.0, last, "epoch" if whole else "step")  # the same for every chart

    def at(self, rows: Sequence[RunRow]) -> list[float]:
        """Positions of these rows on the axis."""
        return [row["step"] / self.length for row in rows]


def _tiles(train: Sequence[RunRow], val: Sequence[RunRow]) -> list[Tile]:
    best = max((row for row in val if row.get("AP") is not None), key=lambda row: row["AP"], default=None)
    tiles = [Tile("loss", number(train[-1].get("loss")), "of the last row")]
    if best is not None:
        tiles.insert(0, Tile("best AP", number(best["AP"]), f"after epoch {best['epoch']}"))
        tiles.insert(1, Tile("its AP50", number(best.get("AP50")), "IoU 0.50"))
    rates = [row["images_per_second"] for row in train if "images_per_second" in row]
    if rates:
        tiles.append(Tile("images/s", f"{sorted(rates)[len(rates) // 2]:.1f}", "median of the rows"))
    return tiles


def _losses(train: Sequence[RunRow], val: Sequence[RunRow], epochs: _Epochs) -> Section:
    blocks: list[Block] = []
    for title, columns in _LOSSES.items():
        series = [
            *_series(train, [(column, f"{name} training".lstrip()) for column, _, name in columns], epochs),
            *_series(val, [(column, f"{name} validation".lstrip()) for _, column, name in columns], epochs),
        ]
        if series:
            colored = [dataclasses.replace(one, color=place + 1) for place, one in enumerate(series)]
            blocks.append(line_chart(title, colored, x=epochs.axis, y="loss"))
    if train:
        blocks.append(_over_time("Learning rate", train, [("lr", "lr")], epochs, "learning rate"))
    return Section("losses", "Loss", blocks)


def _figures(val: Sequence[RunRow], epochs: _Epochs) -> Section:
    """The curves and the table of the evaluations."""
    known = [name for name in _FIGURES if any(row.get(name) is not None for row in val)]
    blocks: list[Block] = []
    if known:
        blocks.append(_over_time("Average precision", val, [(name, name) for name in known], epochs, Axis(0, 1, "AP")))
    sizes = [(key, name) for key, name in _SIZES if any(row.get(key) is not None for row in val)]
    if sizes:
        blocks.append(_over_time("Average precision by object size", val, sizes, epochs, Axis(0, 1, "AP")))
    if val:
        columns = [*known, *(key for key, _ in sizes), "loss_total"]
        rows: list[Row] = [
            [str(row["epoch"]), str(row["step"]), *(number(row.get(column)) for column in columns)]
            for row in val[-_ROWS:]
        ]
        blocks.append(Table(["epoch", "step", *columns[:-1], "loss"], rows, "Evaluations", note="n/a: no such object."))
    return Section("figures", "Evaluations", blocks)


def _pace(train: Sequence[RunRow], epochs: _Epochs) -> Section:
    """Images per second and the other columns of the log."""
    blocks: list[Block] = []
    if any("images_per_second" in row for row in train):
        blocks.append(_over_time("Speed", train, [("images_per_second", "images/s")], epochs, "images/s"))
    for column in dict.fromkeys(key for row in train for key, value in row.items() if _is_number(value)):
        if column not in _DRAWN:
            title, label = _TITLES.get(column, (column, column))
            blocks.append(_over_time(title, train, [(column, label)], epochs, label))
    return Section("pace", "Speed and matching", blocks)


def _over_time(
    title: str, rows: Sequence[RunRow], columns: Iterable[tuple[str, str]], epochs: _Epochs, label: str | Axis
) -> Chart:
    return line_chart(title, _series(rows, columns, epochs), x=epochs.axis, y=label)


def _series(rows: Sequence[RunRow], columns: Iterable[tuple[str, str]], epochs: _Epochs) -> list[Series]:
    """A line for each column that some row has."""
    times, series = epochs.at(rows), []
    logged = [(column, name) for column, name in columns if any(column in row for row in rows)]
    for place, (column, name) in enumerate(logged):
        values = [float(row[column]) if _is_number(row.get(column)) else float("nan") for row in rows]
        series.append(Series(name, *_thinned(times, values), color=place % COLORS + 1))
    return series


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most `_POINTS` points: means of equal intervals, so that a spike remains visible."""
    size = -(-len(x) // _POINTS) or 1
    starts = range(0, len(x), size)
    return [_mean(x[start : start + size]) for start in starts], [_mean(y[start : start + size]) for start in starts]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _setup(config: str, environment: Mapping[str, Any]) -> Section:
    blocks: list[Block] = []
    if environment:
        classes = environment.get("class_names", [])
        command = " ".join(map(str, environment.get("command", [])))
        pairs = [("classes", f"{len(classes)}: {', '.join(map(str, classes))}"), ("command", command)]
        pairs += [(key, str(environment.get(key, "unknown"))) for key in ("seed", "python", "platform", "git_commit")]
        pairs += [(name, str(version)) for name, version in environment.get("versions", {}).items()]
        blocks.append(Facts(pairs, "Run"))
    if config:
        blocks.append(Source(config, "Config"))
    return Section("setup", "Set-up", blocks)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
