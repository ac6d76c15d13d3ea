"""Track objects in a video with supervision's ByteTrack: the tracker's numbers are drawn, and written as lines of JSON.

    pip install supervision trackers    # trackers: supervision's own up to 0.30, a package beside it since
    python examples/track.py clip.mp4 tracked.mp4 --weights runs/cells
    python examples/track.py rtsp://camera/1 tracked.mp4 --max-frames 1000

The package finds objects in each frame; which of them is the same one in the next frame is the tracker's work.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import ssd
from ssd.commands._shared import guarded
from ssd.errors import MissingExtraError
from ssd.images.drawing import class_color, draw_boxes
from ssd.images.video_reader import VideoReader
from ssd.images.video_writer import VideoWriter


def byte_track(frame_rate: int) -> Callable[[Any], Any]:
    """A new tracker: the detections of one frame after the other -> those that are tracked, with `tracker_id`."""
    try:
        from trackers import ByteTrackTracker
    except ImportError:
        import supervision

        if not hasattr(supervision, "ByteTrack"):
            raise MissingExtraError("is not installed", place="trackers", remedy="Run: pip install trackers") from None
        return supervision.ByteTrack(frame_rate=frame_rate).update_with_detections
    return ByteTrackTracker(frame_rate=frame_rate).update


def track(detector: Any, video: VideoReader, *, max_frames: int | None = None) -> Iterator[tuple[Any, Any]]:
    """Each frame with its tracked objects: boxes, classes and `tracker_id`, as `supervision.Detections`."""
    tracker = byte_track(max(1, round(video.fps / video.every)))
    for frame in islice(video, max_frames):
        found = detector.detect(frame.image)  # the tracker has a use for low scores too
        tracked = tracker(found.to_supervision())
        yield frame, tracked[tracked.tracker_id >= 0]  # -1: not tracked yet


def parser() -> argparse.ArgumentParser:
    """Arguments of the example."""
    p = argparse.ArgumentParser(description="Track objects in a video with supervision's ByteTrack.")
    p.add_argument("source", help="a video file or the address of a stream")
    p.add_argument("out", type=Path, help="the drawn video; the tracks go beside it, as .jsonl")
    p.add_argument("--weights", default="coco", help="what ssd.load takes, default %(default)s")
    p.add_argument("--max-frames", type=int, metavar="N", help="stop after so many frames")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Track, draw and write."""
    args = parser().parse_args(argv)
    detector = ssd.load(args.weights)
    numbers: set[int] = set()
    with (
        VideoReader(args.source) as video,
        VideoWriter(args.out, video.fps) as drawn,
        args.out.with_suffix(".jsonl").open("w") as lines,
    ):
        for frame, tracked in track(detector, video, max_frames=args.max_frames):
            pairs = zip(tracked.class_id.tolist(), tracked.tracker_id.tolist(), strict=True)
            texts = [f"{detector.class_names[label]} {number}" for label, number in pairs]
            colours = [class_color(number) for number in tracked.tracker_id.tolist()]
            drawn.write(draw_boxes(frame.image, tracked.xyxy, texts, colours))
            numbers.update(tracked.tracker_id.tolist())
            row = {"frame": frame.index, "boxes": tracked.xyxy.tolist(), "tracks": tracked.tracker_id.tolist()}
            print(json.dumps(row), file=lines)
    print(f"{len(numbers)} tracks: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
