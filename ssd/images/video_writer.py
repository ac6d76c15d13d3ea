"""A video file of drawn frames, in the best encoding at hand: H.264, which browsers and phones play, where possible.

OpenCV's wheels cannot write H.264 on most systems, the program `ffmpeg` can. Without it: VP9, which browsers play and
which takes long to encode, and at last MPEG-4 part 2, which players open and browsers do not. The file gets its name
when it is complete.
"""

import shutil
import subprocess
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd.errors import ImageError
from ssd.images.video_reader import silent
from ssd.system.files import check_writable, writing

# What OpenCV is asked for, in this order; the second name is for people.
_OPENCV = (("avc1", "H.264"), ("vp09", "VP9"), ("mp4v", "MPEG-4"))
NOTES = {
    "VP9": "encoded as VP9, which is slow; with the program ffmpeg installed it is H.264",
    "MPEG-4": "encoded as MPEG-4, which browsers do not play; with the program ffmpeg installed it is H.264",
}

_LEAST_FPS = 0.01  # OpenCV's encoders open no file with much less
_LOOK_EVERY = 500  # frames: OpenCV does not say that the disk is full

_Image = UInt8[np.ndarray, "H W 3"]


@runtime_checkable
class _Encoder(Protocol):
    codec: str

    def write(self, image: _Image) -> None: ...

    def close(self) -> None: ...


class VideoWriter:
    """Writes `path` (.mp4), frame by frame; a context manager. The first frame decides the size.

    `codec` says what it became, once there is a frame. A video without frames is not written.

    Raises:
        ImageError: it cannot be written, it is not whole once written, or a frame has another size.
        SSDError: no space left.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, max(fps, _LEAST_FPS)
        self.codec = ""
        self.frames = 0
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._encoder: _Encoder | None = None
        self._shape: tuple[int, ...] = ()

    def write(self, image: _Image) -> None:
        """Add an RGB frame."""
        height, width = image.shape[:2]
        if self._encoder is None:
            self._encoder, self._shape = (
                _open(self._part, self.fps, width + width % 2, height + height % 2),
                image.shape,
            )
            self.codec = self._encoder.codec
        if image.shape != self._shape:
            problem = f"a frame of {width}x{height} after {self._shape[1]}x{self._shape[0]}"
            raise ImageError(problem, place=self.path, remedy="The frames of a video have one size.")
        if height % 2 or width % 2:  # players want even sides
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        try:
            self._encoder.write(image)
        except ImageError:
            self._encoder = None  # it has ended already
            self._part.unlink(missing_ok=True)
            raise
        self.frames += 1
        if self.frames % _LOOK_EVERY == 0:
            check_writable(self.path)

    def close(self) -> None:
        """Finish the file, and give it its name if it is whole; else it is removed."""
        if self._encoder is None:
            return
        encoder, self._encoder = self._encoder, None
        try:
            encoder.close()
            _check_whole(self._part, self.path, self.frames)
            with writing(self.path):
                self._part.replace(self.path)
        except BaseException:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
            raise

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ImageError) if error is not None else nullcontext():  # the first error is the one to tell
            self.close()


def _check_whole(part: Path, path: Path, frames: int) -> None:
    """Open the finished file: it must have all frames, and the last one must be readable.

    OpenCV's encoders report no error, and a player finds neither the index nor the end of a file that was cut short.

    Raises:
        ImageError: it is not whole.
    """
    with silent():
        video = cv2.VideoCapture(str(part.absolute()))
        try:
            found = round(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
            video.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
            whole = found == frames and video.read()[0]
        finally:
            video.release()
    if not whole:
        raise ImageError(
            f"the video of {frames} frames could not be written whole", place=path, remedy="Free some space."
        )


def _open(path: Path, fps: float, width: int, height: int) -> _Encoder:
    if _ffmpeg_writes_h264():
        return _Ffmpeg(path, fps, width, height)
    for code, name in _OPENCV:
        encoder = _OpenCV.open(path, code, name, fps, (width, height))
        if encoder is not None:
            return encoder
    raise ImageError("OpenCV writes no video here", place=path, remedy="Install the program ffmpeg.")


def _ffmpeg_writes_h264() -> bool:
    program = shutil.which("ffmpeg")
    if program is None:
        return False
    listed = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, check=False)
    return "libx264" in listed.stdout


class _Ffmpeg:
    """Raw frames down a pipe; H.264 with the table of contents first, so that it plays while it loads."""

    codec = "H.264"

    def __init__(self, path: Path, fps: float, width: int, height: int) -> None:
        self.path = path
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:.6g}", "-i", "-"]
        coded = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]  # what every player knows
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `_finish` closes it; a pipe nobody reads could fill
        # A session of its own: Ctrl-C is for the one who writes, and this one then finishes the file.
        self._process = subprocess.Popen(
            ["ffmpeg", "-v", "error", "-y", *raw, *coded, "-movflags", "+faststart", "-f", "mp4", str(path.absolute())],
            stdin=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )

    def write(self, image: _Image) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(image).data)
        except OSError:  # it has gone, and said why
            self._finish()
            raise ImageError("ffmpeg ended before the video did", place=self.path) from None

    def close(self) -> None:
        self._finish()

    def _finish(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # a broken pipe again; the exit code tells
            self._process.stdin.close()
        code = self._process.wait()
        with self._errors:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()
        if code != 0:
            reason = said.splitlines()[-1] if said else f"exit code {code}"
            raise ImageError(f"ffmpeg could not write it ({reason})", place=self.path, remedy="Is there space left?")


class _OpenCV:
    def __init__(self, writer: Any, codec: str) -> None:
        self.codec = codec
        self._writer = writer

    @staticmethod
    def open(path: Path, code: str, name: str, fps: float, size: tuple[int, int]) -> "_OpenCV | None":
        """An encoder, or None where OpenCV has none of that kind; it prints nothing while it tries."""
        with silent():
            writer = cv2.VideoWriter(str(path.absolute()), cv2.VideoWriter.fourcc(*code), fps, size)
        return _OpenCV(writer, name) if writer.isOpened() else None

    def write(self, image: _Image) -> None:
        with silent():  # of a full disk it prints a warning for each frame, and raises nothing
            self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        with silent():
            self._writer.release()
