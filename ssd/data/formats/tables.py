"""Tables: CSV files with a row for each object.

Read are keras-retinanet's rows `path,x1,y1,x2,y2,class` without a header (SKU-110K's have width and height too),
OpenImages' (`ImageID`, `LabelName`, fractions of the image, with the names of `class-descriptions*.csv` beside it),
TensorFlow's (`filename`, `width`, `height`, `class`, `xmin`, ...), and other headers with the same words. A row whose
box and class are empty is an image without objects. A table with `submission` in its name is not used.
"""

import csv
import io
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem, RawObject
from ssd.data.formats.entries import MAX_BYTES, Entry, EntryFormat, Parsed
from ssd.data.formats.json_values import number, whole
from ssd.errors import AnnotationError

_COLUMNS = {  # what a column means -> how it may be called
    "file": (
        "filename",
        "file",
        "file_name",
        "image",
        "imageid",
        "image_id",
        "image_path",
        "image_name",
        "path",
        "img",
    ),
    "left": ("xmin", "x1", "x_min", "left"),
    "top": ("ymin", "y1", "y_min", "top"),
    "right": ("xmax", "x2", "x_max", "right"),
    "bottom": ("ymax", "y2", "y_max", "bottom"),
    "name": ("class", "labelname", "label", "class_name", "name", "category"),
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
    "group": ("isgroupof",),
}
_NEEDED = ("file", "left", "top", "right", "bottom", "name")
_CORNERS = ("left", "top", "right", "bottom")
_RETINANET = {"file": 0, "left": 1, "top": 2, "right": 3, "bottom": 4, "name": 5, "width": 6, "height": 7}
_FEW = 20  # rows that tell a table without a header


@dataclass(frozen=True)
class _Table:
    """Which column is what; OpenImages' boxes are fractions, and its images have no suffix."""

    columns: dict[str, int]
    has_header: bool
    fractions: bool

    def text(self, row: Sequence[str], what: str) -> str:
        """A field of a row; empty where there is none."""
        place = self.columns.get(what, len(row))
        return row[place].strip() if place < len(row) else ""


def _is_own(path: Path) -> bool:
    if "submission" in path.stem.lower():  # a contest's form for results, with the header of its table
        return False
    try:
        with path.open("rb") as file:
            start = file.read(65_536)
    except OSError:
        return False
    encoding = "utf-16" if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    lines = start.decode(encoding, errors="ignore").splitlines()[: _FEW + 1]  # a character may be cut at the end
    try:
        return _table([row for row in _reader(lines) if row]) is not None
    except csv.Error:
        return False


def _reader(lines: Sequence[str]) -> Any:
    """A reader of fields; a space after a comma is none of the field, which quotes may follow."""
    return csv.reader(lines, delimiter=_delimiter(lines), skipinitialspace=True)


def _delimiter(lines: Sequence[str]) -> str:
    """What is between the fields: of comma, semicolon and tab the one that the first line has most of."""
    first = next((line for line in lines if line.strip()), "")
    return max(",;\t", key=first.count)


def _table(rows: Sequence[Sequence[str]]) -> _Table | None:
    """What the first rows of a file tell about it; None where it is no table of boxes."""
    head = [word.strip().lower() for word in rows[0]] if rows else []
    columns = {
        what: next(head.index(name) for name in names if name in head)
        for what, names in _COLUMNS.items()
        if any(name in head for name in names)
    }
    if all(what in columns for what in _NEEDED):
        return _Table(columns, has_header=True, fractions="labelname" in head)
    if rows and all(map(_is_retinanet, rows[: _FEW // 2])):
        return _Table(_RETINANET, has_header=False, fractions=False)
    return None


def _is_retinanet(row: Sequence[str]) -> bool:
    """Whether it is `path,x1,y1,x2,y2,class`, perhaps with width and height; without objects the fields are empty."""
    return (
        len(row) in (6, 8)
        and row[0].strip().lower().endswith(folders.IMAGE_SUFFIXES)
        and all(re.fullmatch(r"-?[\d.]*", field.strip()) for field in row[1:5])
    )


def _parse(path: Path, folder: Path) -> Parsed:
    source = folders.relative(path, folder)
    rows = _rows(path)
    table = _table([row for row, _ in zip((row for _, row in _rows(path)), range(_FEW), strict=False)])
    if table is None:
        remedy = "Give it a header: filename,width,height,class,xmin,ymin,xmax,ymax."
        raise AnnotationError("is no table of boxes", place=path, remedy=remedy)
    if table.has_header:
        next(rows)
    names = _descriptions(path.parent) if table.fractions else {}
    problems: list[Problem] = []
    sides: dict[str, tuple[int, int]] = {}
    objects: dict[str, list[RawObject]] = {}
    for line, row in rows:
        file = table.text(row, "file")
        if not file:
            problems.append(Problem(source, "no_file_name", "names no image", "file", line, unit="line"))
            continue
        sides.setdefault(file, _sides(table, row))
        found = objects.setdefault(file, [])
        item = _read_row(table, row, line, names)
        if isinstance(item, RawObject):
            found.append(item)
        elif item is not None:
            problems.append(Problem(source, *item, index=line, unit="line"))
    entries = [
        Entry(file, source, tuple(items), *sides[file], table.fractions, "line", path.parent)
        for file, items in objects.items()
    ]
    return Parsed(entries, problems)


def _sides(table: _Table, row: Sequence[str]) -> tuple[int, int]:
    width, height = (whole(number(table.text(row, what) or None)) for what in ("width", "height"))
    return width, height


def _read_row(
    table: _Table, row: Sequence[str], line: int, names: dict[str, str]
) -> RawObject | tuple[str, str] | None:
    """A row as an object, or its problem as (kind, message); None for an image without objects."""
    texts = [table.text(row, what) for what in _CORNERS]
    name = table.text(row, "name")
    if not name and not any(texts):
        return None
    if not name:
        return "no_name", "has no class"
    values = [number(text or None) for text in texts]
    wrong = next((text for text, value in zip(texts, values, strict=True) if value != value), None)
    if wrong is not None:
        return "not_a_number", f"({name[:60]}) has the coordinate {wrong[:60]!r}"
    left, top, right, bottom = values
    crowd = table.text(row, "group") == "1"
    return RawObject(line, names.get(name, name), (left, top, right, bottom), crowd=crowd)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with its line.

    Raises:
        AnnotationError: missing, too large, not UTF-8, or no CSV.
    """
    lines = io.StringIO(folders.read_text(path, MAX_BYTES), newline="").readlines()
    reader = _reader(lines)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise AnnotationError(f"is not valid CSV ({error} in line {reader.line_num})", place=path) from None


def _descriptions(folder: Path) -> dict[str, str]:
    """OpenImages' names of classes, as `/m/01yrx,Cat` in a file beside the table or above it."""
    places: Iterable[Path] = (
        place for top in (folder, folder.parent) for place in sorted(top.glob("*class-desc*.csv"))
    )
    found = next(iter(places), None)
    if found is None:
        return {}
    return {row[0].strip(): row[1].strip() for _, row in _rows(found) if len(row) == 2 and row[1].strip()}


FORMAT = EntryFormat(".csv", _is_own, _parse)
