"""Frames of a video file, a camera or a stream, decoded ahead in a thread.

However long the video, only a few frames are in memory: the thread waits while they are not asked for. A camera does
not wait; there the frames that came too late are left out, so that what is shown is now. A stream that breaks off is
opened again, after longer and longer waits.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd.errors import ImageDecodeError, printable

_log = logging.getLogger(__name__)

SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".3gp"}
_AHEAD = 16  # frames decoded ahead of a file: 100 MB of full HD
_FPS = 25.0  # of a source that does not say
_TOLERATED = 0.02  # of the frames and of the time: containers estimate them
_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each attempt to open a stream again
_STEADY = 30.0  # seconds after which a connection counts as good, and the attempts start anew
_WAIT = 0.2  # seconds between two looks at whether the other side is still there


@dataclass(frozen=True)
class Frame:
    """One image of a video."""

    index: int  # from 0, in the video
    seconds: float  # since its start, or for a live source since its first frame
    image: UInt8[np.ndarray, "H W 3"]  # RGB, upright


class VideoReader:
    """An open video; use it as a context manager and iterate over it, once.

    `source` is a file, the number of a camera or the address of a stream (rtsp://, http://, ...), which is opened again
    where it breaks off, five times at most, with waits of 1 to 16 s that the log names. `every=5` gives every fifth
    frame. `frame_count` is what the container says, of some kinds an estimate; None where it says nothing. Cameras, and
    streams without it, are `live`.

    Raises:
        ImageDecodeError: it cannot be opened; while iterating: a file ended before its last frame.
    """

    def __init__(self, source: str | int, *, every: int = 1) -> None:
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        self.every = every
        self._source = source
        self._capture = _open(source, self.name)
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = None if isinstance(source, int) or count <= 0 else count
        has_end = isinstance(source, str) and os.path.isfile(source)  # noqa: PTH113 - a Path raises for a long address
        self.live = self.frame_count is None and not has_end
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else _FPS
        self._is_stream = self.live and isinstance(source, str) and "://" in source
        self._attempts = 0  # to open a stream again, since it was last steady
        self._connected = time.monotonic()
        self.read = 0  # frames, those left out included
        self._at = 0.0  # seconds, of the last of them
        self._frames: queue.Queue[Frame | None] = queue.Queue(1 if self.live else _AHEAD)
        self._stop = threading.Event()
        self._started = 0.0  # when the first frame came
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._decode, daemon=True, name=f"frames of {self.name}")

    def __enter__(self) -> "VideoReader":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._next()) is not None:
            yield frame
        if self._error is not None:
            raise self._error
        if self._is_cut():
            problem = f"ended after {self.read} of {self.frame_count} frames: truncated or damaged"
            raise ImageDecodeError(problem, place=self.name, remedy="Replace it, or go on with what was read.")

    def _is_cut(self) -> bool:
        """Whether the end came too early by the number of frames and by their times too.

        A WebM or MKV says how long it is. Its number of frames, made from that, is too high where the rate varies.
        """
        if self.frame_count is None or self.frame_count - self.read <= max(2, _TOLERATED * self.frame_count):
            return False
        return self._at + 1 / self.fps < (1 - _TOLERATED) * self.frame_count / self.fps

    def _next(self) -> Frame | None:
        while True:
            try:
                return self._frames.get(timeout=_WAIT)
            except queue.Empty:
                if not self._thread.is_alive() and self._frames.empty():
                    return None

    def _decode(self) -> None:
        try:
            while not self._stop.is_set() and (self._capture.grab() or self._reconnect()):
                if self.read == 0:
                    self._started = time.monotonic()
                self.read += 1
                self._at = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if (self.read - 1) % self.every == 0:
                    self._put(self._retrieve())
        except BaseException as error:  # belongs to whoever iterates, not to this thread
            self._error = error
        self._put(None)

    def _reconnect(self) -> bool:
        """Open a stream again until it gives a frame, which is grabbed; False where no attempt is left."""
        if not self._is_stream:
            return False
        if time.monotonic() - self._connected >= _STEADY:
            self._attempts = 0
        while self._attempts < len(_DELAYS):
            delay = _DELAYS[self._attempts]
            self._attempts += 1
            place = f"attempt {self._attempts} of {len(_DELAYS)} in {delay:g} s"
            _log.warning("%s: broke off after %d frames; %s", printable(self.name), self.read, place)
            if self._stop.wait(delay):
                return False
            self._capture.release()
            try:
                self._capture = _open(self._source, self.name)
            except ImageDecodeError:
                continue
            if self._capture.grab():
                self._connected = time.monotonic()
                _log.warning("%s: is connected again", printable(self.name))
                return True
        return False

    def _retrieve(self) -> Frame:
        done, image = self._capture.retrieve()
        if not done:
            raise ImageDecodeError(f"frame {self.read - 1} cannot be decoded", place=self.name)
        return Frame(self.read - 1, self._time(), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    def _time(self) -> float:
        """The clock for a live source, which leaves frames out; else what the file says, or the number of frames."""
        if self.live:
            return time.monotonic() - self._started
        return max(self._at, 0) or (self.read - 1) / self.fps

    def _put(self, frame: Frame | None) -> None:
        while not self._stop.is_set():
            try:
                self._frames.put(frame, timeout=0 if self.live else _WAIT)
            except queue.Full:
                if self.live and frame is not None:
                    self._drop()
            else:
                return

    def _drop(self) -> None:
        """Make room by leaving out a frame that was not asked for in time."""
        try:
            self._frames.get_nowait()
        except queue.Empty:
            return  # it was asked for just now


def _open(source: str | int, name: str) -> Any:
    if isinstance(source, str) and os.path.isfile(source):  # noqa: PTH113 - `Path` raises for a long address
        source = str(Path(source).absolute())  # FFmpeg takes what is before a colon, as in 12:30.mp4, for a protocol
    with silent():
        capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        remedy = "Is it connected, and free?" if isinstance(source, int) else "Is it whole, and a video?"
        raise ImageDecodeError("cannot be opened as a video", place=name, remedy=remedy)
    return capture


@contextmanager
def silent() -> Iterator[None]:
    """Open a video while OpenCV and FFmpeg print nothing; FFmpeg is told once, before its first video."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
