"""WebM files as browsers and screen recorders write them: made by OpenCV, and changed in their bytes."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

_SEGMENT, _CLUSTER, _BLOCK, _GROUP, _VOID = 0x18538067, 0x1F43B675, 0xA3, 0xA0, 0xEC
_DURATION = b"\x44\x89\x88"  # and its eight bytes


def write_webm(path: Path, frames: int = 60) -> Path:
    """A bright square that moves to the right, ten frames a second; skips where OpenCV cannot write VP8."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # as ssd.images.video_reader does
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write VP8")
    for index in range(frames):
        image = np.full((48, 64, 3), 40, np.uint8)
        left = 4 * index % 64
        image[10:30, left : left + 20] = (0, 0, 250)  # BGR: red
        writer.write(image)
    writer.release()
    return path


def leave_out_duration(path: Path) -> Path:
    """As a browser's MediaRecorder writes it, which cannot know how long it will be."""
    data = bytearray(path.read_bytes())
    place = data.index(_DURATION)
    data[place : place + 11] = bytes([_VOID, 0x80 + 9]) + bytes(9)
    path.write_bytes(data)
    return path


def leave_out_frames(path: Path, every: int) -> Path:
    """Without every `every`th frame, as a recorder that skips unchanged ones."""
    data = bytearray(path.read_bytes())
    for place in list(_frames(data))[1::every]:
        data[place] = _VOID
    path.write_bytes(data)
    return path


def _frames(data: bytearray) -> Iterator[int]:
    """Where the frames begin."""
    place = 0
    while place < len(data):
        start = place
        kind, place = _number(data, start, marked=True)
        size, place = _number(data, place)
        if kind in (_BLOCK, _GROUP):
            yield start
        if kind not in (_SEGMENT, _CLUSTER):  # these hold the others
            place += size


def _number(data: bytearray, place: int, *, marked: bool = False) -> tuple[int, int]:
    """EBML's number, whose first bits say how many bytes it has, with these bits if `marked`; and the next place."""
    length = 9 - data[place].bit_length()
    value = int.from_bytes(data[place : place + length])
    return value if marked else value & ~(1 << 7 * length), place + length
