import hashlib

import pytest
import torch

from ssd.errors import DownloadError
from ssd.weights import fetch as fetching


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
    path = fetching.fetch_default()
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
    monkeypatch.setattr("ssd.download.time.sleep", lambda seconds: None)
    with pytest.raises(DownloadError) as caught:
        fetching.fetch("http://127.0.0.1:9/vgg16-12345678.pth")
    assert "vgg16-12345678.pth" in str(caught.value)
    assert str(home / "home" / "weights") in str(caught.value)
