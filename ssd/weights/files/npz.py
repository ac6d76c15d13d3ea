"""Reads the arrays of a NumPy archive, without pickles, and with their sizes checked against the file."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssd.errors import CheckpointError

# SSD512 with its optimizer has half of this; a larger archive is no weights file.
LARGEST = 2 << 30
_LONGEST_HEADER = 10_000


def is_npz(path: Path) -> bool:
    """Whether this is a zip of arrays; Chainer writes them without the suffix."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # a damaged zip directory makes zipfile raise nearly anything
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def check_unpacked_size(path: Path) -> None:
    """Refuse a zip that unpacks to more than any weights file, before unpacking it.

    Raises:
        ValueError: it unpacks to more than 2 GiB.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > LARGEST:
        raise ValueError(f"it unpacks to {size / 1e9:.1f} GB")


def read_npz(path: Path) -> dict[str, Tensor]:
    """Numeric arrays by name; text is left out.

    Raises:
        CheckpointError: damaged, too large when unpacked, or with Python objects inside.
    """
    try:
        check_unpacked_size(path)
        with zipfile.ZipFile(path) as archive:
            arrays = {
                member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in archive.infolist()
            }
    except Exception as error:  # zipfile, its four decompressors and numpy's header parser each raise their own
        remedy = "Is it a weights file, copied whole?"
        raise CheckpointError(f"cannot be read ({error})", place=path, remedy=remedy) from None
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}


def _array(data: bytes) -> np.ndarray | None:
    """One `.npy`; the bytes behind its header must be as many as the header says."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of .npy is not known")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=_LONGEST_HEADER)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, and loading those could run code")
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        return None
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"{len(data) - file.tell()} bytes for an array of shape {shape}")
    array = np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), order="C")  # a copy: `data` is read-only
