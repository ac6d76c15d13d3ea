"""What is written is whole or not there, and names are written as one line (rule 8)."""

import errno
from pathlib import Path

import numpy as np
import pytest

from ssd.errors import ImageError, SSDError
from ssd.images.drawing import write_image
from ssd.inference.bulk.journal import Done
from ssd.inference.bulk.results import Results
from ssd.inference.bulk.sources import find_images

IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_drawing_on_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch, code):
    def full(descriptor):
        raise OSError(code, "full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SSDError, match=r"drawn\.png: no space left") as caught:
        write_image(tmp_path / "drawn.png", IMAGE)
    assert not isinstance(caught.value, ImageError)  # those concern one image, and the next goes on
    assert list(tmp_path.iterdir()) == []


def test_a_drawing_in_a_folder_that_went_is_an_error_of_that_image(tmp_path):
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "gone" / "drawn.png", IMAGE)


@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", "a\u2028b", "\x1b[31mred"])
def test_a_class_takes_one_line_of_the_class_file(tmp_path, name):
    Results(tmp_path, frozenset({"yolo"}), ("cat", name, "dog"), {}, Done()).close()
    lines = (tmp_path / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert [lines[0], len(lines), lines[2]] == ["cat", 3, "dog"]
    assert lines[1].isprintable()


def test_jfif_is_an_image_and_what_macos_notes_about_files_is_not(tmp_path):
    for name in ("a.jfif", "B.JFIF", "._IMG.JPG", "._a.jfif", "c.jpg"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images([str(tmp_path)])] == ["B.JFIF", "a.jfif", "c.jpg"]
    assert Path(tmp_path / "._IMG.JPG").exists()
