"""The last line of a bulk detection."""

from pathlib import Path

import pytest

from ssd.inference.bulk.detect_files import BulkResult
from ssd.inference.bulk.journal import Tally


@pytest.mark.parametrize(
    ("tally", "where"),
    [
        (Tally(images=2), "2 images"),
        (Tally(videos=1, frames=4), "1 video (4 frames)"),
        (Tally(images=1, videos=2, frames=4), "1 image and 2 videos (4 frames)"),
        (Tally(frames=8, failed=1), "8 frames"),
        (Tally(images=3, frames=8, failed=1), "3 images and 8 frames"),
        (Tally(failed=1), "0 images"),
    ],
)
def test_the_last_line_counts_what_was_searched(tally: Tally, where: str) -> None:
    assert str(BulkResult(Path("out"), tally, Tally(), 1.0)).startswith(f"0 objects in {where}")
