"""The axes of a chart: round numbers, and the conversion of values to pixels."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Number = int | float
WIDTH, HEIGHT = 440.0, 270.0
LETTER = 6.6  # mean width of a digit in the labels, in pixels
_TOP, _RIGHT, _BOTTOM = 12.0, 14.0, 44.0


@dataclass(frozen=True)
class Axis:
    """The range of an axis from `low` to `high`, and its label."""

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
    """An axis from 0, or from the least negative value, to a round number above all values; NaN is ignored."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *known]), max([0.0, *known])
    if high == low:
        return Axis(0.0, 1.0, label)
    step = Axis(low, high, label).step()
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, label)


def short(value: Number) -> str:
    """The shortest form of a number for an axis."""
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


class Frame:
    """Two axes on the canvas, and the drawing between them."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y
        self.left = 30.0 + LETTER * max((len(short(tick)) for tick in y.ticks()), default=1)

    def across(self, value: Number) -> float:
        """The pixel of a value of the x axis."""
        return self.left + (value - self.x.low) / (self.x.high - self.x.low) * (WIDTH - _RIGHT - self.left)

    def up(self, value: Number) -> float:
        """The pixel of a value of the y axis."""
        return HEIGHT - _BOTTOM - (value - self.y.low) / (self.y.high - self.y.low) * (HEIGHT - _BOTTOM - _TOP)

    def grid(self) -> Markup:
        """Horizontal lines with their numbers, and the labels of both axes."""
        right, middle = WIDTH - _RIGHT, (HEIGHT - _BOTTOM + _TOP) / 2
        path = Markup('<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/>')
        lines = [
            path.format(self.left, self.up(tick), right) + _text(self.left - 6, self.up(tick) + 4, short(tick), "end")
            for tick in self.y.ticks()
        ]
        upright = Markup('<text class="mid" transform="translate(12 {:.1f}) rotate(-90)">{}</text>')
        labels = [_text((self.left + right) / 2, HEIGHT - 6, self.x.label), upright.format(middle, self.y.label)]
        return Markup("").join([*lines, *labels])

    def x_labels(self, places: Sequence[tuple[Number, str]]) -> Markup:
        """The labels below the axis; only every second or third where there is no space for all."""
        needed = sum(LETTER * (len(text) + 1.5) for _, text in places)
        every = max(1, math.ceil(needed / (WIDTH - _RIGHT - self.left)))
        shown = places[::every]
        return Markup("").join(_text(self.across(place), HEIGHT - _BOTTOM + 17, text) for place, text in shown)

    def segment(self, x1: Number, y1: Number, x2: Number, y2: Number, style: str, text: str) -> Markup:
        """A straight line with a tooltip."""
        ends = (self.across(x1), self.up(y1), self.across(x2), self.up(y2))
        return Markup('<path class="{}" d="M{:.1f} {:.1f}L{:.1f} {:.1f}">{}</path>').format(style, *ends, tip(text))

    def word(self, place: float, text: str) -> Markup:
        """A label just above the x axis."""
        return _text(self.across(place), HEIGHT - _BOTTOM - 5, text, "mid value")

    def svg(self, title: str, parts: Iterable[Markup]) -> Markup:
        """The finished drawing, with a title for screen readers."""
        base = Markup('<path class="axis" d="M{:.1f} {:.1f}H{:.1f}"/>').format(
            self.left, HEIGHT - _BOTTOM, WIDTH - _RIGHT
        )
        return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH, HEIGHT, title, Markup("").join([*parts, base])
        )


def _text(x: float, y: float, text: str, style: str = "mid") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(style, x, y, text)


def tip(text: str) -> Markup:
    """A tooltip."""
    return Markup("<title>{}</title>").format(text) if text else Markup("")
