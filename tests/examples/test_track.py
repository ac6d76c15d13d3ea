"""The example of tracking: one object that moves keeps its number."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from ssd.images.video_reader import VideoReader
from ssd.inference.detections import Detections
from tests.commands.small_detector import save_small_weights, write_video

SCRIPT = Path(__file__).parents[2] / "examples" / "track.py"


@pytest.fixture
def example():
    supervision = pytest.importorskip("supervision", reason="the package supervision is not installed")
    if not hasattr(supervision, "ByteTrack"):  # 0.31 has none
        pytest.importorskip("trackers", reason="the package trackers is not installed")
    return runpy.run_path(str(SCRIPT))


class Square:
    """Finds two squares, which move three pixels a frame."""

    frames = 0

    def detect(self, image):
        left, self.frames = 3.0 * self.frames, self.frames + 1
        boxes = np.array([[left, 5, left + 20, 25], [40 - left / 3, 30, 60 - left / 3, 46]], np.float32)
        labels = np.array([0, 1], np.int64)
        return Detections(boxes, np.full(2, 0.9, np.float32), labels, ("cat", "dog"), image.shape[:2])


def test_objects_that_move_keep_their_numbers(example, tmp_path):
    clip = write_video(tmp_path / "clip.avi", frames=8)
    with VideoReader(str(clip)) as video:
        tracked = [found for _, found in example["track"](Square(), video)]
    numbers = [found.tracker_id.tolist() for found in tracked if len(found)]
    assert len(numbers) >= 6
    assert {tuple(sorted(row)) for row in numbers} == {tuple(sorted(numbers[0]))}
    assert len(numbers[0]) == 2


def test_the_example_writes_a_drawn_video_and_lines(example, tmp_path, capsys):
    clip = write_video(tmp_path / "clip.avi", frames=8)
    weights = save_small_weights(tmp_path / "small.safetensors")
    words = [clip, tmp_path / "out.mp4", "--weights", weights, "--max-frames", 5]
    assert example["main"]([str(word) for word in words]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(5))
    assert "tracks:" in capsys.readouterr().out
    with VideoReader(str(tmp_path / "out.mp4")) as video:
        assert len(list(video)) == 5
