"""Aligned columns of text for a terminal."""

from collections.abc import Sequence

from ssd.errors import printable


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1, ruled: bool = False) -> str:
    """Pad cells to columns; the first `left` columns are left-aligned; `ruled` draws a line under the first row.

    Names in cells are shown escaped.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    if ruled:
        lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)
