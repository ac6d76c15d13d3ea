"""Files that strangers hand over: refused in one line before time or memory is spent on them (section C)."""

import json
import os
import resource
import socket
import struct
import time
import zipfile

import pytest
import torch

from ssd.data.dataset import scan
from ssd.errors import AnnotationError, CheckpointError, ImageDecodeError, SSDError
from ssd.evaluation.class_map import match_classes
from ssd.images.decode import load_image, read_size
from ssd.weights.files.tensors import read_checkpoint, read_tensors
from ssd.weights.native import is_ours
from tests.data.made import coco_content, coco_folder, write_image, write_text


@pytest.fixture(autouse=True)
def _seconds_and_a_gigabyte():
    """The limits of every input here: 2 s on a machine of today, five times as long on a slow one; memory as far as the
    largest moment of the process shows it.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    yield
    assert time.process_time() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000


def field(number, payload):
    """A protocol buffer's field of bytes."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value):
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


@pytest.mark.parametrize("entry", ["archive/data.pkl", "archive/data/0", "archive/version"])
def test_a_pth_that_inflates_to_gigabytes_is_refused(tmp_path, entry):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry, bytes(3))
    data = bytearray(path.read_bytes())
    # The directory's own words are what is believed, so a few bytes stand for 5 MB that unpack to 5 GB.
    where = data.index(b"PK\x01\x02") + 24
    data[where : where + 4] = struct.pack("<I", 4_000_000_000)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"bomb\.pth.*unpacks to 4\.0 GB"):
        read_tensors(path)


def test_a_torchscript_program_is_named(tmp_path):
    path = tmp_path / "scripted.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scripted/constants.pkl", b"")
        archive.writestr("scripted/code/__torch__.py", b"")
    with pytest.raises(CheckpointError, match=r"TorchScript program.*state_dict"):
        read_tensors(path)


@pytest.mark.parametrize(
    "blob",
    [
        field(7, field(1, b"\1" * 200_000)) + field(5, struct.pack("<f", 1.0)),
        field(7, field(1, b"\2" * 60)) + field(5, struct.pack("<f", 1.0)),
    ],
)
def test_a_caffemodel_of_many_dimensions_is_refused_in_a_short_message(tmp_path, blob):
    path = tmp_path / "deep.caffemodel"
    path.write_bytes(field(100, field(1, b"conv1_1") + field(7, blob)))
    with pytest.raises(CheckpointError, match="more than 8 dimensions") as caught:
        read_checkpoint(path)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("one", [b"\x08\x01", b"\x0a\x00", b"\x0d\0\0\0\0"])
def test_a_caffemodel_of_millions_of_fields_is_refused_at_once(tmp_path, one):
    path = tmp_path / "wide.caffemodel"
    path.write_bytes(one * 10_000_000)
    with pytest.raises(CheckpointError, match="more than 20,000 fields"):
        read_checkpoint(path)


@pytest.mark.parametrize("depth", [10_000, 100_000])
def test_a_deeply_nested_safetensors_header_is_no_weights_file(tmp_path, depth):
    header = b'{"__metadata__":' + b"[" * depth + b"]" * depth + b"}"
    path = tmp_path / "deep.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert not is_ours(path)
    with pytest.raises(SSDError):
        read_checkpoint(path)


def scan_coco(folder, text):
    """How many images and objects a COCO file gives, and the kinds of its problems."""
    coco_folder(folder, coco_content())
    (folder / "annotations" / "instances_train.json").write_text(text)
    dataset, problems = scan(folder, "train", format="coco")
    return len(dataset.records), sum(len(record.boxes) for record in dataset.records), {p.kind for p in problems}


@pytest.mark.parametrize(
    ("part", "key", "objects", "kind"),
    [
        ("annotations", "id", 2, None),
        ("annotations", "image_id", 1, "no_image"),
        ("annotations", "category_id", 1, "unknown_class"),
        ("annotations", "area", 2, None),
        ("annotations", "bbox", 1, "no_box"),
        ("categories", "id", 1, "unknown_class"),
        ("images", "id", 1, "no_image"),
        ("images", "width", 2, None),
    ],
)
def test_numbers_of_400_digits_in_coco_are_a_problem_with_a_name(tmp_path, part, key, objects, kind):
    content = coco_content()
    content[part][0][key] = "HERE"
    images, found, kinds = scan_coco(tmp_path, json.dumps(content).replace('"HERE"', "1" + 399 * "0"))
    assert images == 2
    assert found == objects
    assert kind is None or kind in kinds


@pytest.mark.parametrize("value", ["[]", "{}", "null", "1", "[[]]"])
def test_a_supercategory_of_another_type_is_none(tmp_path, value):
    content = coco_content()
    content["categories"][0]["supercategory"] = "HERE"
    assert scan_coco(tmp_path, json.dumps(content).replace('"HERE"', value)) == (2, 2, set())


@pytest.mark.parametrize("depth", [10_000, 100_000])
@pytest.mark.parametrize("key", ["segmentation", "bbox", "attributes"])
def test_deeply_nested_coco_is_no_valid_json(tmp_path, depth, key):
    content = coco_content()
    content["annotations"][0][key] = "HERE"
    with pytest.raises(AnnotationError, match="is not valid JSON"):
        scan_coco(tmp_path, json.dumps(content).replace('"HERE"', "[" * depth + "]" * depth))


def test_a_hundred_thousand_categories_are_read_in_time(tmp_path):
    content = coco_content()
    content["categories"] += [{"id": 100 + number, "name": f"class {number}"} for number in range(100_000)]
    assert scan_coco(tmp_path, json.dumps(content)) == (2, 2, set())


@pytest.mark.parametrize("known", [2, 20_000])
def test_a_hundred_thousand_classes_are_paired_in_time(known):
    data = tuple(f"class {number}" for number in range(100_000))
    classes = match_classes(("class 7", *(f"other {number}" for number in range(known))), data)
    assert classes.to_data.tolist() == [7, *[-1] * known]
    assert len(classes.missing) == 99_999


@pytest.mark.parametrize("key", ["nc: {}", "kpt_shape: [{}, 3]", "path: {}"])
def test_numbers_of_400_digits_in_a_data_yaml_do_no_harm(tmp_path, key):
    lines = ["names: [cat, dog]", "train: images/train", key.format("1" + 399 * "0"), ""]
    write_text(tmp_path / "data.yaml", "\n".join(lines))
    write_image(tmp_path / "images" / "train" / "a.jpg")
    write_text(tmp_path / "labels" / "train" / "a.txt", "0 0.5 0.5 0.25 0.5\n")
    dataset, _ = scan(tmp_path, "train")
    assert dataset.records[0].boxes.tolist() == [[15.0, 5.0, 25.0, 15.0]]


def test_a_list_of_thousands_of_names_is_parsed_once(tmp_path):
    names = [f"c{number}" for number in range(5_000)]
    write_text(tmp_path / "data.yaml", f"names: [{', '.join(names)}]\ntrain: images/train\n")
    write_image(tmp_path / "images" / "train" / "a.jpg")
    write_text(tmp_path / "labels" / "train" / "a.txt", "4999 0.5 0.5 0.25 0.5\n")
    dataset, _ = scan(tmp_path, "train")
    assert dataset.class_names == tuple(names)
    assert dataset.records[0].labels.tolist() == [4999]


@pytest.mark.parametrize("read", [load_image, read_size])
def test_a_sparse_image_of_twenty_gigabytes_is_refused_unread(tmp_path, read):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(20_000_000_000)
    with pytest.raises(ImageDecodeError, match=r"sparse\.png.*20,000,000,000 bytes"):
        read(path)


@pytest.mark.parametrize("read", [load_image, read_size])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.jpg")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket.jpg"))
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("pipe", "socket", "folder", "device"):
        with pytest.raises(ImageDecodeError, match=rf"{name}\.jpg"):
            read(tmp_path / f"{name}.jpg")
    listener.close()


@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.", "net.", "module._orig_mod.", "model.module."])
def test_prefixes_that_wrappers_put_before_every_key_are_found(tmp_path, prefix):
    path = tmp_path / "wrapped.pth"
    torch.save({"state_dict": {f"{prefix}vgg.0.weight": torch.ones(2), f"{prefix}vgg.0.bias": torch.ones(1)}}, path)
    assert list(read_tensors(path)) == ["vgg.0.weight", "vgg.0.bias"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("\x1b[2Jcat.jpg", r"\x1b[2Jcat.jpg"), ("a\nerror: b.jpg", r"a\nerror: b.jpg"), ("\udcff.jpg", r"\udcff.jpg")],
)
def test_names_that_a_terminal_would_obey_are_shown_escaped(name, shown):
    text = str(ImageDecodeError("is empty", place=name, remedy="Remove it."))
    assert text == f"{shown}: is empty. Remove it."
    assert text.isprintable()


def test_letters_of_any_script_are_shown_as_they_are():
    assert str(SSDError("gehört nicht dazu", place="日本/猫.jpg")) == "日本/猫.jpg: gehört nicht dazu"
