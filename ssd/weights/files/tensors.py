"""Reads named tensors from any weights file, without executing any of its content."""

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ssd.errors import CheckpointError
from ssd.system.other_content import refuse_other_file
from ssd.weights.files.caffemodel import read_caffemodel
from ssd.weights.files.npz import check_unpacked_size, is_npz, read_npz

# Keys under which training scripts store the network, next to optimizers and counters.
_WRAPPERS = ("model", "state_dict", "model_state_dict", "net", "network")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
_GRAPHS = (".onnx", ".xml", ".pt2")
_REMEDY = "Is it a weights file, copied whole?"


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a `.pth`, `.pt`, `.safetensors`, `.npz` or `.caffemodel` file as name -> tensor, on the CPU.

    A network wrapped with its optimizer is unwrapped; prefixes that wrappers put before every name (`module.`) go.

    Raises:
        CheckpointError: missing, damaged, without tensors, or holding objects whose loading could run code.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Like `read_tensors`, with the plain values that the file has beside the network, such as mmdetection's `meta`."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError("no such file", place=path)
    refuse_other_file(path, CheckpointError)
    if path.suffix.lower() in _GRAPHS:
        raise CheckpointError("is an exported graph", place=path, remedy="Name the weights that it was exported from.")
    raw, notes = _read(path)
    network = _unwrap(raw)
    tensors = {str(name): value for name, value in network.items() if isinstance(value, Tensor)}
    if not tensors:
        seen = ", ".join(str(key) for key in list(raw)[:5]) or "none"
        raise CheckpointError(f"holds no tensors; its keys are {seen}", place=path, remedy="Save `model.state_dict()`.")
    for name, tensor in tensors.items():
        _check_whole(name, tensor, path)
    tensors = _without_prefixes(tensors)
    if network is not raw:
        notes |= {str(key): value for key, value in raw.items() if value is not network}
    return tensors, notes


def _without_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers (DataParallel, `torch.compile`, Lightning) put before every one of them."""
    found = dict(tensors)
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in found)), None):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _read(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".caffemodel":
        return read_caffemodel(path)
    if suffix == ".safetensors":
        return _read_safetensors(path), {}
    return (read_npz(path) if suffix == ".npz" or is_npz(path) else _read_torch(path)), {}


def _check_whole(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse tensors with more elements than stored numbers: with a stride of 0 one number becomes a terabyte."""
    plain = tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(
            f"{name} has the shape {tuple(tensor.shape)}, but not as many numbers", place=path, remedy=_REMEDY
        )


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the metadata of a safetensors file; empty for any other file."""
    if Path(path).suffix.lower() != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"is damaged ({error})", place=path, remedy=_REMEDY) from None


def _read_torch(path: Path) -> Mapping[str, Any]:
    _check_zip(path)
    try:
        # torchvision's training script stores its arguments, a class that only carries values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            raw = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _refused(path, error) from None
    if not isinstance(raw, Mapping):
        raise CheckpointError(f"holds {type(raw).__name__}", place=path, remedy="Save `model.state_dict()`.")
    return raw


def _check_zip(path: Path) -> None:
    """Refuse programs, and archives that need more memory when unpacked than a network.

    PyTorch reads uncompressed tensors in place, but unpacks a compressed entry whole.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        check_unpacked_size(path)
    except ValueError as error:
        raise CheckpointError(f"cannot be read ({error})", place=path, remedy=_REMEDY) from None
    except Exception:  # no zip: the older format, or damaged, which `torch.load` says
        return
    if any(name.endswith("constants.pkl") for name in names):
        remedy = "Save `model.state_dict()` where it was made."
        raise CheckpointError("is a TorchScript program, not a file of weights", place=path, remedy=remedy)


def _refused(path: Path, error: Exception) -> CheckpointError:
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        remedy = "Save `model.state_dict()` where it was made."
        if found.group(1).startswith("mmengine."):
            remedy = "Strip it with mmdetection's tools/model_converters/publish_model.py."
        return CheckpointError(
            f"holds {found.group(1)}, not only tensors; loading that could run code", place=path, remedy=remedy
        )
    return CheckpointError(f"cannot be read ({type(error).__name__})", place=path, remedy=_REMEDY)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"is damaged ({error})", place=path, remedy=_REMEDY) from None


def _unwrap(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the network in a checkpoint with other content."""
    for key in _WRAPPERS:
        inner = raw.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            return inner
    return raw
