"""Raw annotations -> records: every box and class name is checked here, once, for all formats.

What is wrong is collected, not raised, so that one opening names everything that is wrong.
"""

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int

from ssd.data.formats.annotations import Problem, RawImage, RawObject, RawSplit
from ssd.data.formats.columns import columns_of
from ssd.data.index import RecordIndex, build_index

_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Built:
    """The records of a split, its classes, and every problem met on the way."""

    records: RecordIndex
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...] = ()  # for the log


def build_records(raw: RawSplit, classes: Sequence[str] | None = None) -> Built:
    """Check every object of a split; the good ones become records, the others problems.

    With `classes`, labels are indices into that list, and an object of another class is a problem.
    """
    names, ids = _classes(raw, classes)
    known = {name: label for label, name in enumerate(names)}
    columns = columns_of(raw.images)
    owners = columns.owners
    labels = np.array([known.get(name, -1) for name in columns.names], np.int64)[columns.codes]
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
        boxes = columns.boxes.astype(np.float32)
    facts = [(image.path, image.image_id, image.width, image.height) for image in raw.images]
    sizes = np.array([fact[2:] for fact in facts], np.int64).reshape(-1, 2)

    is_good = labels >= 0
    problems = list(raw.problems)
    for row in np.flatnonzero(~(_lie_inside(boxes, sizes[owners]) & is_good)).tolist():
        image, item = raw.images[int(owners[row])], columns.item(row)
        box, problem = check_box(item.box, image.width, image.height)
        if not is_good[row]:
            box, problem = None, ("unknown_class", f"unknown class {item.name!r}")
        if problem is not None:
            problems.append(_problem(image, item, *problem, mended=box is not None))
        if box is None:
            is_good[row] = False
        else:
            boxes[row] = box

    boxes, given = boxes[is_good], columns.areas[is_good]
    sides = boxes[:, 2:] - boxes[:, :2]
    with np.errstate(over="ignore"):
        areas = np.where(np.isnan(given), sides[:, 0] * sides[:, 1], given.astype(np.float32)).astype(np.float32)
    records = build_index(
        facts,
        np.bincount(owners[is_good], minlength=len(facts)),
        boxes=boxes,
        areas=areas,
        labels=labels[is_good],
        difficult=columns.difficult[is_good],
        crowd=columns.crowd[is_good],
    )
    return Built(records, names, ids, tuple(problems))


def _lie_inside(boxes: Float32[np.ndarray, "M 4"], sizes: Int[np.ndarray, "M 2"]) -> Bool[np.ndarray, "M"]:
    """Whether a box has an area and lies in its image, so that nothing is to be said about it."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.asarray(((low >= 0) & (low < high) & (high <= sizes)).all(axis=1))


def check_box(box: _Box, width: int, height: int) -> tuple[_Box | None, tuple[str, str] | None]:
    """The box cut to the image, or None; and what is wrong with it as (kind, message), or None.

    Up to one pixel outside is cut without a word: the formats disagree on where counting starts. Finiteness comes
    first, because cutting would turn an infinite box into one of the image's size.
    """
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
        left, top, right, bottom = np.asarray(box, np.float32).tolist()  # judged as it will be used
    if 0 <= left < right <= width and 0 <= top < bottom <= height:
        return (left, top, right, bottom), None
    values = " ".join(f"{value:g}" for value in box)
    if not all(map(math.isfinite, (left, top, right, bottom))):
        return None, ("not_finite", f"box {values} is not finite")
    if right < left or bottom < top:
        return None, ("swapped", f"box {values} has its corners swapped")
    if right == left or bottom == top:
        return None, ("no_area", f"box {values} has no area")
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        return None, ("outside", f"box {values} lies outside the image of {width}x{height}")
    if min(left, top) < -1 or right > width + 1 or bottom > height + 1:
        return cut, ("clipped", f"box {values} was cut at the edge of the image of {width}x{height}")
    return cut, None


def unknown_classes(problems: Sequence[Problem], known: Sequence[str]) -> str:
    """The unknown class names with their counts and the nearest known name, on one line."""
    counts = Counter(problem.name for problem in problems if problem.kind == "unknown_class" and problem.name)
    return ", ".join(f"{name!r} x{count}{_nearest(name, known)}" for name, count in counts.most_common())


def _nearest(name: str, known: Sequence[str]) -> str:
    lowered = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower().strip(), lowered, n=1)
    return f" (nearest known: {lowered[close[0]]!r})" if close else ""


def _classes(raw: RawSplit, classes: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if classes is None:
        return raw.class_names, raw.category_ids
    known = dict(zip(raw.class_names, raw.category_ids, strict=True))
    free = max(raw.category_ids, default=0)
    ids = []
    for name in classes:
        if name not in known:
            free += 1  # a class the source does not have still needs an id of its own
        ids.append(known.get(name, free))
    return tuple(classes), tuple(ids)


def _problem(image: RawImage, item: RawObject, kind: str, message: str, *, mended: bool) -> Problem:
    level: Literal["note", "object"] = "note" if mended else "object"
    box = item.box if all(map(math.isfinite, item.box)) else None
    return Problem(image.source, kind, message, level, item.index, item.name, image.unit, image=image.path, box=box)
