"""The look of an image as a short vector: near duplicates have vectors that correlate.

Found: copies that were saved again, resized or lit in another way, and frames of one scene. Not found: mirrored, turned
and strongly cropped copies.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from ssd.errors import ImageDecodeError
from ssd.images.decode import load_shrunk

ALIKE = 0.92  # correlation from which two images are near duplicates
_SIDE = 8  # pixels of the thumbnail
_NUMBERS = 3 * _SIDE**2
_FLAT = 1.0  # standard deviation in grey levels below which a thumbnail is one colour and its noise
_ROWS = 1024  # images that are compared with all others at once
_THREADS = 4


def look(image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "192"]:
    """A thumbnail of 8 x 8 pixels, without its mean colour and of length 1; zeros for an image of one colour."""
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)
    centred = (small - small.mean(axis=0)).ravel()
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length > _FLAT * _NUMBERS**0.5 else 0 * centred, np.float32)


def read_looks(paths: Sequence[Path | None]) -> Float32[np.ndarray, "N 192"]:
    """The look of each file; zeros, which are like nothing, where there is none or it cannot be decoded."""
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        rows = list(pool.map(_read, paths))
    return np.stack(rows) if rows else np.zeros((0, _NUMBERS), np.float32)


def _read(path: Path | None) -> Float32[np.ndarray, "192"]:
    try:
        assert path is not None
        facts = path.stat()
        return _read_once(path, facts.st_size, facts.st_mtime_ns)
    except (AssertionError, OSError, ValueError, ImageDecodeError):
        return np.zeros(_NUMBERS, np.float32)


@lru_cache(maxsize=100_000)  # 1 kB each; the size and time of the file tell when it changes
def _read_once(path: Path, size: int, time: int) -> Float32[np.ndarray, "192"]:
    return look(load_shrunk(path, 8, "percentile")[0])


def join_alike(
    groups: Int[np.ndarray, "N"], looks: Float32[np.ndarray, "N 192"], least: float = ALIKE
) -> Int[np.ndarray, "N"]:
    """Join groups that have images with a correlation of `least` or more, also by way of others.

    A group is the lowest index of its images.
    """
    joined = groups.copy()
    for first, alike in _similar(looks, least):
        for row in np.flatnonzero(alike.any(axis=1)):
            others = joined[first + np.flatnonzero(alike[row])]
            found = np.unique(np.append(others, joined[first + row]))
            if len(found) > 1:
                joined[np.isin(joined, found)] = found[0]
    return joined


def _similar(looks: Float32[np.ndarray, "N 192"], least: float) -> Iterator[tuple[int, Bool[np.ndarray, "R M"]]]:
    """Blocks of rows: the index of the first one, and which images from there on each row is like."""
    for first in range(0, len(looks), _ROWS):
        alike = looks[first : first + _ROWS] @ looks[first:].T >= least
        yield first, np.triu(alike, 1)


def nearest(
    looks: Float32[np.ndarray, "N 192"], others: Float32[np.ndarray, "M 192"]
) -> tuple[Int[np.ndarray, "N"], Float32[np.ndarray, "N"]]:
    """For each image the index of the most similar one of the others, and their correlation."""
    if not len(others):
        return np.zeros(len(looks), np.int64), np.full(len(looks), -1, np.float32)
    places, values = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for first in range(0, len(looks), _ROWS):
        correlations = looks[first : first + _ROWS] @ others.T
        places.append(correlations.argmax(axis=1))
        values.append(correlations.max(axis=1))
    return np.concatenate(places), np.concatenate(values)
