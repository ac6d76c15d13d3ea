import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import ssd
from ssd.commands._shared import Terminated
from ssd.commands.detect import main
from ssd.images.video_reader import VideoReader
from ssd.inference.bulk.results import Results
from tests.commands.small_detector import read_rows, save_small_weights, write_video
from tests.images.webm import leave_out_duration, leave_out_frames, write_webm

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


def run(weights: Path, *arguments: object) -> int:
    return main(["--weights", str(weights), "--quiet", "--score-threshold", "0.2", *map(str, arguments)])


def test_a_video_is_drawn_and_has_a_line_for_each_frame(weights, tmp_path, capsys):
    clip, out = write_video(tmp_path / "clip.avi"), tmp_path / "out"
    before = clip.read_bytes()
    assert run(weights, clip, "--output", out) == 0
    *rows, last = read_rows(out)
    assert [row["frame"] for row in rows] == list(range(20))
    assert rows[5]["seconds"] == 0.5
    assert (rows[0]["width"], rows[0]["height"], rows[0]["path"]) == (64, 48, str(clip))
    assert last == {"path": str(clip), "frames": 20, "files": ["clip.mp4"]}
    with VideoReader(str(out / "clip.mp4")) as drawn, VideoReader(str(clip)) as plain:
        pairs = [(a.image.astype(int), b.image) for a, b in zip(drawn, plain, strict=True)]
    assert len(pairs) == 20
    assert all(np.abs(a - b).max() > 60 for a, b in pairs)  # boxes
    assert "in 1 video (20 frames)" in capsys.readouterr().out
    assert clip.read_bytes() == before


def test_lines_of_frames_say_what_detect_says(weights, tmp_path):
    clip, out = write_video(tmp_path / "clip.avi", frames=5), tmp_path / "out"
    assert run(weights, clip, "--output", out, "--format", "jsonl", "--batch-size", 1, "--precision", "fp32") == 0
    detector = ssd.load(weights, precision="fp32")
    with VideoReader(str(clip)) as video:
        expected = [detector.detect(frame.image, score_threshold=0.2).to_dict() for frame in video]
    assert [row["detections"] for row in read_rows(out)[:-1]] == [row["detections"] for row in expected]


def test_every_nth_frame_and_no_more_than_asked_for(weights, tmp_path):
    clip, out = write_video(tmp_path / "clip.avi", frames=20), tmp_path / "out"
    assert run(weights, clip, "--output", out, "--every", 3, "--max-frames", 4, "--format", "images,yolo") == 0
    *rows, last = read_rows(out)
    assert [row["frame"] for row in rows] == [0, 3, 6, 9]
    assert last["frames"] == 4
    assert {path.name for path in (out / "labels" / "clip").iterdir()} == {f"{n:06d}.txt" for n in (0, 3, 6, 9)}
    with VideoReader(str(out / "clip.mp4")) as drawn:
        assert drawn.fps == pytest.approx(10 / 3, rel=0.01)


def test_a_video_that_breaks_off_or_is_none_is_named_and_the_others_go_on(weights, tmp_path, capsys):
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    whole = write_video(clips / "b.avi", frames=20).read_bytes()
    (clips / "a.avi").write_bytes(whole[: len(whole) // 2])
    (clips / "c.mp4").write_bytes(b"no video")
    assert run(weights, clips, "--output", out) == 2
    errors = {Path(row["path"]).name: row["error"] for row in read_rows(out) if "error" in row}
    assert "ended after" in errors["a.avi"]
    assert "cannot be opened as a video" in errors["c.mp4"]
    assert len([row for row in read_rows(out) if row["path"].endswith("a.avi") and "frame" in row]) > 2
    assert (out / "a.mp4").exists()
    assert [row["frames"] for row in read_rows(out) if "frames" in row] == [20]
    assert "2 failed, see above" in capsys.readouterr().err


def test_recordings_without_a_duration_or_of_varying_rate_are_searched_whole(weights, tmp_path, capsys):
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    leave_out_duration(write_webm(clips / "browser.webm", frames=30))
    leave_out_frames(write_webm(clips / "screen.webm", frames=30), every=3)
    assert run(weights, clips, "--output", out, "--format", "jsonl") == 0
    assert [row["frames"] for row in read_rows(out) if "frames" in row] == [30, 20]
    assert "in 2 videos (50 frames)" in capsys.readouterr().out


def test_videos_of_one_name_do_not_overwrite_each_other(weights, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "clip.avi", frames=3 if folder == "x" else 6)
    out = tmp_path / "out"
    assert run(weights, tmp_path / "x", tmp_path / "y", "--output", out) == 0
    assert [row["files"] for row in read_rows(out) if "frames" in row] == [["clip.mp4"], ["clip-2.mp4"]]
    for name, frames in (("clip.mp4", 3), ("clip-2.mp4", 6)):
        with VideoReader(str(out / name)) as video:
            assert len(list(video)) == frames


class Camera(http.server.BaseHTTPRequestHandler):
    """A stream of JPEG images without end, as network cameras send it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        number = 0
        try:
            while True:
                data = cv2.imencode(".jpg", np.full((48, 64, 3), 4 * number % 255, np.uint8))[1].tobytes()
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
                self.wfile.write(f"Content-Length: {len(data)}\r\n\r\n".encode() + data + b"\r\n")
                number += 1
                time.sleep(0.02)
        except OSError:
            pass  # the reader has gone

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def stream(monkeypatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/cam.mjpg"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_stream_is_searched_until_it_is_enough(stream, weights, tmp_path):
    out = tmp_path / "out"
    assert run(weights, stream, "--output", out, "--max-frames", 5) == 0
    *rows, last = read_rows(out)
    assert len(rows) == 5
    assert last == {"path": stream, "frames": 5, "files": ["127.0.0.1-cam.mjpg.mp4"]}
    assert (out / "127.0.0.1-cam.mjpg.mp4").exists()


@pytest.mark.slow
def test_ctrl_c_is_the_end_of_a_stream(stream, weights, tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable,
        str(CHECKOUT / "tools" / "detect.py"),
        stream,
        "--weights",
        str(weights),
        "--output",
        str(out),
    ]
    # Started in the background, a test suite ignores Ctrl-C, and what it starts would too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    signal.signal(signal.SIGINT, before)
    try:
        until = time.monotonic() + 60
        while not ((out / "detections.jsonl").exists() and len(read_whole(out)) > 5) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "in 1 video" in printed
    assert "frames" in read_rows(out)[-1]
    with VideoReader(str(next(out.glob("*.mp4")))) as video:
        assert len(list(video)) > 5


@pytest.mark.parametrize(
    ("stop", "code", "searched", "said"),
    [(KeyboardInterrupt, 0, True, ""), (Terminated, 143, False, "interrupted after 1 of 2.\n")],
)
def test_ctrl_c_ends_a_camera_alone_and_sigterm_the_search(
    stop, code, searched, said, weights, tmp_path, monkeypatch, capsys
):
    """What a stopped camera gave is kept, labels too, and no `--resume` is advised, which is refused for cameras."""
    from tests.images.test_video_reader import FakeCamera

    class Stopped(FakeCamera):
        def retrieve(self) -> tuple[bool, np.ndarray]:
            return True, np.zeros((48, 64, 3), np.uint8)

    def stopping(results, source, found, frame, *rest):
        added(results, source, found, frame, *rest)
        if source.kind == "live":
            raise stop

    clip, out, real, added = (
        write_video(tmp_path / "clip.avi", frames=3),
        tmp_path / "out",
        cv2.VideoCapture,
        Results.add_frame,
    )
    monkeypatch.setattr(
        "ssd.images.video_reader.cv2.VideoCapture", lambda source: Stopped(400) if source == 0 else real(source)
    )
    monkeypatch.setattr(Results, "add_frame", stopping)
    assert run(weights, "0", clip, "--output", out, "--format", "images,coco-data", "--copy") == code
    ends = {row["path"]: row for row in read_rows(out) if "frames" in row}
    assert (out / ends["0"]["files"][0]).exists()
    assert (str(clip) in ends) is searched
    labelled = json.loads(next(out.rglob("instances*.json")).read_text())["images"]
    assert len(labelled) == 1 + 3 * searched
    assert capsys.readouterr().err == said


def read_whole(folder: Path) -> list[str]:
    return (folder / "detections.jsonl").read_text().splitlines()


MEASURE = """
import resource, sys
from ssd.commands.detect import main
code = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(code)
"""


@pytest.mark.slow
def test_a_long_video_takes_no_more_memory_than_a_short_one(weights, tmp_path):
    peaks = []
    for frames in (60, 700):
        clip = write_video(tmp_path / f"{frames}.avi", frames=frames, height=240, width=320)
        command = [
            sys.executable,
            "-c",
            MEASURE,
            str(clip),
            "--weights",
            str(weights),
            "--quiet",
            "--output",
            str(tmp_path / f"out{frames}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT, timeout=300)
        peaks.append(int(done.stdout.split()[-1]))
    # 640 frames more are 147 MB of pixels.
    assert peaks[1] < peaks[0] + 60, peaks


def test_the_drawn_video_of_a_camera_keeps_time(weights, tmp_path, monkeypatch):
    """Frames that come once in 0.1 s of a camera that promises 25 a second are repeated."""
    from tests.images.test_video_reader import FakeCamera

    camera = FakeCamera(12)
    camera.grab = functools.partial(_slow_grab, camera)
    camera.retrieve = lambda: (True, np.zeros((48, 64, 3), np.uint8))
    real = cv2.VideoCapture  # looks at the drawn file
    monkeypatch.setattr(
        "ssd.images.video_reader.cv2.VideoCapture", lambda source: camera if source == 0 else real(source)
    )
    out = tmp_path / "out"
    assert run(weights, "0", "--output", out) == 2  # a camera has no end
    seconds = read_rows(out)[-2]["seconds"]
    monkeypatch.undo()
    with VideoReader(str(out / "camera-0.mp4")) as video:
        assert len(list(video)) == pytest.approx(25 * seconds + 1, abs=2)


def _slow_grab(camera: object) -> bool:
    time.sleep(0.1)
    camera.left -= 1
    return camera.left >= 0
