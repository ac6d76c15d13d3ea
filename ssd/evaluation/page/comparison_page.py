"""The page of a comparison: the conclusion, every figure of both detectors with intervals, and the classes."""

from collections.abc import Mapping, Sequence

from ssd.evaluation.comparison import Comparison, cells, conclusion, notes, rows_by_change
from ssd.evaluation.metrics.intervals import ends
from ssd.report.blocks import Block, Facts, Page, Row, Section, Table, Text, Tile, number
from ssd.report.charts import range_chart
from ssd.report.page import made_by
from ssd.system.version import __version__

_DRAWN = 40  # most classes in the chart: half of them with the greatest losses, half with the greatest gains
_HEAD = ["A", "A, 95 %", "B", "B, 95 %", "B - A", "B - A, 95 %", "B is", "images needed"]
_TONES = {"better": "good", "worse": "bad", "cannot be told": "plain"}


def comparison_page(
    comparison: Comparison, a: str, b: str, facts: Mapping[str, str], warnings: Sequence[str] = ()
) -> Page:
    """Lay out the page; `facts` name the data and settings."""
    one = comparison.overall[comparison.headline]
    tiles = [
        Tile(f"A, {comparison.headline}", number(one.a.value), ends(one.a)),
        Tile(f"B, {comparison.headline}", number(one.b.value), ends(one.b)),
        Tile("B - A", "n/a" if one.change.value is None else f"{one.change.value:+.3f}", ends(one.change, signed=True)),
        Tile("can be told from", number(one.least_told), f"with {one.images} images, in four cases of five"),
    ]
    blocks: list[Block] = [Text(line, "bad") for line in warnings]
    return Page(
        title="Comparison",
        subtitle=f"A: {a} · B: {b}",
        sections=[
            Section("figures", "Over all classes", [*blocks, _overall(comparison)], " ".join(notes(comparison))),
            _classes(comparison),
            Section("setup", "Data and set-up", [Facts(list(facts.items()), "Measured on")]),
        ],
        tiles=tiles,
        verdict=Text(conclusion(comparison), _TONES[comparison.verdict]),
        made=made_by(__version__),
    )


def _overall(comparison: Comparison) -> Table:
    rows: list[Row] = [[name, *cells(one)] for name, one in comparison.overall.items() if one.change.value is not None]
    note = (
        "Images needed: about how many would tell a difference of the measured size, in four cases of five. The "
        "difference has a smaller interval than the figures, since both detectors saw the same images."
    )
    return Table(["figure", *_HEAD], rows, "", note)


def _classes(comparison: Comparison) -> Section:
    figure = comparison.headline
    known = rows_by_change(comparison, figure)
    drawn = known if len(known) <= _DRAWN else [*known[: _DRAWN // 2], *known[-_DRAWN // 2 :]]
    ranges = [
        (name, one.change.value, one.change.low, one.change.high)
        for name, one in drawn
        if one.change.value is not None and one.change.low is not None and one.change.high is not None
    ]
    blocks: list[Block] = []
    if ranges:
        note = "The greatest loss first. Where the line crosses 0, it cannot be told."
        note += f" {len(drawn)} of {len(known)} classes." if len(drawn) < len(known) else ""
        blocks.append(range_chart(f"B - A, {figure} of each class", ranges, x="class", y=figure, note=note))
    for name, by_class in comparison.per_class.items():
        rows: list[Row] = [
            [label, str(comparison.objects[label]), *cells(one)]
            for label, one in by_class.items()
            if one.change.value is not None
        ]
        if rows:
            blocks.append(Table(["class", "objects", *_HEAD], rows, name))
    return Section("classes", "By class", blocks)
