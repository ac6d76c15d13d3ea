import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from ssd.errors import ImageError
from ssd.images import video_writer
from ssd.images.video_reader import VideoReader
from ssd.images.video_writer import VideoWriter


def frame(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), (10 * index, 0, 200), np.uint8)


def write_frames(path: Path, frames: list[np.ndarray]) -> VideoWriter:
    with VideoWriter(path, 25.0) as writer:
        for image in frames:
            writer.write(image)
    return writer


def read(path: Path) -> list[np.ndarray]:
    with VideoReader(str(path)) as video:
        return [found.image for found in video]


@pytest.mark.parametrize("program", ["ffmpeg", "opencv"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (49, 63)])
def test_what_is_written_reads_back(program, height, width, tmp_path, monkeypatch, capfd):
    if program == "ffmpeg" and not video_writer._ffmpeg_writes_h264():
        pytest.skip("no ffmpeg that writes H.264")
    if program == "opencv":
        monkeypatch.setattr(video_writer, "_ffmpeg_writes_h264", lambda: False)
    path = tmp_path / "clip ä.mp4"
    with VideoWriter(path, 12.5) as writer:
        for index in range(20):
            writer.write(frame(index, height, width))
    assert writer.frames == 20
    frames = read(path)
    assert len(frames) == 20
    assert frames[0].shape == (height + height % 2, width + width % 2, 3)
    for index, image in enumerate(frames):
        np.testing.assert_allclose(image[20, 20], (10 * index, 0, 200), atol=12)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    assert capfd.readouterr() == ("", "")


def test_h264_is_the_first_choice_and_others_come_with_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(video_writer, "_ffmpeg_writes_h264", lambda: False)
    monkeypatch.setattr(video_writer, "_OPENCV", video_writer._OPENCV[1:])  # as where OpenCV cannot write it either
    codecs = []
    while video_writer._OPENCV:
        codecs.append(write_frames(tmp_path / "a.mp4", [frame(0)]).codec)
        monkeypatch.setattr(video_writer, "_OPENCV", video_writer._OPENCV[1:])
    assert codecs == ["VP9", "MPEG-4"]
    assert set(video_writer.NOTES) == set(codecs)
    with pytest.raises(ImageError, match="Install the program ffmpeg"):
        write_frames(tmp_path / "b.mp4", [frame(0)])


def test_a_frame_of_another_size_is_named(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25.0) as writer:
        writer.write(frame(0, 24, 32))
        with pytest.raises(ImageError, match="a frame of 64x48 after 32x24"):
            writer.write(frame(1))
    assert len(read(tmp_path / "a.mp4")) == 1  # what came before is whole


def test_without_a_frame_there_is_no_file(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25.0):
        pass
    assert list(tmp_path.iterdir()) == []


def fake_ffmpeg(folder: Path, script: str) -> None:
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'No space left on device' >&2; exit 1", "No space left on device"),
        ("exit 3", "exit code 3"),
        ("cat > /dev/null; echo full >&2; exit 1", "full"),
    ],
)
def test_ffmpeg_that_gives_up_is_named_with_what_it_said(script, said, tmp_path, monkeypatch):
    if shutil.which("sh") is None:
        pytest.skip("no shell")
    fake_ffmpeg(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(video_writer, "_ffmpeg_writes_h264", lambda: True)
    with pytest.raises(ImageError, match=said):
        write_frames(tmp_path / "a.mp4", [frame(0, 480, 640)] * 200)
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no colon in a name")
def test_a_colon_in_a_relative_path_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cam:1").mkdir()
    path = Path("cam:1/12:30:05.mp4")
    write_frames(path, [frame(index) for index in range(3)])
    assert len(read(path)) == 3


def test_a_frame_in_hours_is_written(tmp_path):
    with VideoWriter(tmp_path / "clip.mp4", 25 / 100_000) as writer:
        writer.write(frame(0))
    assert len(read(tmp_path / "clip.mp4")) == 1
