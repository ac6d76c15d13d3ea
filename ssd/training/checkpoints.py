"""Run states on disk: plain types and tensors with their SHA-256 in the same file. Loading executes nothing."""

import hashlib
import io
import re
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssd.errors import CheckpointError
from ssd.system.files import write_atomic
from ssd.weights.native import damaged, read_file

_MAGIC = b"SSDSTATE"
_FOOTER = len(_MAGIC) + hashlib.sha256().digest_size
# The types that `torch.load(weights_only=True)` accepts; exact, since NumPy's float64 is a float and is refused.
_PLAIN = (str, int, float, bool, bytes, type(None))
_TENSORS = (Tensor, torch.nn.Parameter)


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a run's state (only dicts, lists, numbers, strings and tensors), followed by its digest.

    Raises:
        CheckpointError: names a value that could not be loaded safely.
        SSDError: no space left; an old file is kept.
    """
    _check_plain(dict(state), "state")
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    payload = buffer.getbuffer()
    # Zip readers search for the directory from the end and skip the footer: the file stays an ordinary .pt.
    write_atomic(path, payload, _MAGIC + hashlib.sha256(payload).digest())


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a file that `save_state` wrote, onto the CPU.

    Raises:
        CheckpointError: missing, cut short, changed, or not a run state.
    """
    payload = _verified(path)
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:
        # The digest is right, so the file is undamaged, but `save_state` did not write it.
        raise CheckpointError(f"is not a run state ({type(error).__name__})", place=path) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"holds {type(state).__name__}, not a run state", place=path)
    return state


def newest_whole(folder: str | Path, pattern: str = "*.pt") -> Path | None:
    """Path of the newest undamaged run state, or None; a warning names each newer damaged one.

    The newest has the highest number in its name (`state-000120.pt`), and the latest time among equal numbers.
    """
    for path in _newest_first(folder, pattern):
        try:
            _verified(path)
        except CheckpointError as error:
            warnings.warn(f"{error} Falling back to the one before it.", stacklevel=2)
        else:
            return path
    return None


def prune(folder: str | Path, keep: int, pattern: str = "*.pt") -> tuple[Path, ...]:
    """Delete all but the `keep` newest run states, after a new one was written; returns the deleted paths.

    A file that cannot be deleted causes a warning: training must not stop for it.
    """
    if keep < 1:
        raise CheckpointError(f"keep = {keep} would delete every run state", place=folder, remedy="Keep 1 or more.")
    deleted = []
    for path in _newest_first(folder, pattern)[keep:]:
        try:
            path.unlink()
        except OSError as error:
            warnings.warn(f"{path}: cannot be deleted ({error.strerror})", stacklevel=2)
        else:
            deleted.append(path)
    return tuple(deleted)


def _verified(path: str | Path) -> memoryview:
    """Check the digest of a run state and return its payload."""
    data = memoryview(read_file(path))
    payload, footer = data[:-_FOOTER], bytes(data[-_FOOTER:])
    if Path(path).suffix == ".safetensors":
        remedy = f"To go on with its run: --resume {Path(path).parent}; to start a new one from it: --start {path}"
        raise CheckpointError("is a file of weights, and no run state", place=path, remedy=remedy)
    if not footer.startswith(_MAGIC):
        raise damaged(path, "it is cut short, or no run state")
    if hashlib.sha256(payload).digest() != footer[len(_MAGIC) :]:
        raise damaged(path, "its SHA-256 does not match")
    return payload


def _newest_first(folder: str | Path, pattern: str) -> list[Path]:
    def age(path: Path) -> tuple[int, int, str]:
        numbers = re.findall(r"\d+", path.stem)
        return (int(numbers[-1]) if numbers else -1, path.stat().st_mtime_ns, path.name)

    return sorted((path for path in Path(folder).glob(pattern) if path.is_file()), key=age, reverse=True)


def _check_plain(value: Any, place: str) -> None:
    """Refuse to save a value that could not be loaded without executing code."""
    items: Iterable[tuple[Any, Any]] = ()
    if type(value) in (dict, OrderedDict, Counter):
        items = value.items()
        for key in value:
            _check_plain(key, f"{place}: key {key!r}")
    elif type(value) in (list, tuple, set):
        items = enumerate(value)
    elif type(value) not in (*_PLAIN, *_TENSORS):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise CheckpointError(f"a {kind} cannot be stored", place=place, remedy="Store plain types and tensors.")
    for key, item in items:
        _check_plain(item, f"{place}.{key}")
