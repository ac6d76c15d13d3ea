"""Label Studio's JSON export: a list of tasks, with boxes in percent of the image.

Rectangles are boxes, turned ones, ellipses and polygons the upright boxes around them. Of a task's annotations that
were not skipped the one marked as ground truth counts, else the first. Tasks without annotations are left out; in a
file without any annotation the predictions are read instead, with a note. Images are found by the ends of their
addresses, without the prefix that an upload gives their names.
"""

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Level, Problem, RawObject, ellipse_box
from ssd.data.formats.entries import MAX_BYTES, Entry, EntryFormat, Parsed
from ssd.data.formats.json_values import Box, box_around, load, number, points_of, starts_with, whole
from ssd.errors import AnnotationError

_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
_KINDS = {"rectanglelabels": "rectangle", "polygonlabels": "polygon", "ellipselabels": "ellipse"}


class _Reader:
    """One file: its entries and problems, and what is counted in it."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.place = path.parent
        self.source = folders.relative(path, folder)
        self.problems: list[Problem] = []
        self.left_aside: Counter[str] = Counter()

    def report(self, kind: str, message: str, level: Level = "note", index: int | None = None) -> None:
        self.problems.append(Problem(self.source, kind, message, level, index, unit="task"))

    def entry(self, task: dict[str, Any], key: int, from_annotations: bool) -> Entry | None:
        """The image of a task; None where it has none, or is not annotated."""
        written = _image_of(task.get("data"))
        if written is None:
            self.report("no_image", "has no image in its data", "file", key)
            return None
        done = _done(task, "annotations" if from_annotations else "predictions")
        if not done:
            self.left_aside["tasks without annotations"] += 1
            return None
        self.left_aside["second annotations of a task"] += len(done) - 1
        results = done[0].get("result")
        objects: list[RawObject] = []
        sides = (0, 0)
        for item in results if isinstance(results, list) else []:
            if isinstance(item, dict):
                found = self._read_result(item, key, len(objects) + 1)
                objects += [] if found is None else [found]
                sides = _sides(item) or sides
        name = _file_name(written)
        short = _UPLOADED.sub("", name.replace("\\", "/").rpartition("/")[2])
        where = f"{self.source}, task {key}"
        return Entry(name, where, tuple(objects), *sides, fractions=True, folder=self.place, other_name=short)

    def _read_result(self, item: dict[str, Any], key: int, index: int) -> RawObject | None:
        value, kind = item.get("value"), _KINDS.get(str(item.get("type")))
        if kind is None or not isinstance(value, dict):
            counts = kind is not None or item.get("type") not in (None, "choices")
            self.left_aside["results that are no boxes"] += counts
            return None
        given = value.get(str(item.get("type")))
        names = [text for text in given if isinstance(text, str)] if isinstance(given, list) else []
        name = names[0] if names else ""
        if not name.strip():
            self.report("no_name", f"has a {kind} without a label", "object", key)
            return None
        self.left_aside["second labels of a box"] += len(names) - 1
        return RawObject(index, name.strip(), _box(kind, value, _sides(item) or (1, 1)))


def _file_name(written: str) -> str:
    """The image's path as it may lie here: of an address its path."""
    try:
        parts = urlsplit(written) if re.match(r"[a-z0-9+]+://|/data/", written, re.IGNORECASE) else None
    except ValueError:  # brackets that hold no IPv6 address
        parts = None
    if parts is None:
        return written
    # Bytes that are no UTF-8 are those of a file's name.
    named = parse_qs(parts.query, errors="surrogateescape").get("d")
    return named[0] if named else unquote(parts.path, errors="surrogateescape").lstrip("/")


def _is_own(path: Path) -> bool:
    return starts_with(path, b'"annotations"', b'"predictions"') and starts_with(path, b'"data"') and _is_list(path)


def _is_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _parse(path: Path, folder: Path) -> Parsed:
    content = load(path, MAX_BYTES)
    if not isinstance(content, list):
        raise AnnotationError("is not Label Studio's: it is no list of tasks", place=path, remedy="Export JSON.")
    reader = _Reader(path, folder)
    tasks = [task for task in content if isinstance(task, dict)]
    if len(tasks) < len(content):
        reader.report("no_task", f"{len(content) - len(tasks)} of its tasks are no objects", "file")
    from_annotations = any(_done(task, "annotations") for task in tasks)
    if tasks and not from_annotations:
        reader.report("predictions", "nothing is annotated; the predictions of its tasks are read")
    entries = []
    for place, task in enumerate(tasks, start=1):
        given = task.get("id")
        key = given if isinstance(given, int) and 0 <= given < 10**12 else place
        entry = reader.entry(task, key, from_annotations)
        if entry is not None:
            entries.append(entry)
    if +reader.left_aside:
        listed = ", ".join(f"{count} {what}" for what, count in (+reader.left_aside).items())
        reader.report("left_aside", f"left aside: {listed}")
    return Parsed(entries, reader.problems)


def _done(task: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The annotations of a task that were not skipped, the one called the truth first."""
    found = task.get(key)
    given = found if isinstance(found, list) else []
    good = [one for one in given if isinstance(one, dict) and not one.get("was_cancelled")]
    return sorted(good, key=lambda one: one.get("ground_truth") is not True)


def _image_of(data: Any) -> str | None:
    """The address of a task's image: under `image`, else the only one that ends like an image."""
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("image"), str) and data["image"].strip():
        return str(data["image"])
    texts = [text for text in data.values() if isinstance(text, str)]
    found = [text for text in texts if text.lower().partition("?x-")[0].endswith(folders.IMAGE_SUFFIXES)]
    return found[0] if len(found) == 1 else None


def _sides(item: dict[str, Any]) -> tuple[int, int] | None:
    sides = whole(item.get("original_width")), whole(item.get("original_height"))
    return sides if min(sides) > 0 else None


def _box(kind: str, value: dict[str, Any], sides: tuple[int, int]) -> Box:
    """The upright box in fractions of the image; a rectangle is turned about its upper left corner.

    Shapes are turned in pixels: fractions of a wide image are no square.
    """
    if kind == "polygon":
        return box_around((x / 100, y / 100) for x, y in points_of(value.get("points")))
    turn = math.radians(number(value.get("rotation") or 0))
    if not math.isfinite(turn):
        return (math.nan,) * 4
    w, h = sides
    x, y = (number(value.get(key)) / 100 for key in ("x", "y"))
    if kind == "ellipse":
        across, down = (number(value.get(key)) / 100 for key in ("radiusX", "radiusY"))
        left, top, right, bottom = ellipse_box(x * w, y * h, across * w, down * h, turn)
        return left / w, top / h, right / w, bottom / h
    width, height = (number(value.get(key)) / 100 for key in ("width", "height"))
    if not turn:
        return x, y, x + width, y + height
    cos, sin = math.cos(turn), math.sin(turn)
    corners = [(0.0, 0.0), (width * w, 0.0), (0.0, height * h), (width * w, height * h)]
    return box_around((x + (dx * cos - dy * sin) / w, y + (dx * sin + dy * cos) / h) for dx, dy in corners)


FORMAT = EntryFormat(".json", _is_own, _parse)
