import shutil
import sys
import types

import pytest

from ssd.audit.decoding import Copies, find_copies, see, strict_decoder
from ssd.audit.splits import Reading, open_splits
from ssd.errors import MissingExtraError
from tests.audit.made import good, sound, split, voc_splits
from tests.data.made import xml, xml_object


def problems(folder, **options):
    return [seen.problem for seen in see(split(folder, "train"), **options) if seen.problem is not None]


def test_sound_images_have_no_problem(tmp_path):
    seen = see(split(sound(tmp_path), "train"))
    assert [image.path for image in seen] == ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]
    assert all(image.digest and image.problem is None for image in seen)


def test_every_image_that_cannot_be_decoded_is_named(tmp_path):
    folder = voc_splits(tmp_path, train=dict.fromkeys("abcd", good()))
    images = folder / "JPEGImages"
    (images / "a.jpg").write_bytes((images / "a.jpg").read_bytes()[:400])
    (images / "b.jpg").write_bytes(b"")
    (images / "c.jpg").write_bytes(b"<html>404</html>")
    found = problems(folder, workers=3)
    assert [(problem.path, problem.kind, problem.level) for problem in found] == [
        (f"JPEGImages/{name}.jpg", "undecodable", "file") for name in "abc"
    ]
    assert "empty" in found[1].message
    assert "web page" in found[2].message


def test_an_annotated_size_that_differs_is_named(tmp_path):
    folder = voc_splits(tmp_path, train={"a": xml(xml_object(), size=(41, 20))})
    (problem,) = problems(folder)
    assert problem.kind == "size_differs"
    assert "41x20" in problem.message


def test_a_image_in_two_splits_is_a_leak(tmp_path):
    folder = sound(tmp_path)
    shutil.copy(folder / "JPEGImages" / "a.jpg", folder / "JPEGImages" / "c.jpg")
    copies = find_copies((part, see(part.dataset)) for part in open_splits(folder, Reading()).splits)
    assert copies == [Copies((("train", "JPEGImages/a.jpg"), ("val", "JPEGImages/c.jpg")))]
    assert copies[0].leaks


def test_a_image_twice_in_one_split_is_no_leak(tmp_path):
    folder = sound(tmp_path)
    shutil.copy(folder / "JPEGImages" / "a.jpg", folder / "JPEGImages" / "b.jpg")
    (copies,) = find_copies((part, see(part.dataset)) for part in open_splits(folder, Reading()).splits)
    assert not copies.leaks


def test_damage_inside_a_jpeg_is_found_by_a_strict_decoder(tmp_path, monkeypatch):
    def decode_jpeg(data: bytes, strict: bool) -> None:
        if strict and b"damage" in data:
            raise ValueError("Corrupt JPEG data: premature end of data segment")

    monkeypatch.setitem(sys.modules, "simplejpeg", types.SimpleNamespace(decode_jpeg=decode_jpeg))
    folder = voc_splits(tmp_path, train={"a": good(), "b": good()})
    path = folder / "JPEGImages" / "b.jpg"
    path.write_bytes(path.read_bytes() + b"damage")
    assert problems(folder) == []
    (problem,) = problems(folder, strict=strict_decoder())
    assert (problem.path, problem.kind, problem.level) == ("JPEGImages/b.jpg", "damaged", "note")
    assert "premature end" in problem.message


def test_real_damage_is_found_where_simplejpeg_is_installed(tmp_path):
    pytest.importorskip("simplejpeg")
    folder = voc_splits(tmp_path, train={"a": good()})
    path = folder / "JPEGImages" / "a.jpg"
    data = path.read_bytes()
    middle = len(data) * 2 // 3
    path.write_bytes(data[:middle] + bytes(50) + data[middle + 50 :])
    assert [problem.kind for problem in problems(folder, strict=strict_decoder())] == ["damaged"]


def test_the_strict_decoder_leaves_other_formats_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", types.SimpleNamespace())
    assert strict_decoder()(b"\x89PNG") is None  # without a look: the stand-in has no decoder


def test_without_simplejpeg_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(MissingExtraError, match="pip install simplejpeg"):
        strict_decoder()
