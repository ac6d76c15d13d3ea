"""Remembers which images of a split were decoded without an error, by their sizes and times."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from jaxtyping import Int

from ssd.data import cache
from ssd.data.dataset import Dataset, read_image
from ssd.data.index import paths_of, sizes_of


def check_unchecked(dataset: Dataset, check: Callable[[Sequence[int]], None]) -> None:
    """Call `check` for the rows of all images that have changed since it last succeeded for them."""
    if dataset.read is not read_image:  # drawn by the program
        check(range(len(dataset)))
        return
    digest = hashlib.sha256()
    found = np.zeros((len(dataset), 2), np.int64)
    facts = zip(paths_of(dataset.records), sizes_of(dataset.records).tolist(), strict=True)
    for row, (path, (width, height)) in enumerate(facts):
        digest.update(f"{path}\0{width}x{height}\0".encode(errors="surrogatepass"))
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116 - a path object takes as long again
            found[row] = status.st_size, status.st_mtime_ns
    key = {"what": "decoded 1", "folder": dataset.name, "split": dataset.split}
    entry = cache.load(key)
    known = np.full_like(found, -1)
    if entry is not None and entry.facts.get("records") == digest.hexdigest():
        known = entry.arrays["states"]
    changed = np.flatnonzero((known != found).any(axis=1)).tolist()
    check(changed)
    if changed:
        cache.store(key, [], {"records": digest.hexdigest()}, {"states": _settled(found)})


def _settled(found: Int[np.ndarray, "N 2"]) -> Int[np.ndarray, "N 2"]:
    """Without images changed just now, which may change again at the same time and size."""
    recent = found[:, 1] > time.time_ns() - 2_000_000_000
    return np.where(recent[:, None], -1, found)
