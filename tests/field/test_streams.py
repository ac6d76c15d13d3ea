"""A camera or stream that ends by itself is said, with a non-zero exit; a file's end is none (row B20)."""

import http.server
import threading

import cv2
import numpy as np
import pytest

from ssd.commands.detect import main
from tests.commands.small_detector import read_rows, save_small_weights, write_video
from tests.images.test_video_reader import FakeCamera


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


def detect(source, weights, out, *words):
    return main([str(word) for word in (source, "--weights", weights, "--output", out, "--quiet", *words)])


def unplugged(monkeypatch, frames):
    camera = FakeCamera(frames)
    camera.retrieve = lambda: (True, np.zeros((48, 64, 3), np.uint8))
    monkeypatch.setattr("ssd.images.video_reader.cv2.VideoCapture", lambda _: camera)


@pytest.mark.parametrize("frames", [0, 1, 9])
def test_a_camera_that_ends_by_itself_is_an_error_and_its_frames_are_kept(
    weights, tmp_path, monkeypatch, capsys, frames
):
    unplugged(monkeypatch, frames)
    assert detect("0", weights, tmp_path / "out", "--format", "jsonl") == 2
    *rows, last = read_rows(tmp_path / "out")
    assert len(rows) == last["frames"] <= frames
    assert (last["frames"] > 0) == (frames > 0)
    assert f"camera 0: ended by itself after {last['frames']} frame" in last["error"]
    assert last["error"] in capsys.readouterr().err


def test_a_camera_that_gave_as_many_frames_as_asked_for_is_done(weights, tmp_path, monkeypatch):
    unplugged(monkeypatch, 30)
    assert detect("0", weights, tmp_path / "out", "--format", "jsonl", "--max-frames", 2) == 0
    assert read_rows(tmp_path / "out")[-1] == {"path": "0", "frames": 2}


class ShortStream(http.server.BaseHTTPRequestHandler):
    """A network camera that breaks off after ten images."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        data = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
        for _ in range(10):
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
            self.wfile.write(f"Content-Length: {len(data)}\r\n\r\n".encode() + data + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_a_stream_that_breaks_off_is_an_error(weights, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ssd.images.video_reader._DELAYS", (0.01, 0.02))  # it breaks off again each time
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ShortStream)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/cam.mjpg"
    try:
        assert detect(address, weights, tmp_path / "out", "--format", "jsonl") == 2
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    last = read_rows(tmp_path / "out")[-1]
    assert last["path"] == address
    assert "ended by itself" in last["error"]


def test_the_end_of_a_video_file_is_no_error(weights, tmp_path):
    clip = write_video(tmp_path / "clip.avi", frames=6)
    assert detect(clip, weights, tmp_path / "out", "--format", "jsonl") == 0
    assert read_rows(tmp_path / "out")[-1] == {"path": str(clip), "frames": 6}
