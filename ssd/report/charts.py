"""Line and bar charts as SVG inside the page: its style sheet gives colours and letters, so they follow light and dark.

Drawn here and not by matplotlib because a run writes its page at every evaluation: milliseconds and a few kilobytes,
where importing matplotlib alone takes a second.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ssd.report.blocks import MISSING, Chart

Number = int | float
WIDTH, HEIGHT = 440.0, 270.0
COLORS = 8  # of the style sheet
_TOP, _RIGHT, _BOTTOM = 12.0, 14.0, 44.0
_LETTER = 6.6  # pixels, the mean width of a digit of the labels
_FEW = 30  # points that are drawn as dots, too
_LABELLED_BARS = 20  # bars that have room for their figure


@dataclass(frozen=True)
class Series:
    """One line. NaN in `y` is a gap; a faint line is the background of another, and is not in the legend."""

    name: str
    x: Sequence[Number]
    y: Sequence[Number]
    color: int = 1
    faint: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """What one side shows: from `low` to `high`, with its label."""

    low: Number
    high: Number
    label: str

    def step(self, count: int = 5) -> float:
        """A round number that fits about `count` times into the range."""
        raw = (self.high - self.low) / count
        magnitude = 10.0 ** math.floor(math.log10(raw))
        return next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * (1 - 1e-9))

    def ticks(self) -> list[float]:
        """Round numbers inside the range."""
        step = self.step()
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(place * step, 12) for place in range(first, last + 1)]


def axis_over(values: Iterable[Number], label: str) -> Axis:
    """An axis from 0, or from the least value below it, that ends on a round number above all values; NaN is none."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *known]), max([0.0, *known])
    if high == low:
        return Axis(0.0, 1.0, label)
    step = Axis(low, high, label).step()
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, label)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x: str | Axis,
    y: str | Axis,
    diagonal: bool = False,
    note: str = "",
    marks: Sequence[tuple[Number, str]] = (),
) -> Chart:
    """Lines over a common axis; `marks` are places on it that deserve a line and a word."""
    if isinstance(x, str):
        x = axis_over((value for one in series for value in one.x), x)
    if isinstance(y, str):
        y = axis_over((value for one in series for value in one.y), y)
    frame = _Frame(x, y)
    parts = [frame.grid(), frame.x_labels([(tick, short(tick)) for tick in x.ticks()])]
    if diagonal:
        parts.append(frame.segment(x.low, y.low, x.high, y.high, "guide", ""))
    parts += [frame.segment(place, y.low, place, y.high, "mark", text) for place, text in marks]
    parts += [_line(frame, one) for one in series]
    named = [one for one in series if not one.faint]
    legend = [(one.name, one.color) for one in named] if len(named) > 1 else ()
    return Chart(title, frame.svg(title, parts), legend, note)


def bar_chart(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[Number | None]],
    *,
    x: str,
    y: str | Axis,
    diagonal: bool = False,
    marks: Sequence[tuple[Number, str]] = (),
    note: str = "",
    digits: int = 2,
) -> Chart:
    """Bars side by side in one slot for each label; with one label more than bars, labels stand between the slots.

    `marks` are places in slots from the left. What is None has no bar.
    """
    slots = max(map(len, series.values()))
    between = len(labels) == slots + 1
    if isinstance(y, str):
        y = axis_over((v for values in series.values() for v in values if v is not None), y)
    frame = _Frame(Axis(0.0, float(slots), x), y)
    places = [(place + (0.0 if between else 0.5), text) for place, text in enumerate(labels)]
    parts = [frame.grid(), frame.x_labels(places)]
    for row, (name, values) in enumerate(series.items()):
        parts.append(_bars(frame, name, values, row, len(series), tight=between, digits=digits))
    absent = [place for place in range(slots) if all(values[place] is None for values in series.values())]
    if not between:
        parts += [frame.word(place + 0.5, MISSING) for place in absent]
    if diagonal:
        parts.append(frame.segment(0.0, y.low, float(slots), y.high, "guide", ""))
    parts += [frame.segment(place, y.low, place, y.high, "mark", text) for place, text in marks]
    legend = [(name, row % COLORS + 1) for row, name in enumerate(series)] if len(series) > 1 else ()
    return Chart(title, frame.svg(title, parts), legend, note)


def short(value: Number) -> str:
    """A number for an axis, as short as can be."""
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


class _Frame:
    """Two axes on the canvas, and what is drawn between them."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y
        self.left = 30.0 + _LETTER * max((len(short(tick)) for tick in y.ticks()), default=1)

    def across(self, value: Number) -> float:
        """From the x axis to pixels."""
        return self.left + (value - self.x.low) / (self.x.high - self.x.low) * (WIDTH - _RIGHT - self.left)

    def up(self, value: Number) -> float:
        """From the y axis to pixels."""
        return HEIGHT - _BOTTOM - (value - self.y.low) / (self.y.high - self.y.low) * (HEIGHT - _BOTTOM - _TOP)

    def grid(self) -> Markup:
        """Horizontal lines with their numbers, and what both axes show."""
        lines = [
            Markup(
                '<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/><text class="end" x="{:.1f}" y="{:.1f}">{}</text>'
            ).format(self.left, self.up(tick), WIDTH - _RIGHT, self.left - 6, self.up(tick) + 4, short(tick))
            for tick in self.y.ticks()
        ]
        middle = (HEIGHT - _BOTTOM + _TOP) / 2
        lines.append(
            Markup('<text class="mid" x="{:.1f}" y="{:.1f}">{}</text>').format(
                (self.left + WIDTH - _RIGHT) / 2, HEIGHT - 6, self.x.label
            )
        )
        lines.append(
            Markup('<text class="mid" transform="translate(12 {:.1f}) rotate(-90)">{}</text>').format(
                middle, self.y.label
            )
        )
        return Markup("").join(lines)

    def x_labels(self, places: Sequence[tuple[Number, str]]) -> Markup:
        """The words below the axis, every second or third of them where there is no room for all."""
        needed = sum(_LETTER * (len(text) + 1.5) for _, text in places)
        every = max(1, math.ceil(needed / (WIDTH - _RIGHT - self.left)))
        return Markup("").join(
            Markup('<text class="mid" x="{:.1f}" y="{:.1f}">{}</text>').format(
                self.across(place), HEIGHT - _BOTTOM + 17, text
            )
            for place, text in places[::every]
        )

    def segment(self, x1: Number, y1: Number, x2: Number, y2: Number, style: str, text: str) -> Markup:
        """A straight line, and what a pointer resting on it is told."""
        ends = (self.across(x1), self.up(y1), self.across(x2), self.up(y2))
        return Markup('<path class="{}" d="M{:.1f} {:.1f}L{:.1f} {:.1f}">{}</path>').format(style, *ends, _tip(text))

    def word(self, place: float, text: str) -> Markup:
        """A word just above the x axis."""
        x, y = self.across(place), HEIGHT - _BOTTOM - 5
        return Markup('<text class="mid value" x="{:.1f}" y="{:.1f}">{}</text>').format(x, y, text)

    def svg(self, title: str, parts: Iterable[Markup]) -> Markup:
        """Everything drawn, with a name for who cannot see it."""
        base = Markup('<path class="axis" d="M{:.1f} {:.1f}H{:.1f}"/>').format(
            self.left, HEIGHT - _BOTTOM, WIDTH - _RIGHT
        )
        return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH, HEIGHT, title, Markup("").join([*parts, base])
        )


def _line(frame: _Frame, series: Series) -> Markup:
    """One path that is lifted at gaps; few points are dots, too, so that a lone one is seen."""
    points = [
        (frame.across(x), frame.up(y)) if math.isfinite(y) else None for x, y in zip(series.x, series.y, strict=True)
    ]
    steps, pen = [], "M"
    for point in points:
        if point is not None:
            steps.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "M" if point is None else "L"
    style = f"line s{series.color}" + " faint" * series.faint + " dashed" * series.dashed
    drawn = Markup('<path class="{}" d="{}">{}</path>').format(style, "".join(steps), _tip(series.name))
    if len(points) <= _FEW and not series.faint and not series.dashed:
        for point, x, y in zip(points, series.x, series.y, strict=True):
            if point is not None:
                drawn += Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="3">{}</circle>').format(
                    series.color, *point, _tip(f"{series.name}: {y:.4g} at {x:g}")
                )
    return drawn


def _bars(
    frame: _Frame, name: str, values: Sequence[Number | None], row: int, rows: int, *, tight: bool, digits: int
) -> Markup:
    slot = frame.across(1) - frame.across(0)
    width = slot * (0.96 if tight else 0.78) / rows
    drawn = Markup("")
    for place, value in enumerate(values):
        if value is None or not math.isfinite(value):
            continue
        left, top = frame.across(place + 0.5) + width * (row - rows / 2), frame.up(value)
        text = f"{value:.{digits}f}"
        drawn += Markup('<rect class="bar s{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">{}</rect>').format(
            row % COLORS + 1,
            left,
            top,
            max(width - 1, 1),
            frame.up(max(frame.y.low, 0.0)) - top,
            _tip(f"{name}: {text}"),
        )
        if value and not tight and rows * len(values) <= _LABELLED_BARS and width > _LETTER * len(text) * 0.8:
            drawn += Markup('<text class="mid value" x="{:.1f}" y="{:.1f}">{}</text>').format(
                left + width / 2, top - 4, text
            )
    return drawn


def _tip(text: str) -> Markup:
    return Markup("<title>{}</title>").format(text) if text else Markup("")
