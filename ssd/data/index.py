"""The records of a split as a few arrays: 23 bytes an object and about 80 an image, which processes can share.

`index[i]` makes a `Record` whose boxes and areas are parts of these arrays.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, UInt8

from ssd.data import cache
from ssd.data.lazy import LazySequence
from ssd.structures import Record

_DIFFICULT, _CROWD = 1, 2  # bits of `flags`
_AT_ONCE = 50_000  # paths that are unpacked together


@dataclass(frozen=True)
class Columns:
    """The arrays. Row i of the N images has the bytes `path_ends[i]` to `path_ends[i + 1]` of `paths`, and so on."""

    paths: UInt8[np.ndarray, "P"]
    path_ends: Int[np.ndarray, "E"]  # E is N + 1
    ids: Int[np.ndarray, "N"] | UInt8[np.ndarray, "I"]  # numbers, or bytes of text with ends
    id_ends: Int[np.ndarray, "_"]  # none of numbers
    sizes: Int[np.ndarray, "N 2"]  # width, height
    object_ends: Int[np.ndarray, "E"]
    boxes: Float32[np.ndarray, "M 4"]
    areas: Float32[np.ndarray, "M"]
    labels: Int[np.ndarray, "M"]
    flags: UInt8[np.ndarray, "M"]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, in the order of this class."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class RecordIndex(LazySequence[Record]):
    """The records of a split, made when asked for.

    A pickle holds the arrays, or only the `source`: the file of the cache that has them, None where there is none.
    Once another run has replaced that file, the pickle holds the arrays.
    """

    def __init__(self, columns: Columns, source: Path | None = None) -> None:
        self.columns = columns
        self.source = source
        self._file = _number(source)  # of no other file while this one is mapped

    def __reduce__(self) -> tuple[Any, ...]:
        if self._file is not None and self._file == _number(self.source):
            return RecordIndex.mapped, (self.source,)
        return RecordIndex, (self.columns,)

    @staticmethod
    def mapped(path: Path) -> "RecordIndex":
        """The index in a file of the cache."""
        return RecordIndex(Columns(**cache.open_entry(path).arrays), path)

    def __len__(self) -> int:
        return len(self.columns.sizes)

    def item(self, row: int) -> Record:
        """The record of a row."""
        columns = self.columns
        rows = slice(int(columns.object_ends[row]), int(columns.object_ends[row + 1]))
        width, height = columns.sizes[row].tolist()
        flags = columns.flags[rows]
        return Record(
            path=_text(columns.paths, columns.path_ends, row),
            image_id=_text(columns.ids, columns.id_ends, row) if len(columns.id_ends) else int(columns.ids[row]),
            width=width,
            height=height,
            boxes=np.array(columns.boxes[rows]),
            labels=columns.labels[rows].astype(np.int64),
            difficult=(flags & _DIFFICULT) != 0,
            crowd=(flags & _CROWD) != 0,
            areas=np.array(columns.areas[rows]),
        )

    def paths(self) -> Iterator[str]:
        """The path of every image."""
        ends = self.columns.path_ends
        for start in range(0, len(self), _AT_ONCE):
            some = ends[start : start + _AT_ONCE + 1]
            content = self.columns.paths[some[0] : some[-1]].tobytes()
            spans = pairwise((some - some[0]).tolist())
            text = os.fsdecode(content)
            if len(text) == len(content):  # a byte a character
                yield from (text[first:last] for first, last in spans)
            else:
                yield from (os.fsdecode(content[first:last]) for first, last in spans)

    @property
    def crowds(self) -> int:
        """The number of crowd regions."""
        return int(np.count_nonzero(self.columns.flags & _CROWD))


def paths_of(records: Sequence[Record]) -> Iterable[str]:
    """The paths of records, without making the others' arrays."""
    return records.paths() if isinstance(records, RecordIndex) else (record.path for record in records)


def sizes_of(records: Sequence[Record]) -> Int[np.ndarray, "N 2"]:
    """The width and height of every image, without making the records' arrays."""
    if isinstance(records, RecordIndex):
        return np.asarray(records.columns.sizes)
    return np.array([(record.width, record.height) for record in records], np.int32).reshape(-1, 2)


def count_objects(records: Sequence[Record]) -> tuple[int, int]:
    """The number of objects, and how many of them are crowd regions."""
    if isinstance(records, RecordIndex):
        return len(records.columns.labels), records.crowds
    return sum(len(record.labels) for record in records), sum(int(record.crowd.sum()) for record in records)


def build_index(
    images: Sequence[tuple[str, int | str, int, int]],
    counts: Int[np.ndarray, "N"],
    *,
    boxes: Float32[np.ndarray, "M 4"],
    areas: Float32[np.ndarray, "M"],
    labels: Int[np.ndarray, "M"],
    difficult: np.ndarray,
    crowd: np.ndarray,
) -> RecordIndex:
    """Make an index of images (path, id, width, height) with so many objects each, the objects in their order."""
    paths, path_ends = _bytes([os.fsencode(image[0]) for image in images])
    given = [image[1] for image in images]
    ids, id_ends = np.empty(0, np.int64), np.empty(0, np.int64)
    if all(isinstance(one, int) and abs(one) < 2**63 for one in given):
        ids = np.array(given, np.int64)
    else:
        ids, id_ends = _bytes([os.fsencode(str(one)) for one in given])
    sizes = np.array([image[2:] for image in images], np.int32).reshape(-1, 2)
    flags = difficult.astype(np.uint8) * _DIFFICULT + crowd.astype(np.uint8) * _CROWD
    columns = Columns(
        paths=paths,
        path_ends=path_ends,
        ids=ids,
        id_ends=id_ends,
        sizes=sizes,
        object_ends=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes,
        areas=areas,
        labels=labels.astype(np.int16 if labels.max(initial=0) < 2**15 else np.int32),
        flags=flags,
    )
    return RecordIndex(columns)


def _bytes(parts: list[bytes]) -> tuple[UInt8[np.ndarray, "P"], Int[np.ndarray, "E"]]:
    ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return np.frombuffer(b"".join(parts), np.uint8), ends


def _text(content: np.ndarray, ends: np.ndarray, row: int) -> str:
    return os.fsdecode(content[ends[row] : ends[row + 1]].tobytes())


def _number(file: Path | None) -> int | None:
    """The number by which the file system knows a file; None where there is none."""
    with suppress(OSError):
        return None if file is None else file.stat().st_ino
    return None
