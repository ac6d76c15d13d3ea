"""Images of several pages, kinds that are not read, and folders with some of them (row B19)."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

from ssd.commands.detect import main
from ssd.data.formats.paths import list_images
from ssd.data.formats.registry import splits
from ssd.data.formats.unused import find_unused
from ssd.errors import ArgumentError, ImageDecodeError
from ssd.images.decode import decode, load_image, read_size
from ssd.images.kinds import count_pages
from ssd.inference.bulk.sources import find_images
from tests.commands.small_detector import read_rows, save_small_weights, write_image
from tests.data.made import voc_folder, xml, xml_object
from tests.field import folders

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def pages(format, count=3, **options):
    """A file of some pages, each of a colour of its own."""
    images = [Image.new("RGB", (30, 20), COLOURS[number % 3]) for number in range(count)]
    file = io.BytesIO()
    images[0].save(file, format, save_all=True, append_images=images[1:], **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("format", "options"),
    [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "jpeg"}), ("GIF", {"duration": 40})],
)
@pytest.mark.parametrize("count", [2, 3, 17])
def test_the_first_page_is_read_and_the_number_of_pages_is_said_once(tmp_path, caplog, format, options, count):
    path = tmp_path / f"scan.{format.lower()}"
    path.write_bytes(pages(format, count, **options))
    with caplog.at_level(logging.WARNING):
        first, again = load_image(path), load_image(path)
    assert np.abs(first.astype(int) - COLOURS[0]).max() < 8
    assert np.array_equal(first, again)
    said = [message for message in caplog.messages if "scan." in message]
    assert said == [f"{path}: has {count} pages or frames; only the first is read"]


@pytest.mark.parametrize("format", ["TIFF", "GIF", "PNG", "JPEG", "WEBP", "BMP"])
def test_of_a_file_with_one_page_nothing_is_said(caplog, format):
    file = io.BytesIO()
    Image.new("RGB", (30, 20), COLOURS[0]).save(file, format)
    decode(file.getvalue(), f"one.{format}")
    assert "pages" not in caplog.text


def test_a_page_that_is_a_thumbnail_does_not_count():
    data = pages("TIFF", 2, tiffinfo={254: 1})
    assert count_pages(data) == 1


@pytest.mark.parametrize("format", ["TIFF", "GIF"])
def test_pages_of_a_damaged_file_are_counted_as_far_as_they_go(format):
    data = pages(format, 5)
    assert count_pages(data) == 5
    for end in range(0, len(data), 7):
        assert 1 <= count_pages(data[:end]) <= 5


def test_a_tiff_whose_pages_go_in_a_circle_has_an_end():
    data = b"II*\0\x08\0\0\0" + b"\0\0\x08\0\0\0"
    assert count_pages(data) == 1


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"avif"])
@pytest.mark.parametrize("read", [load_image, read_size])
def test_heif_is_named_with_what_to_do_under_any_suffix(tmp_path, brand, read):
    path = tmp_path / "IMG_1.jpg"
    path.write_bytes(HEIC.replace(b"ftypheic", b"ftyp" + brand))
    with pytest.raises(ImageDecodeError, match=r"IMG_1\.jpg: is HEIF, which is not read\. Convert to JPEG first"):
        read(path)


@pytest.mark.parametrize("names", [["a.heic"], ["A.HEIC", "b.heif"], ["a.avif", "b.dng", "c.cr2"]])
def test_a_folder_of_kinds_that_are_not_read_says_so(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(HEIC)
    with pytest.raises(ArgumentError, match=rf"{len(names)} of its files .*; the first: {names[0]}\. Convert to JPEG"):
        find_images([str(tmp_path)])


def test_what_cannot_be_read_in_a_folder_leaves_the_rest_done(tmp_path, capsys, caplog):
    weights = save_small_weights(tmp_path / "small.safetensors")
    photos = tmp_path / "photos"
    for name in ("a.png", "b.jpg", "c.png"):
        write_image(photos / name)
    (photos / "c.png").replace(photos / "c.jfif")
    (photos / "._b.jpg").write_bytes(b"\0\x05\x16\x07")
    (photos / "phone.heic").write_bytes(HEIC)
    words = [photos, "--weights", weights, "--quiet"]
    with caplog.at_level(logging.WARNING):
        assert main([str(word) for word in [*words, "--output", tmp_path / "out"]]) == 0
    assert "1 of its files are of kinds that are not read; the first: phone.heic. Convert to JPEG" in caplog.text
    assert len(read_rows(tmp_path / "out")) == 3
    (photos / "bad.jpg").write_bytes(HEIC)
    assert main([str(word) for word in [*words, "--output", tmp_path / "again"]]) == 2
    assert "error: 1 failed" in capsys.readouterr().err
    rows = read_rows(tmp_path / "again")
    assert [("error" in row, row["path"].rpartition("/")[2]) for row in rows] == [
        *((False, "a.png"), (False, "b.jpg"), (True, "bad.jpg"), (False, "c.jfif"))
    ]


def test_training_folders_take_jfif_and_leave_out_what_macos_notes(tmp_path):
    voc_folder(tmp_path, {"a": xml(xml_object())})
    inner = tmp_path / "JPEGImages"
    before = {path.name for path in inner.iterdir()}
    folders.image(inner / "b.JPG").replace(inner / "b.jfif")
    for place, name in ((inner, "._b.jfif"), (inner, "._a.jpg"), (tmp_path / "Annotations", "._a.xml")):
        (place / name).write_bytes(b"\0\x05\x16\x07")
    (tmp_path / "ImageSets" / "Main" / "._train.txt").write_bytes(b"\0\x05\x16\x07")
    (inner / "phone.heic").write_bytes(HEIC)
    assert {path.name for path in list_images(inner)} == before | {"b.jfif"}
    notes = " ".join(problem.message for problem in find_unused(tmp_path, "voc"))
    assert "1 .heic" in notes
    assert "Convert to JPEG first" in notes
    assert "._" not in notes


def test_what_macos_notes_about_a_list_is_no_split(tmp_path):
    voc_folder(tmp_path, {"a": xml(xml_object())})
    (tmp_path / "ImageSets" / "Main" / "._train.txt").write_bytes(b"\0\x05\x16\x07")
    assert splits(tmp_path) == ("train",)
