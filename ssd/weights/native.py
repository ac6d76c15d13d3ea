"""This package's weights files: safetensors with settings, and a SHA-256 of the contents.

With the digest a flipped byte is an error and not a slightly wrong network. Loading executes nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ssd.errors import CheckpointError
from ssd.settings import Settings
from ssd.system.files import write_atomic

# One key, because safetensors writes several in an order that changes from run to run.
_KEY = "ssd"
_VERSION = 1


def save_weights(
    path: str | Path, state_dict: Mapping[str, Tensor], settings: Settings, *, extra: Mapping[str, Any] | None = None
) -> None:
    """Write weights and settings as safetensors; `extra` is any JSON content: config, figures, versions.

    Raises:
        CheckpointError: `extra` has values that JSON lacks (such as NaN).
        SSDError: no space left; an old file is kept.
    """
    # Tensors are copied, because safetensors refuses shared memory and strides.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    facts = {"version": _VERSION, "settings": settings.to_dict(), "extra": dict(extra or {})}
    try:
        digest = _digest(tensors, facts)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"extra cannot be written as JSON ({error})", place=path) from None
    header = {_KEY: _canonical({**facts, "sha256": digest})}
    write_atomic(path, safetensors.torch.save(tensors, header))


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], Settings, dict[str, Any]]:
    """Read a file that `save_weights` wrote: weights, settings, extra.

    Raises:
        CheckpointError: the file is of another kind, of a newer version, or damaged.
    """
    data = read_file(path)
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
        raise damaged(path, str(error)) from None
    try:
        digest = _digest(tensors, facts)
    except UnicodeEncodeError as error:  # JSON may hold half a surrogate pair
        raise damaged(path, str(error)) from None
    if digest != promised:
        raise damaged(path, "its SHA-256 does not match")
    return tensors, Settings.from_dict(facts.get("settings", {}), str(path)), facts.get("extra", {})


def metric_of(extra: Mapping[str, Any]) -> Literal["coco", "voc"]:
    """The metric of the validation figures in `extra`: VOC's AP is of one IoU threshold, which they name."""
    return "voc" if "iou_threshold" in extra.get("validation", {}) else "coco"


def is_ours(path: str | Path) -> bool:
    """Whether `path` is a weights file of this package, by its header alone."""
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        # safetensors allows headers of up to 100 MB; anything larger is another kind of file.
        return length < 100_000_000 and _facts(length.to_bytes(8, "little") + file.read(length)) is not None


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical facts and each tensor's name, type, shape and bytes, in the order of names."""
    sha = hashlib.sha256(_canonical(facts).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha.update(_canonical([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _canonical(value: Any) -> str:
    """The same text for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _facts(data: bytes) -> dict[str, Any] | None:
    """The facts of `save_weights` in a safetensors header; None if there are none."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        facts = json.loads(header["__metadata__"][_KEY])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def read_file(path: str | Path) -> bytes:
    """The bytes of a weights file or run state.

    Raises:
        CheckpointError: missing, or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise CheckpointError("no such file", place=path) from None
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror})", place=path) from None


def damaged(path: str | Path, how: str) -> CheckpointError:
    """The error for a damaged file."""
    return CheckpointError(f"is damaged: {how}", place=path, remedy="Copy it again, or use another one.")
