"""The blocks of a page as plain data, without HTML except in the drawings.

Every string may come from an untrusted file (a class name, a path); the template escapes all of them.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from markupsafe import Markup

MISSING = "n/a"


@dataclass(frozen=True)
class Cell:
    """A table cell. `shade` colours it from 0 (not at all) to 1; `bar` draws a bar of that share beside the text."""

    text: str
    shade: float | int | None = None
    bar: float | int | None = None


Row = list[str | Cell]


@dataclass(frozen=True)
class Text:
    """A paragraph; `tone` is plain, good or bad."""

    kind: ClassVar[str] = "text"
    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Table:
    """Rows under a heading; the first `words` columns are text, the others figures."""

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Row]
    title: str = ""
    note: str = ""
    words: int = 1  # leading columns set to the left
    total: bool = False  # whether the last row is the sum or mean of the others
    half: bool = False  # whether it is narrow enough for another block beside it


@dataclass(frozen=True)
class Chart:
    """A drawing, with names for its colours (1 to 8) where it has several."""

    kind: ClassVar[str] = "chart"
    title: str
    svg: Markup
    legend: Sequence[tuple[str, int]] = ()
    note: str = ""


@dataclass(frozen=True)
class Image:
    """A JPEG or PNG inside the page."""

    data: bytes
    caption: str
    detail: str = ""

    @property
    def source(self) -> str:
        """The image as a data URL."""
        kind = "png" if self.data.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Gallery:
    """Images side by side; `width` is the least width of each, in pixels of the page."""

    kind: ClassVar[str] = "gallery"
    images: Sequence[Image]
    title: str = ""
    note: str = ""
    width: int = 200


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]
    title: str = ""


@dataclass(frozen=True)
class Lines:
    """A list of lines, such as problems: the first `shown` ones and the number of others."""

    kind: ClassVar[str] = "lines"
    lines: Sequence[str]
    title: str = ""
    shown: int = 50


@dataclass(frozen=True)
class Source:
    """Text to copy, in a monospaced font."""

    kind: ClassVar[str] = "source"
    text: str
    title: str = ""


Block = Text | Table | Chart | Gallery | Facts | Lines | Source


@dataclass(frozen=True)
class Section:
    """A heading, an introductory sentence, and blocks."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    intro: str = ""


@dataclass(frozen=True)
class Tile:
    """One figure in large type."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    tiles: Sequence[Tile] = ()
    verdict: Text | None = None
    links: Sequence[tuple[str, str]] = field(default_factory=tuple)  # (text, file beside this one)
    made: str = ""  # program, version and time


def number(value: float | int | None, digits: int = 3) -> str:
    """A figure with so many decimals; `n/a` for None and NaN."""
    return MISSING if value is None or value != value else f"{value:.{digits}f}"


def percent(share: float | int | None) -> str:
    """A share as a percentage with one decimal, or `n/a`."""
    return MISSING if share is None or share != share else f"{100 * share:.1f} %"


def shaded(value: float | int | None, digits: int = 3) -> Cell:
    """A figure from 0 to 1 with a bar of its length behind it."""
    known = value is not None and value == value
    return Cell(number(value, digits), bar=min(max(value or 0.0, 0.0), 1.0) if known else None)
