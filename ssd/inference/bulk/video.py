"""Detection in a video, camera or stream, frame by frame, without keeping frames in memory."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import Any

from tqdm import tqdm

from ssd.errors import ImageError, counted
from ssd.images.video_reader import Frame, VideoReader
from ssd.images.video_writer import NOTES, VideoWriter
from ssd.inference.bulk.results import Results
from ssd.inference.bulk.sources import Source
from ssd.inference.bulk.work import Work
from ssd.inference.detections import Detections

_LONGEST_STILL = 250  # frames: a camera that pauses does not fill the disk


def detect_video(work: Work, source: Source, *, every: int = 1, max_frames: int | None = None) -> None:
    """Detect in one source to its end; Ctrl-C ends a camera or stream alone, and interrupts a file.

    Another `KeyboardInterrupt`, such as that of SIGTERM, ends a camera or stream too, and goes on to the caller.

    A source that cannot be opened, or breaks off, is recorded as failed, with the frames before that. So is a camera or
    stream that ends by itself before `max_frames`.
    """
    try:
        with VideoReader(_openable(source), every=every) as video:
            limits = (video.frame_count and -(-video.frame_count // every), max_frames)
            count = min(filter(None, limits), default=None)
            frames = islice(video, max_frames)
            quiet = None if work.progress else True  # None: no bar where nobody watches
            with tqdm(frames, total=count, unit="frame", desc=source.key, disable=quiet, dynamic_ncols=True) as bar:
                _search(work, source, video, iter(bar), max_frames)
    except ImageError as error:
        work.results.add_failure(source, error)


def _openable(source: Source) -> str | int:
    return int(source.address) if source.kind == "live" and source.address.isdecimal() else source.address


def _search(work: Work, source: Source, video: VideoReader, frames: Iterator[Frame], max_frames: int | None) -> None:
    results, count = work.results, 0
    stopped: KeyboardInterrupt | None = None
    ended = video.live and source.kind == "live"  # by itself; a file without a number of frames has an end of its own
    with _Drawing(results, source, video) as drawing:
        try:
            for frame, found in _detect(work, frames, 1 if video.live else work.batch_size):
                files = results.draw(source, found, frame.index)
                drawing.write(found, frame.seconds)
                results.add_frame(source, found, frame.index, frame.seconds, files)
                work.shown(source, found)
                count += 1
        except KeyboardInterrupt as stop:
            if not video.live:
                raise
            ended, stopped = False, stop
    error = None
    if ended and (max_frames is None or count < max_frames):
        remedy = "Check the camera or the connection; --max-frames or Ctrl-C ends a search as planned."
        error = ImageError(f"ended by itself after {counted(count, 'frame')}", place=video.name, remedy=remedy)
    results.add_video(source, count, drawing.files, error)
    if stopped is not None and type(stopped) is not KeyboardInterrupt:
        raise stopped


def _detect(work: Work, frames: Iterator[Frame], batch_size: int) -> Iterator[tuple[Frame, Detections]]:
    """Yield each frame with its detections; the frames before a break are finished first."""
    waiting: deque[Frame] = deque()
    broken: list[ImageError] = []

    def images() -> Iterator[Any]:
        try:
            for frame in frames:
                waiting.append(frame)
                yield frame.image
        except ImageError as error:
            broken.append(error)

    for found in work.detector.detect_stream(images(), batch_size, **work.options):
        yield waiting.popleft(), found
    if broken:
        raise broken[0]


class _Drawing:
    """The drawn video. Frames of a live source are repeated to keep time, however slow the detection is."""

    def __init__(self, results: Results, source: Source, video: VideoReader) -> None:
        self.files: list[str] = []
        self._writer: VideoWriter | None = None
        self._live = video.live
        self._fps = video.fps if video.live else video.fps / video.every
        if "images" in results.formats:
            self.files = [f"{results.names[source.address]}{source.suffix}"]
            self._writer = VideoWriter(results.folder / self.files[0], self._fps)

    def write(self, found: Detections, seconds: float) -> None:
        """Add a frame."""
        if self._writer is not None:
            image = found.plot()
            due = round(seconds * self._fps) + 1 if self._live else 0
            for _ in range(min(max(1, due - self._writer.frames), _LONGEST_STILL)):
                self._writer.write(image)

    def __enter__(self) -> "_Drawing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, and warn if its encoding is not the best."""
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)
            if self._writer.codec in NOTES:
                tqdm.write(f"{self._writer.path}: {NOTES[self._writer.codec]}")
