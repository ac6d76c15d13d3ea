"""Reads a `.caffemodel` without Caffe: the fields of its protocol buffer with names, blobs and default boxes.

Field numbers are those of `caffe.proto` in weiliu89/caffe, branch ssd. Lengths are checked against the file, so that a
damaged or malicious one is only an error.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from ssd.errors import CheckpointError
from ssd.system.files import read_regular
from ssd.weights.files.npz import LARGEST

# Fields of a message by number; a number may come many times.
Fields = dict[int, list[int | memoryview]]

# The layer list and, in a layer, its name and its blobs: today's message, and the one before it.
_LAYER_KINDS = ((100, 1, 7), (2, 4, 6))
_PRIOR_BOX = 203
_SUFFIX = "_mbox_priorbox"
# Blobs of a network have four dimensions, its messages hundreds of fields; numbers are packed into one.
_MOST_DIMENSIONS = 8
_MOST_FIELDS = 20_000


def read_caffemodel(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Blobs as `layer/0`, `layer/1`, and `{"prior_boxes": {tap: its parameters}}` as far as the file has them.

    Raises:
        CheckpointError: not a protocol buffer, cut short, or a blob of another size than its shape says.
    """
    blobs: dict[str, Tensor] = {}
    priors: dict[str, dict[str, Any]] = {}
    try:
        net = _fields(memoryview(read_regular(path, LARGEST)))
        for layers, name_field, blob_field in _LAYER_KINDS:
            for raw in net[layers]:
                layer = _fields(_message(raw))
                name = bytes(_message(layer[name_field][0])).decode() if layer[name_field] else ""
                for index, blob in enumerate(layer[blob_field]):
                    blobs[f"{name}/{index}"] = _blob(_fields(_message(blob)), name)
                if layers == 100 and layer[_PRIOR_BOX] and name.endswith(_SUFFIX):
                    priors[name.removesuffix(_SUFFIX)] = _prior_box(_fields(_message(layer[_PRIOR_BOX][-1])))
    except (ValueError, IndexError, OSError) as error:
        remedy = "Is it a .caffemodel, copied whole?"
        raise CheckpointError(f"cannot be read as a Caffe model ({error})", place=path, remedy=remedy) from None
    return blobs, {"prior_boxes": priors} if priors else {}


def _blob(fields: Fields, layer: str) -> Tensor:
    """An array; `shape` in today's files, four numbers in older ones."""
    values = _floats(fields[5])
    if fields[7]:
        shape = tuple(islice(_integers(_fields(_message(fields[7][0]))[1]), _MOST_DIMENSIONS + 1))
    else:
        shape = tuple(_integer(fields[number][-1]) if fields[number] else 0 for number in (1, 2, 3, 4))
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"layer {layer[:80]!r} has more than {_MOST_DIMENSIONS} dimensions")
    # Python's integers do not overflow, so no product of sizes can pretend to be another.
    if math.prod(shape) != len(values):
        raise ValueError(f"layer {layer[:80]!r} has {len(values)} numbers for the shape {shape}")
    return torch.from_numpy(values.reshape(shape).copy())


def _prior_box(fields: Fields) -> dict[str, Any]:
    """PriorBoxParameter, with the message's own defaults."""

    def one(number: int, default: float) -> float:
        return _numbers(fields[number])[-1] if fields[number] else default

    return {
        "min_sizes": _numbers(fields[1]),
        "max_sizes": _numbers(fields[2]),
        "aspect_ratios": _numbers(fields[3]),
        "flip": bool(fields[4][-1]) if fields[4] else True,
        "clip": bool(fields[5][-1]) if fields[5] else False,
        "variances": _numbers(fields[6]),
        "img_size": _integer(fields[7][-1]) if fields[7] else 0,
        "step": one(10, 0.0),
        "offset": one(13, 0.5),
    }


def _fields(data: memoryview) -> Fields:
    """Split a message: integers as such, everything else as its bytes."""
    fields: Fields = defaultdict(list)
    at = count = 0
    while at < len(data):
        if count >= _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS:,} fields in one message")
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            fields[key >> 3].append(value)
            count += 1
            continue
        length = {1: 8, 5: 4}.get(kind, -1)
        if kind == 2:
            length, at = _varint(data, at)
        if length < 0 or at + length > len(data):
            _cut_short(at)
        fields[key >> 3].append(data[at : at + length])
        at += length
        count += 1
    return fields


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Seven bits a byte, low ones first; and where the next field begins."""
    value = 0
    for index in range(10):
        if at + index >= len(data):
            _cut_short(at)
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    _cut_short(at)


def _cut_short(at: int) -> NoReturn:
    raise ValueError(f"nothing sensible at byte {at}")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _integer(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("a message where a number belongs")
    return value


def _integers(values: list[int | memoryview]) -> Iterator[int]:
    """Integers, packed or one by one."""
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            yield number


def _floats(values: list[int | memoryview]) -> np.ndarray:
    """Single-precision floats, packed or one by one."""
    return np.frombuffer(b"".join(_message(value) for value in values), "<f4")


def _numbers(values: list[int | memoryview]) -> list[float]:
    # 0.1 as a float32 is 0.10000000149; six digits give the number that was written down.
    return [float(f"{value:.6g}") for value in _floats(values)]
