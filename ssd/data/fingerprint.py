"""A digest of the images and objects of a data set, which a checkpoint names and a resumed run compares."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise

import numpy as np

from ssd.data import cache
from ssd.data.index import RecordIndex
from ssd.structures import Record

_AT_ONCE = 50_000  # images of which numbers are unpacked together


def fingerprint(records: Iterable[Record]) -> str:
    """A one-line digest of the images and their objects, independent of their folder.

    That of an index in the cache is computed once.
    """
    if not isinstance(records, RecordIndex) or records.source is None:
        return _digest(_parts(records))
    try:
        states = cache.states([records.source])
    except OSError:  # removed meanwhile
        return _digest(_parts_of_index(records))
    key = {"what": "fingerprint 1", "of": str(records.source)}
    if (entry := cache.load(key)) is not None:
        return str(entry.facts["fingerprint"])
    found = _digest(_parts_of_index(records))
    cache.store(key, states, {"fingerprint": found}, began=math.inf)  # files of the cache are replaced, not changed
    return found


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _parts(records: Iterable[Record]) -> Iterator[bytes]:
    for record in records:
        yield _facts(record.path, record.width, record.height, record.labels.tolist())
        yield np.ascontiguousarray(record.boxes).tobytes()


def _parts_of_index(records: RecordIndex) -> Iterator[bytes]:
    """The same, without a record for each image."""
    columns, paths = records.columns, records.paths()
    for start in range(0, len(records), _AT_ONCE):
        sizes = columns.sizes[start : start + _AT_ONCE].tolist()
        ends = columns.object_ends[start : start + _AT_ONCE + 1]
        labels = columns.labels[ends[0] : ends[-1]].tolist()
        boxes = np.ascontiguousarray(columns.boxes[ends[0] : ends[-1]]).tobytes()
        for path, (width, height), (first, last) in zip(
            islice(paths, len(sizes)), sizes, pairwise((ends - ends[0]).tolist()), strict=True
        ):
            yield _facts(path, width, height, labels[first:last])
            yield boxes[16 * first : 16 * last]


def _facts(path: str, width: int, height: int, labels: list[int]) -> bytes:
    return repr((path.rpartition("/")[2], width, height, labels)).encode()
