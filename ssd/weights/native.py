"""What is kept of a run: weights that anyone can use, and the state from which training goes on.

Both files carry a SHA-256 of their contents, so that a flipped byte is an error and not a slightly wrong network.
Neither executes anything when loaded.
"""

import hashlib
import io
import json
import re
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ssd.errors import CheckpointError
from ssd.settings import Settings
from ssd.system.files import clean_leftovers as clean_leftovers
from ssd.system.files import write_atomic

# One key, because safetensors writes several in an order that changes from run to run.
_KEY = "ssd"
_VERSION = 1
_MAGIC = b"SSDSTATE"
_FOOTER = len(_MAGIC) + hashlib.sha256().digest_size
# What `torch.load(weights_only=True)` takes back; exact types, since numpy's float64 is a float and is refused.
_PLAIN = (str, int, float, bool, bytes, type(None))
_TENSORS = (Tensor, torch.nn.Parameter)


def save_weights(
    path: str | Path, state_dict: Mapping[str, Tensor], settings: Settings, *, extra: Mapping[str, Any] | None = None
) -> None:
    """Write weights and settings as safetensors; `extra` is anything JSON can carry: config, figures, versions.

    Raises:
        CheckpointError: `extra` holds what JSON cannot carry (NaN included).
        SSDError: no space left; the old file is unharmed.
    """
    # Copies: safetensors refuses tensors that share memory or are strided.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    facts = {"version": _VERSION, "settings": settings.to_dict(), "extra": dict(extra or {})}
    try:
        digest = _digest(tensors, facts)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"extra cannot be written as JSON ({error})", place=path) from None
    header = {_KEY: _canonical({**facts, "sha256": digest})}
    write_atomic(path, safetensors.torch.save(tensors, header))


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], Settings, dict[str, Any]]:
    """Read a file of `save_weights` back: weights, settings, extra.

    Raises:
        CheckpointError: not such a file, of a newer version, or its bytes are not those that were written.
    """
    data = _read(path)
    facts = _facts(data)
    if facts is None:
        raise CheckpointError(
            "is not a weights file of this package", place=path, remedy="Files of other codes go through `ssd.load`."
        )
    if facts.get("version") != _VERSION:
        raise CheckpointError(
            f"has version {facts.get('version')!r}, this package reads {_VERSION}", place=path, remedy="Update it."
        )
    promised = facts.pop("sha256", None)
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None
    if _digest(tensors, facts) != promised:
        raise _damaged(path, "its SHA-256 does not match")
    return tensors, Settings.from_dict(facts.get("settings", {}), str(path)), facts.get("extra", {})


def is_ours(path: str | Path) -> bool:
    """Whether `path` is a weights file of this package, by its header alone."""
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        # safetensors allows headers of up to 100 MB; anything larger is another kind of file.
        return length < 100_000_000 and _facts(length.to_bytes(8, "little") + file.read(length)) is not None


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a run's state: dicts, lists, numbers, strings and tensors, nothing else, with its digest behind it.

    Raises:
        CheckpointError: a value would not load back safely; names it.
        SSDError: no space left; the old file is unharmed.
    """
    _check_plain(dict(state), "state")
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    payload = buffer.getbuffer()
    # A zip reader looks for its directory from the end and steps over the footer: the file stays an ordinary .pt.
    write_atomic(path, payload, _MAGIC + hashlib.sha256(payload).digest())


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a file of `save_state` back, onto the CPU.

    Raises:
        CheckpointError: missing, cut short, changed, or not a run state.
    """
    payload = _verified(path)
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:
        # The digest was right, so these are the bytes someone wrote: but not `save_state`.
        raise CheckpointError(f"is not a run state ({type(error).__name__})", place=path) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"holds {type(state).__name__}, not a run state", place=path)
    return state


def newest_whole(folder: str | Path, pattern: str = "*.pt") -> Path | None:
    """Path of the newest undamaged run state, or None; each damaged one on the way is named in a warning.

    Newest is the highest number in the file's name (`state-000120.pt`), and the later file among equals.
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
    """Delete all but the `keep` newest run states; call it after the new one is written. Says what it deleted.

    A file that cannot be deleted is a warning: training must not stop for it.
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


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical facts and each tensor's name, type, shape and bytes, in the order of names."""
    sha = hashlib.sha256(_canonical(facts).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha.update(_canonical([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _canonical(value: Any) -> str:
    """One spelling for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _facts(data: bytes) -> dict[str, Any] | None:
    """What `save_weights` put into a safetensors header; None where there is nothing of the kind."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        facts = json.loads(header["__metadata__"][_KEY])
    except (ValueError, KeyError, TypeError):
        return None
    return facts if isinstance(facts, dict) else None


def _verified(path: str | Path) -> memoryview:
    """Return the payload of a run state whose digest is right."""
    data = memoryview(_read(path))
    payload, footer = data[:-_FOOTER], bytes(data[-_FOOTER:])
    if not footer.startswith(_MAGIC):
        raise _damaged(path, "it is cut short, or no run state")
    if hashlib.sha256(payload).digest() != footer[len(_MAGIC) :]:
        raise _damaged(path, "its SHA-256 does not match")
    return payload


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise CheckpointError("no such file", place=path) from None
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror})", place=path) from None


def _damaged(path: str | Path, how: str) -> CheckpointError:
    return CheckpointError(f"is damaged: {how}", place=path, remedy="Copy it again, or use another one.")


def _newest_first(folder: str | Path, pattern: str) -> list[Path]:
    def age(path: Path) -> tuple[int, int, str]:
        numbers = re.findall(r"\d+", path.stem)
        return (int(numbers[-1]) if numbers else -1, path.stat().st_mtime_ns, path.name)

    return sorted((path for path in Path(folder).glob(pattern) if path.is_file()), key=age, reverse=True)


def _check_plain(value: Any, place: str) -> None:
    """Refuse, at the time of saving, what could not be loaded without executing code."""
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
