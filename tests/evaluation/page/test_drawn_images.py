"""Images drawn for an evaluation."""

from pathlib import Path

import pytest

from ssd.data.dataset import Dataset
from ssd.errors import SSDError
from ssd.evaluation.page.drawn_images import draw_images
from ssd.inference.detector import Detector


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unused = Detector.__new__(Detector)
    with pytest.raises(SSDError, match="file/images: cannot be written") as caught:
        draw_images(unused, Dataset((), (), (), "data", "val"), 3, tmp_path / "file" / "images")
    assert "\n" not in str(caught.value)
