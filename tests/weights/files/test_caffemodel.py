"""A `.caffemodel` is read without Caffe; the files here are written by hand, field by field."""

import struct

import numpy as np
import pytest
import torch
from torch import Tensor

from ssd.errors import CheckpointError
from ssd.weights.files.caffemodel import read_caffemodel
from ssd.weights.files.tensors import read_checkpoint
from ssd.weights.ports.registry import convert_checkpoint
from tests.weights import plain


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def real(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def blob(array: np.ndarray, *, old: bool = False) -> bytes:
    data = message(5, array.astype("<f4").tobytes())
    if old:
        four = (1,) * (4 - array.ndim) + array.shape
        return b"".join(integer(i, side) for i, side in enumerate(four, start=1)) + data
    return data + message(7, message(1, b"".join(varint(side) for side in array.shape)))


def layer(name: str, *blobs: bytes, more: bytes = b"") -> bytes:
    return message(
        100, message(1, name.encode()) + message(2, b"Convolution") + b"".join(message(7, b) for b in blobs) + more
    )


def prior_box(small: float, large: float, ratios: list[int], step: float, *, more: bytes = b"") -> bytes:
    facts = real(1, small) + real(2, large) + b"".join(real(3, r) for r in ratios)
    return message(
        203, facts + integer(4, 1) + b"".join(real(6, v) for v in (0.2, 0.2, 0.4, 0.4)) + real(10, step) + more
    )


def model(state: dict[str, Tensor], *more: bytes) -> bytes:
    """All blobs, in layers as Caffe writes them; unknown fields in between."""
    layers: dict[str, list[bytes]] = {}
    for name, tensor in state.items():
        layers.setdefault(name.rpartition("/")[0], []).append(blob(tensor.numpy()))
    return (
        message(1, b"VGG_VOC0712") + integer(5, 0) + b"".join(layer(n, *b) for n, b in layers.items()) + b"".join(more)
    )


def test_blobs_come_back_by_layer_and_number(tmp_path):
    weight, bias = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), np.array([1.5, -2], np.float32)
    path = tmp_path / "x.caffemodel"
    path.write_bytes(message(1, b"net") + layer("conv1_1", blob(weight), blob(bias)) + layer("relu1_1"))
    blobs, notes = read_caffemodel(path)
    assert blobs.keys() == {"conv1_1/0", "conv1_1/1"}
    assert torch.equal(blobs["conv1_1/0"], torch.from_numpy(weight))
    assert torch.equal(blobs["conv1_1/1"], torch.from_numpy(bias))
    assert notes == {}


def test_the_message_of_2014_and_numbers_one_by_one_are_read_too(tmp_path):
    path = tmp_path / "x.caffemodel"
    old = message(2, message(4, b"fc6") + message(6, blob(np.ones((2, 3), np.float32), old=True)))
    single = layer("one", integer(1, 2) + integer(2, 1) + integer(3, 1) + integer(4, 1) + real(5, 0.5) + real(5, 2.0))
    path.write_bytes(old + single)
    blobs, _ = read_caffemodel(path)
    assert torch.equal(blobs["fc6/0"], torch.ones(1, 1, 2, 3))
    assert blobs["one/0"].flatten().tolist() == [0.5, 2.0]


SMALL, LARGE = [25.5, 50, 111, 162, 213, 264], [50.9, 111, 162, 213, 264, 315]
TAPS = ["conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2"]


def priors(more: bytes = b"") -> bytes:
    return b"".join(
        layer(
            f"{tap}_mbox_priorbox",
            more=prior_box(SMALL[i], LARGE[i], plain.RATIOS[300][i], plain.STEPS[300][i], more=more),
        )
        for i, tap in enumerate(TAPS)
    )


def test_a_whole_model_is_recognised_and_tells_its_default_boxes(tmp_path):
    path, state = tmp_path / "VGG_cells_SSD_300x300_iter_60000.caffemodel", plain.caffe(4)
    path.write_bytes(model(state, priors()))
    tensors, notes = read_checkpoint(path)
    foreign = convert_checkpoint(tensors, path, ("a", "b", "c"), notes=notes)
    boxes = foreign.settings.boxes
    assert boxes.min_sizes == (25, 50, 111, 162, 213, 264), "its integer fields cut 25.5 to 25"
    assert boxes.max_sizes == (50, 111, 162, 213, 264, 315), "50.9 to 50"
    assert boxes.aspect_ratios == ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
    assert boxes.steps == (8, 16, 32, 64, 100, 300)
    assert boxes.variances == (0.2, 0.2, 0.4, 0.4)
    expected = convert_checkpoint(state, "x", box_table="voc")
    assert all(torch.equal(foreign.state_dict[name], expected.state_dict[name]) for name in expected.state_dict)
    told = convert_checkpoint(tensors, path, notes=notes, box_table="coco")
    assert told.settings.boxes.min_sizes[0] == 21, "the caller knows better"


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (integer(5, 1), "no clip"),
        (real(13, 0.25), "offset 0.5"),
        (real(1, 40.0), "one min_size and one max_size"),
        (real(3, 0.5), "aspect ratios above 1"),
        (integer(7, 512), "img_size 300"),
    ],
)
def test_default_boxes_that_cannot_be_expressed_here_are_refused(tmp_path, more, wanted):
    path = tmp_path / "x.caffemodel"
    path.write_bytes(priors(more))
    _, notes = read_caffemodel(path)
    with pytest.raises(CheckpointError, match=f"x: its default boxes at conv4_3_norm are of another kind .*{wanted}"):
        convert_checkpoint(plain.caffe(4), "x", notes=notes)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 40,  # a number that never ends
        message(100, b"\x0a\xff\xff\xff\xff\x0f"),  # a name of 4 GB
        layer("a", message(5, bytes(8)) + message(7, message(1, varint(2**60) + varint(2**60)))),
        layer("a", message(5, bytes(7))),  # not whole floats
        layer("a", integer(7, 3)),  # a number where a shape belongs
        message(100, integer(1, 3)),  # a number where a name belongs
        message(100, message(1, b"\xff\xfe")),  # a name that is no text
        integer(100, 3),
        b"<html>Not found</html>",
    ],
)
def test_what_is_damaged_or_hostile_is_an_error_that_names_the_file(tmp_path, data):
    path = tmp_path / "x.caffemodel"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"x\.caffemodel: cannot be read as a Caffe model"):
        read_caffemodel(path)


def test_no_cut_gets_through_as_another_error(tmp_path):
    path = tmp_path / "x.caffemodel"
    whole = layer("conv1_1", blob(np.ones((2, 3), np.float32)), blob(np.ones(2, np.float32))) + priors()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        try:
            read_caffemodel(path)
        except CheckpointError:
            continue
        assert whole[:length] == b"" or whole[length : length + 1] == b"\xa2", "only whole layers are taken"


def test_an_empty_file_holds_no_tensors(tmp_path):
    path = tmp_path / "x.caffemodel"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_checkpoint(path)
