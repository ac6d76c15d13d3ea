"""Images drawn for an evaluation."""

from pathlib import Path
from typing import Any

import pytest

from ssd.errors import SSDError
from ssd.evaluation.page.drawn_images import draw_images


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nobody: Any = None
    with pytest.raises(SSDError, match="file/images: cannot be written") as caught:
        draw_images(nobody, nobody, 3, tmp_path / "file" / "images")
    assert "\n" not in str(caught.value)
