"""The windows of a large image that are looked at one by one: the whole image, and overlapping tiles of it.

A network sees every image at the size of its input, so an object of 20 pixels in an image of 4000 shrinks to one or
two. In a tile it keeps more of its size. Training, evaluation and detection take their windows from here.
"""

import math
from collections.abc import Callable
from numbers import Integral  # NumPy's are too
from typing import Literal, NamedTuple

from ssd.errors import ArgumentError, is_number

Tiles = int | tuple[int, int] | Literal["auto"]

MOST_TILES = 32
"""Along one side; more is a typing mistake."""
OVERLAP = 0.2
"""How much of a tile's side neighbours share, in training and by default in detection."""
# A tile is at most this many times the network's input. A photograph of COCO is 2.1 times SSD300's.
_AUTO_REDUCTION = 2.5


class Window(NamedTuple):
    """A part of an image: whole pixels, the last ones excluded."""

    left: int
    top: int
    right: int
    bottom: int


def windows(height: int, width: int, tiles: Tiles, overlap: float, input_size: int) -> list[Window]:
    """The whole image, and then its tiles, row by row; the whole alone where one tile is enough.

    `tiles` is a number for both sides, `(rows, columns)`, or "auto": as few as leave no tile more than 2.5 times as
    wide or high as the network's input. Neighbours share at least `overlap` of a tile's side.

    Raises:
        ArgumentError: numbers out of their range.
    """
    remedy = "Use a number from 0 to 0.9."
    if not is_number(overlap):
        raise ArgumentError(f"{overlap!r} is not a number", place="tile_overlap", remedy=remedy)
    if not 0 <= overlap <= 0.9:
        raise ArgumentError(f"{overlap} is out of range", place="tile_overlap", remedy=remedy)
    if _is_auto(tiles):
        rows, columns = (_enough(side, overlap, _AUTO_REDUCTION * input_size) for side in (height, width))
    else:
        rows, columns = check_tiles(tiles)
    whole = Window(0, 0, width, height)
    if rows == columns == 1:
        return [whole]
    tops, lefts = _spans(height, rows, overlap), _spans(width, columns, overlap)
    return [whole, *(Window(left, top, right, bottom) for top, bottom in tops for left, right in lefts)]


def plan_of(tiles: Tiles, input_size: int) -> Callable[[int, int], list[Window]] | None:
    """The `windows` of an image of (height, width) as they are in training; None: the whole image alone.

    Raises:
        ArgumentError: no number of tiles.
    """
    if not has_tiles(tiles):
        return None
    return lambda height, width: windows(height, width, tiles, OVERLAP, input_size)


def check_tiles(tiles: object) -> tuple[int, int]:
    """`(rows, columns)` of a number or a pair.

    Raises:
        ArgumentError: it is neither, or out of range.
    """
    pair = (tiles, tiles) if isinstance(tiles, Integral) else tiles
    if isinstance(pair, tuple | list) and len(pair) == 2 and all(map(_is_count, pair)):
        return int(pair[0]), int(pair[1])
    remedy = f"Use a number from 1 to {MOST_TILES}, a pair (rows, columns) of them, or 'auto'."
    raise ArgumentError(f"{tiles!r} is not a number of tiles", place="tiles", remedy=remedy)


def can_be_tiles(tiles: Tiles) -> bool:
    """Whether a value from a file is a number of tiles, a pair or "auto"."""
    return _is_auto(tiles) or all(map(_is_count, tiles if isinstance(tiles, tuple) else (tiles,)))


def _is_auto(tiles: object) -> bool:
    return isinstance(tiles, str) and tiles == "auto"


def _is_count(number: object) -> bool:
    return not isinstance(number, bool) and isinstance(number, Integral) and 1 <= int(number) <= MOST_TILES


def has_tiles(tiles: Tiles) -> bool:
    """Whether there may be more to look at than the whole image.

    Raises:
        ArgumentError: no number of tiles.
    """
    return _is_auto(tiles) or check_tiles(tiles) != (1, 1)


def _enough(side: int, overlap: float, largest: float) -> int:
    return next((n for n in range(1, MOST_TILES) if side / (n - (n - 1) * overlap) <= largest), MOST_TILES)


def _spans(side: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Equal spans over `side` pixels, the first at its start and the last at its end."""
    length = min(side, math.ceil(side / (count - (count - 1) * overlap)))
    between = (side - length) / max(count - 1, 1)
    starts = dict.fromkeys(round(place * between) for place in range(count))  # a few pixels make fewer tiles
    return [(start, start + length) for start in starts]
