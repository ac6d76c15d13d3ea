"""Line and bar charts as SVG inside the page; colours and fonts come from its style sheet, for light and dark mode.

They do not use matplotlib, because a run writes its page at every evaluation: a chart takes milliseconds and a few
kilobytes, while importing matplotlib alone takes a second.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ssd.report.axes import LETTER, Axis, Frame, Number, axis_over, short, tip
from ssd.report.blocks import MISSING, Chart

COLORS = 8  # number of colours in the style sheet
_FEW = 30  # up to so many points are also drawn as dots
_LABELLED_BARS = 20  # up to so many bars have their figure above them


@dataclass(frozen=True)
class Series:
    """One line. NaN in `y` is a gap; a faint line is the background of another, and is not in the legend."""

    name: str
    x: Sequence[Number]
    y: Sequence[Number]
    color: int = 1
    faint: bool = False


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x: str | Axis,
    y: str | Axis,
    marks: Sequence[tuple[Number, str]] = (),
    note: str = "",
) -> Chart:
    """Draw lines over a common axis; `marks` are positions on it with a vertical line and a label."""
    if isinstance(x, str):
        x = axis_over((value for one in series for value in one.x), x)
    if isinstance(y, str):
        y = axis_over((value for one in series for value in one.y), y)
    frame = Frame(x, y)
    parts = [frame.grid(), frame.x_labels([(tick, short(tick)) for tick in x.ticks()])]
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
    """Draw bars side by side in a slot for each label; with one label more than slots, labels are between the slots.

    `marks` are positions in slots from the left. None has no bar.
    """
    slots = max(map(len, series.values()))
    between = len(labels) == slots + 1
    if isinstance(y, str):
        y = axis_over((v for values in series.values() for v in values if v is not None), y)
    frame = Frame(Axis(0.0, float(slots), x), y)
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


def range_chart(
    title: str,
    ranges: Sequence[tuple[str, Number, Number, Number]],
    *,
    x: str,
    y: str,
    note: str = "",
) -> Chart:
    """Draw a dot with a line from low to high for each (label, value, low, high), and a line at 0.

    The colour says on which side of 0 the whole range lies: the third above, the seventh below, the first on both.
    """
    frame = Frame(
        Axis(0.0, float(max(len(ranges), 1)), x), axis_over((end for _, *three in ranges for end in three), y)
    )
    parts = [frame.grid(), frame.x_labels([(place + 0.5, text) for place, (text, *_) in enumerate(ranges)])]
    if frame.y.low < 0 < frame.y.high:
        parts.append(frame.segment(0.0, 0.0, frame.x.high, 0.0, "guide", ""))
    for place, (text, value, low, high) in enumerate(ranges):
        color = 3 if low > 0 else 7 if high < 0 else 1
        said = f"{text}: {value:+.3f}, {low:+.3f} to {high:+.3f}"
        parts.append(frame.segment(place + 0.5, low, place + 0.5, high, f"line s{color}", said))
        dot = Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="4">{}</circle>')
        parts.append(dot.format(color, frame.across(place + 0.5), frame.up(value), tip(said)))
    return Chart(title, frame.svg(title, parts), (), note)


def _line(frame: Frame, series: Series) -> Markup:
    """One path with gaps at NaN; few points are also drawn as dots, so that a single one is visible."""
    points = [
        (frame.across(x), frame.up(y)) if math.isfinite(y) else None for x, y in zip(series.x, series.y, strict=True)
    ]
    steps, pen = [], "M"
    for point in points:
        if point is not None:
            steps.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "M" if point is None else "L"
    style = f"line s{series.color}" + " faint" * series.faint
    drawn = Markup('<path class="{}" d="{}">{}</path>').format(style, "".join(steps), tip(series.name))
    if len(points) <= _FEW and not series.faint:
        for point, x, y in zip(points, series.x, series.y, strict=True):
            if point is not None:
                drawn += Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="3">{}</circle>').format(
                    series.color, *point, tip(f"{series.name}: {y:.4g} at {x:g}")
                )
    return drawn


def _bars(
    frame: Frame, name: str, values: Sequence[Number | None], row: int, rows: int, *, tight: bool, digits: int
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
            tip(f"{name}: {text}"),
        )
        if value and not tight and rows * len(values) <= _LABELLED_BARS and width > LETTER * len(text) * 0.8:
            drawn += Markup('<text class="mid value" x="{:.1f}" y="{:.1f}">{}</text>').format(
                left + width / 2, top - 4, text
            )
    return drawn
