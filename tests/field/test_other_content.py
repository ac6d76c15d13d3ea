"""Clones without Git LFS, and downloads that brought a web page: named as what they are, whatever was to be read."""

import pytest

from ssd.data.formats.coco_json import read_content
from ssd.data.formats.paths import read_text
from ssd.data.formats.voc_xml import parse
from ssd.errors import AnnotationError, CheckpointError, ImageDecodeError
from ssd.images.decode import load_image, read_size
from ssd.inference.load import load
from ssd.light.plain_file import read_facts
from ssd.training.checkpoints import load_state
from ssd.weights.files.tensors import read_checkpoint

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
CONTENTS = {
    LFS: "pointer of Git LFS.*git lfs pull",
    b"/annex/objects/SHA256E-s31390--f50d7.jpg\n": "pointer of git-annex.*git annex get",
    b"\xef\xbb\xbf\n<!DOCTYPE HTML><title>Virus scan warning</title>": "web page.*download",
    b"<html><body>404</body></html>": "web page.*download",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.npz", "a.caffemodel", "a.onnx", "a.xml", "a.pt2"])
def test_weights_and_graphs_say_what_the_file_is(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: is a {CONTENTS[content]}"):
        load(path, trust=True)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize(
    ("name", "read", "kind"),
    [
        ("a.jpg", load_image, ImageDecodeError),
        ("a.jpg", read_size, ImageDecodeError),
        ("a.xml", parse, AnnotationError),
        ("a.txt", read_text, AnnotationError),
        ("a.json", lambda path: read_content(path, "a.json"), AnnotationError),
        ("a.onnx", read_facts, CheckpointError),
    ],
)
def test_images_and_annotations_say_what_the_file_is(tmp_path, content, name, read, kind):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(kind, match=f"{name}: is a {CONTENTS[content]}"):
        read(path)


@pytest.mark.parametrize("name", ["a.onnx", "a.XML", "a.pt2"])
def test_a_graph_in_place_of_weights_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x08")
    with pytest.raises(CheckpointError, match=r"is an exported graph\. Name the weights that it was exported from"):
        read_checkpoint(path)


def test_weights_in_place_of_a_state_are_named_with_both_ways_on(tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"\x08" * 100)
    with pytest.raises(CheckpointError) as caught:
        load_state(path)
    assert (
        caught.value.remedy == f"To go on with its run: --resume {tmp_path}; to start a new one from it: --start {path}"
    )


def test_a_folder_in_place_of_a_plain_graph_is_said(tmp_path):
    with pytest.raises(CheckpointError, match=r"is a folder, not a file\. Name a plain graph"):
        read_facts(tmp_path)
