import contextlib
import io
import struct
import zipfile

import numpy as np
import pytest
import torch

from ssd.errors import CheckpointError
from ssd.weights.files.npz import is_npz, read_npz
from ssd.weights.files.tensors import read_tensors


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path, data: bytes, name: str = "a.npy") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, data)


def test_every_number_type_and_order_comes_back(tmp_path):
    arrays = {
        "float": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big_endian": np.arange(4, dtype=">f4"),
        "counter": np.array(7),
        "none": np.zeros((0, 3), np.float16),
    }
    np.savez_compressed(tmp_path / "x.npz", text=np.array("a log"), **arrays)
    tensors = read_npz(tmp_path / "x.npz")
    assert tensors.keys() == arrays.keys(), "text is no tensor"
    for name, array in arrays.items():
        assert tensors[name].tolist() == array.tolist()
        assert tensors[name].is_contiguous()


def test_an_archive_is_known_without_its_ending(tmp_path):
    path = tmp_path / "model_iter_120000"
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3, np.float32))
    assert is_npz(path)
    assert torch.equal(read_tensors(path)["a"], torch.ones(3))
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pth")
    assert not is_npz(tmp_path / "x.pth")
    assert not is_npz(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (header("(1000000000000,)") + bytes(4), r"4 bytes for an array of shape \(1000000000000,\)"),
        (header("(4294967296, 4294967296)"), "0 bytes for an array"),  # in 64 bits that product is zero
        (header("(-1,)") + bytes(4), "for an array of shape"),
        (header("(1,)", "'|O'") + bytes(8), "could run code"),
        (header("(1,)", "[('a', '<f4', 1000000000)]"), ""),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 60000) + b" " * 60000, ""),
        (b"\x93NUMPY\x03\x00" + bytes(100), "version"),
        (b"nothing of the kind", ""),
        (header("(1,)", "__import__('os').system('false')"), ""),
    ],
)
def test_sizes_that_are_not_there_are_not_believed(tmp_path, data, problem):
    archive(tmp_path / "x.npz", data)
    with pytest.raises(CheckpointError, match=rf"x\.npz: cannot be read .*{problem}"):
        read_npz(tmp_path / "x.npz")


def test_what_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("ssd.weights.files.npz.LARGEST", 1000)
    archive(tmp_path / "x.npz", header("(1000,)") + bytes(4000))
    with pytest.raises(CheckpointError, match=r"it unpacks to 0\.0 GB"):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_cut_and_no_changed_byte_gets_through_as_another_error(tmp_path, save):
    buffer = io.BytesIO()
    save(buffer, a=np.arange(5, dtype=np.float32), b=np.arange(3))
    whole, path = buffer.getvalue(), tmp_path / "x.npz"
    for at in range(0, len(whole), 5):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(data)
            with contextlib.suppress(CheckpointError):  # flags and dates may change without harm
                read_npz(path)
