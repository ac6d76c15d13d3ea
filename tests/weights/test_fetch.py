import hashlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from ssd.errors import DownloadError
from ssd.weights import fetch as fetching

DATA = bytes(range(256)) * 4000
NAME = f"ssd300-{hashlib.sha256(DATA).hexdigest()[:8]}.pth"


class Handler(BaseHTTPRequestHandler):
    """Serves DATA under any name, slowly enough for two processes to meet."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        for start in range(0, len(DATA), len(DATA) // 10):
            self.wfile.write(DATA[start : start + len(DATA) // 10])
            threading.Event().wait(0.02)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url_of(server: ThreadingHTTPServer, name: str = NAME) -> str:
    return f"http://127.0.0.1:{server.server_port}/models/{name}"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SSD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path


def test_the_checksum_in_the_name_is_demanded(home, monkeypatch):
    asked = {}

    def download(url, path, *, sha256):
        asked.update(url=url, path=path, sha256=sha256)
        return path

    monkeypatch.setattr(fetching, "download", download)
    path = fetching.fetch_detector("coco")
    assert path == home / "home" / "weights" / "ssd300_vgg16_coco-b556d3b4.pth"
    assert asked["url"] == "https://download.pytorch.org/models/ssd300_vgg16_coco-b556d3b4.pth"
    assert asked["sha256"] == "b556d3b4"


def test_a_copy_that_torchvision_fetched_serves_if_it_is_whole(home, monkeypatch):
    data = b"weights"
    name = f"x-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    copy = home / "hub" / "checkpoints" / name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(data)
    monkeypatch.setattr(fetching, "download", lambda url, path, *, sha256: path)
    assert fetching.fetch(f"https://example.org/{name}") == copy
    copy.write_bytes(data[:-1])
    assert fetching.fetch(f"https://example.org/{name}") == home / "home" / "weights" / name


def test_without_a_network_the_error_says_which_file_to_put_where(home, monkeypatch):
    monkeypatch.setattr("ssd.system.download.time.sleep", lambda seconds: None)
    with pytest.raises(DownloadError) as caught:
        fetching.fetch("http://127.0.0.1:9/vgg16-12345678.pth")
    assert "vgg16-12345678.pth" in str(caught.value)
    assert str(home / "home" / "weights") in str(caught.value)


def test_a_published_file_is_fetched_once_and_checked(home, server, capsys):
    path = fetching.fetch(url_of(server))
    assert path == home / "home" / "weights" / NAME
    assert path.read_bytes() == DATA
    assert fetching.fetch(url_of(server)) == path
    assert len(server.asked) == 1
    with pytest.raises(DownloadError, match="have the sha256"):
        fetching.fetch(url_of(server, "other-0123abcd.pth"))
    assert [item.name for item in path.parent.iterdir()] == [NAME], "what is not the promised file is thrown away"


def _fetch_in_a_process(url: str, folder: str, answers: "multiprocessing.Queue[str]") -> None:
    os.environ["SSD_HOME"] = folder
    torch.hub.set_dir(folder + "/hub")
    answers.put(str(fetching.fetch(url)))


@pytest.mark.slow
def test_two_processes_that_want_the_same_file_fetch_it_once(tmp_path, server):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    arguments = (url_of(server), str(tmp_path), answers)
    processes = [context.Process(target=_fetch_in_a_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    paths = {Path(answers.get(timeout=120)) for _ in processes}
    for process in processes:
        process.join(timeout=30)
    assert paths == {tmp_path / "weights" / NAME}
    assert paths.pop().read_bytes() == DATA
    assert len(server.asked) == 1
