import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ssd.errors import ArgumentError, DownloadError
from ssd.system.doctor.checks import folders
from ssd.system.download import cache_folder, download

CONTENT = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; `server.cut` bytes at most for each of the first `server.cuts` answers."""

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        time.sleep(self.server.delay)
        if self.path == "/missing":
            return self.send_error(404)
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if self.server.ranges else 0
        if start >= len(CONTENT):
            return self.send_error(416)
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        if self.server.cuts > 0:
            self.server.cuts -= 1
            body = body[: self.server.cut]
        self.wfile.write(body)
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.cuts, server.cut, server.ranges, server.delay = [], 0, 1000, True, 0
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url_of(server, name="file.bin"):
    return f"http://127.0.0.1:{server.server_port}/{name}"


@pytest.mark.parametrize("promise", [{"sha256": SHA256}, {"md5": MD5}, {"sha256": SHA256[:8]}])
def test_a_file_arrives_whole(server, tmp_path, promise):
    path = download(url_of(server), tmp_path / "deep" / "file.bin", **promise)
    assert path.read_bytes() == CONTENT
    assert [item.name for item in path.parent.iterdir()] == ["file.bin"]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    for _ in range(2):
        download(url_of(server), tmp_path / "file.bin", sha256=SHA256)
    assert len(server.asked) == 1


def test_an_ended_connection_is_resumed_where_it_stopped(server, tmp_path):
    server.cuts = 2
    assert download(url_of(server), tmp_path / "file.bin", md5=MD5).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-", "bytes=2000-"]


def test_an_earlier_run_is_resumed(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:5000])
    assert download(url_of(server), tmp_path / "file.bin", md5=MD5).read_bytes() == CONTENT
    assert server.asked == ["bytes=5000-"]


def test_a_part_that_is_complete_is_only_checked(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert download(url_of(server), tmp_path / "file.bin", md5=MD5).read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:5000])
    assert download(url_of(server), tmp_path / "file.bin", md5=MD5).read_bytes() == CONTENT


def test_other_bytes_than_promised_are_thrown_away(server, tmp_path):
    with pytest.raises(DownloadError, match="307,200 bytes received have the sha256"):
        download(url_of(server), tmp_path / "file.bin", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_another_file_in_the_way_is_never_replaced(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"is there, but is not the file of"):
        download(url_of(server), tmp_path / "file.bin", sha256=SHA256)
    assert (tmp_path / "file.bin").read_bytes() == b"mine"
    assert server.asked == []


def test_processes_that_want_the_same_file_fetch_it_once(server, tmp_path):
    server.delay = 0.5  # longer than the second needs to come to the lock
    program = f"""
from ssd.system.download import download
print(download({url_of(server)!r}, {str(tmp_path / "file.bin")!r}, md5={MD5!r}, progress=False))
"""
    processes = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        assert process.communicate(timeout=60)[0].decode().strip() == str(tmp_path / "file.bin")
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_without_a_checksum_nothing_is_fetched(server, tmp_path):
    with pytest.raises(DownloadError, match="no checksum is known"):
        download(url_of(server), tmp_path / "file.bin")
    with pytest.raises(DownloadError, match="not an http address"):
        download("file:///etc/hosts", tmp_path / "file.bin", md5=MD5)
    assert server.asked == []


def test_a_missing_file_is_asked_for_once(server, tmp_path):
    with pytest.raises(DownloadError, match=r"HTTP 404"):
        download(url_of(server, "missing"), tmp_path / "file.bin", md5=MD5)
    assert len(server.asked) == 1


def test_without_a_network_the_message_says_where_to_put_the_file(tmp_path):
    with pytest.raises(DownloadError) as caught:
        download("http://127.0.0.1:9/file.bin", tmp_path / "file.bin", md5=MD5, attempts=1)
    assert "http://127.0.0.1:9/file.bin: cannot be fetched" in str(caught.value)
    assert f"put it at {tmp_path / 'file.bin'}" in str(caught.value)


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SSD_HOME", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SSD_HOME")
    assert cache_folder().parts[-2:] == (".cache", "ssd")


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """A user without $SSD_HOME, $HOME and an entry in the list of users; the temporary folder is empty."""

    def unknown() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SSD_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", unknown)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return tmp_path / f"ssd-{os.getuid()}"


def test_a_user_without_a_home_has_a_folder_in_the_temporary_one(homeless):
    assert cache_folder() == cache_folder() == homeless
    assert stat.S_IMODE(homeless.stat().st_mode) == 0o700


@pytest.mark.parametrize("make", ["open", "link", "file", "nowhere"])
def test_a_temporary_folder_that_others_can_write_is_not_used(homeless, make):
    if make == "open":
        homeless.mkdir()
        homeless.chmod(0o777)
    elif make == "link":
        homeless.symlink_to(homeless.parent)
    elif make == "file":
        homeless.touch()
    else:
        homeless.parent.rmdir()
    with pytest.raises(
        ArgumentError, match=r"this user has no home folder, and .*\. Set SSD_HOME to a folder of yours"
    ):
        cache_folder()
    assert next(finding for finding in folders() if finding.what == "cache").state == "problem"
