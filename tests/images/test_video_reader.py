import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ssd.errors import ImageDecodeError
from ssd.images import video_reader
from ssd.images.video_reader import VideoReader
from tests.commands.small_detector import write_video
from tests.images.webm import leave_out_duration, leave_out_frames, write_webm


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip ä.avi", frames=30)


def square_left(image: np.ndarray) -> int:
    """Where the red square begins."""
    return int(np.flatnonzero(image[20, :, 0] > 150)[0])


def test_frames_come_in_order_as_rgb_with_their_time(clip):
    with VideoReader(str(clip)) as video:
        frames = list(video)
        assert (video.fps, video.frame_count, video.live, video.read) == (10, 30, False, 30)
    assert [frame.index for frame in frames] == list(range(30))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(30) / 10, atol=1e-3)
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image[20, 5, 0] > 200 > 100 > frames[0].image[20, 5, 2]
    assert [square_left(frame.image) for frame in frames[:4]] == pytest.approx([0, 4, 8, 12], abs=1)


def test_every_nth_frame_keeps_its_number_and_time(clip):
    with VideoReader(str(clip), every=7) as video:
        frames = list(video)
    assert [frame.index for frame in frames] == [0, 7, 14, 21, 28]
    assert frames[2].seconds == pytest.approx(1.4, abs=1e-3)
    assert square_left(frames[1].image) == pytest.approx(28, abs=1)


def test_few_frames_are_decoded_before_they_are_asked_for(tmp_path):
    clip = write_video(tmp_path / "long.avi", frames=300)
    with VideoReader(str(clip)) as video:
        first = next(iter(video))
        time.sleep(0.5)
        assert first.index == 0
        assert video.read < 25


def test_leaving_early_ends_the_thread(clip):
    before = threading.active_count()
    with VideoReader(str(clip)) as video:
        next(iter(video))
    assert threading.active_count() == before


def test_a_file_that_breaks_off_is_named_after_its_last_frame(clip, tmp_path):
    cut = tmp_path / "cut.avi"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    frames = []
    with (
        pytest.raises(ImageDecodeError, match=r"cut\.avi: ended after \d+ of 30 frames"),
        VideoReader(str(cut)) as video,
    ):
        frames.extend(iter(video))
    # extend keeps what came before the error
    assert 2 < len(frames) < 25


def test_a_file_that_does_not_say_how_long_it_is_gives_all_its_frames_with_their_own_times(tmp_path):
    clip = leave_out_duration(write_webm(tmp_path / "recorded.webm", frames=30))
    frames = []
    with VideoReader(str(clip)) as video:
        assert (video.frame_count, video.live) == (None, False)
        for frame in video:
            frames.append(frame)
            time.sleep(0.002)
    assert [frame.index for frame in frames] == list(range(30))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(30) / 10, atol=1e-3)


def test_a_file_of_varying_rate_is_whole_where_its_last_frame_is_at_its_end(tmp_path):
    clip = leave_out_frames(write_webm(tmp_path / "screen.webm"), every=3)
    with VideoReader(str(clip)) as video:
        frames = list(video)
        assert (video.frame_count, video.read) == (60, 40)
    np.testing.assert_allclose([frame.seconds for frame in frames[:4]], [0.0, 0.2, 0.3, 0.5], atol=1e-3)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    with (
        pytest.raises(ImageDecodeError, match=r"screen\.webm: ended after \d+ of 60 frames: truncated"),
        VideoReader(str(clip)) as video,
    ):
        list(video)


def test_the_address_of_a_stream_may_be_longer_than_the_name_of_a_file(monkeypatch):
    connections(monkeypatch, FakeCamera(2), *[Closed(0)] * 5)
    with VideoReader(f"rtsp://camera/{'a' * 300}") as video:
        assert video.live


@pytest.mark.parametrize("content", [b"", b"not a video", b"RIFF" + bytes(100)])
def test_what_is_no_video_is_named_and_nothing_else_is_printed(content, tmp_path, capfd):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(ImageDecodeError, match=r"clip\.mp4: cannot be opened as a video"):
        VideoReader(str(path))
    assert capfd.readouterr() == ("", "")


def test_a_camera_that_is_not_there_is_named(capfd):
    with pytest.raises(ImageDecodeError, match="camera 77: cannot be opened"):
        VideoReader(77)
    assert capfd.readouterr() == ("", "")


class FakeCamera:
    """Gives a frame every 5 milliseconds, whether it is asked for or not."""

    def __init__(self, frames: int) -> None:
        self.left = frames

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's names
        return True

    def get(self, _: int) -> float:
        return -1.0

    def grab(self) -> bool:
        time.sleep(0.005)
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((4, 4, 3), np.uint8)

    def release(self) -> None:
        pass


def test_a_live_source_leaves_out_what_came_too_late(monkeypatch):
    monkeypatch.setattr("ssd.images.video_reader.cv2.VideoCapture", lambda _: FakeCamera(60))
    with VideoReader(0) as video:
        assert video.live
        assert video.frame_count is None
        frames = []
        for frame in video:
            frames.append(frame)
            time.sleep(0.05)
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert len(frames) < 30
    # A look away takes ten frames, of which two old ones may still be under way; on a busy machine not the first one.
    assert max(after - before for before, after in itertools.pairwise(indices)) > 3
    assert frames[-1].seconds >= 0.2


def test_an_error_while_decoding_reaches_who_iterates(monkeypatch):
    camera = FakeCamera(5)
    camera.retrieve = lambda: (False, None)
    monkeypatch.setattr("ssd.images.video_reader.cv2.VideoCapture", lambda _: camera)
    with pytest.raises(ImageDecodeError, match="frame 0 cannot be decoded"), VideoReader(0) as video:
        list(video)


class Closed(FakeCamera):
    """A stream that cannot be opened."""

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's names
        return False


def connections(monkeypatch, *captures):
    """Streams that are opened one after the other, with a thousandth of the waits."""
    left = list(captures)
    monkeypatch.setattr("ssd.images.video_reader.cv2.VideoCapture", lambda _: left.pop(0))
    monkeypatch.setattr("ssd.images.video_reader._DELAYS", tuple(delay / 1000 for delay in video_reader._DELAYS))


def test_a_stream_that_breaks_off_is_opened_again_with_longer_waits_and_says_so(monkeypatch, caplog):
    # 0.005 s a frame: no connection is steady; one without frames is none
    connections(monkeypatch, FakeCamera(3), Closed(0), FakeCamera(0), FakeCamera(4), Closed(0), Closed(0))
    with VideoReader("rtsp://camera/1") as video:
        last = list(video)[-1]
    assert last.index == 6
    assert video.read == 7
    assert [record.message for record in caplog.records] == [
        "rtsp://camera/1: broke off after 3 frames; attempt 1 of 5 in 0.001 s",
        "rtsp://camera/1: broke off after 3 frames; attempt 2 of 5 in 0.002 s",
        "rtsp://camera/1: broke off after 3 frames; attempt 3 of 5 in 0.004 s",
        "rtsp://camera/1: is connected again",
        "rtsp://camera/1: broke off after 7 frames; attempt 4 of 5 in 0.008 s",
        "rtsp://camera/1: broke off after 7 frames; attempt 5 of 5 in 0.016 s",
    ]


def test_the_attempts_start_anew_after_a_steady_connection(monkeypatch):
    monkeypatch.setattr("ssd.images.video_reader._STEADY", 0.0)
    connections(monkeypatch, *[FakeCamera(2) for _ in range(8)], *[Closed(0)] * 5)
    with VideoReader("rtsp://camera/1") as video:
        list(video)
    assert video.read == 16


def test_a_camera_is_not_opened_again(monkeypatch):
    connections(monkeypatch, FakeCamera(3))
    with VideoReader(0) as video:
        list(video)
    assert video.read == 3
