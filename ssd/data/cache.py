"""Remembers between runs what was read from large data sets, as facts and arrays in the cache folder.

An entry is valid as long as the files and folders it was made from have the same size and times. Arrays are mapped into
memory, so processes that open one entry share its pages. A damaged, old or unwritable entry only costs time.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssd.errors import SSDError
from ssd.system.download import cache_folder
from ssd.system.files import write_atomic

_MAGIC = b"SSD cache 1\n"
_ALIGNED = 64  # bytes
_SETTLED = 2.0  # seconds; a file changed more recently may change again without a new time

States = list[list[Any]]  # path, size, times and inode of files and folders


@dataclass(frozen=True)
class Entry:
    """The content of one file of the cache."""

    path: Path
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


def states(paths: Iterable[str | Path]) -> States:
    """What tells whether files or folders have changed.

    Raises:
        OSError: one is missing.
    """
    found = [(str(path), Path(path).stat()) for path in paths]
    return [[path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for path, stat in found]


def load(key: Mapping[str, Any]) -> Entry | None:
    """What was stored under a key; None if nothing was, if it is damaged, or if its files have changed."""
    try:
        entry = open_entry(_place(key), verify=True)
        watched = entry.facts["watched"]
        return entry if states(state[0] for state in watched) == watched else None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


def store(
    key: Mapping[str, Any],
    watched: States,
    facts: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    began: float | None = None,
) -> Path | None:
    """Store facts (JSON) and arrays; None if that was not possible.

    `watched` are the `states` before reading, or after it, where `began` is the time at which reading began.
    """
    newest = max((state[2] for state in watched), default=0) / 1e9
    if (time.time() if began is None else began) - newest < _SETTLED:
        return None
    with contextlib.suppress(OSError, SSDError, RuntimeError):
        if states(state[0] for state in watched) == watched:
            path = _place(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, *_packed({**facts, "watched": watched}, arrays or {}))
            return path
    return None


def open_entry(path: str | Path, *, verify: bool = False) -> Entry:
    """Map a file of the cache into memory.

    Raises:
        OSError, ValueError: it is missing or damaged.
    """
    content = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    start = len(_MAGIC) + 32 + 8
    if len(content) < start or content[: len(_MAGIC)].tobytes() != _MAGIC:
        raise ValueError(f"{path} is no file of this cache")
    if verify and hashlib.sha256(content[len(_MAGIC) + 32 :].data).digest() != content[len(_MAGIC) :][:32].tobytes():
        raise ValueError(f"{path} is damaged")
    length = int.from_bytes(content[start - 8 : start].tobytes(), "little")
    head = json.loads(content[start : start + length].tobytes())
    arrays = {}
    for name, dtype, shape, offset in head["arrays"]:
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if offset + count > len(content):
            raise ValueError(f"{path} is cut short")
        arrays[name] = content[offset : offset + count].view(dtype).reshape(shape)
    return Entry(Path(path), head["facts"], arrays)


def _place(key: Mapping[str, Any]) -> Path:
    text = json.dumps({**key, "folder now": os.getcwd()}, sort_keys=True)  # noqa: PTH109 - paths may be relative to it
    return cache_folder() / "annotations" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.bin"


def _packed(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """The parts of a file: magic, digest of the rest, length of the head, head, arrays at aligned places."""
    listed = [[name, array.dtype.str, list(array.shape), 0] for name, array in arrays.items()]
    room = len(json.dumps({"facts": facts, "arrays": listed})) + 20 * len(listed)
    start = len(_MAGIC) + 32 + 8
    offset = -(-(start + room) // _ALIGNED) * _ALIGNED
    room = offset - start
    chunks: list[bytes | memoryview] = []
    for row, array in zip(listed, arrays.values(), strict=True):
        row[3] = offset
        size = -(-array.nbytes // _ALIGNED) * _ALIGNED
        chunks += [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, bytes(size - array.nbytes)]
        offset += size
    head = json.dumps({"facts": facts, "arrays": listed}).encode().ljust(room)
    digest = hashlib.sha256(room.to_bytes(8, "little") + head)
    for chunk in chunks:
        digest.update(chunk)
    return [_MAGIC, digest.digest(), room.to_bytes(8, "little"), head, *chunks]
