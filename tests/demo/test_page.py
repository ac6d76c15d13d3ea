import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

import ssd
from tests.commands.small_detector import save_small_weights, write_image
from tests.demo.webdriver import open_browser, wait

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@contextmanager
def served(folder: Path, *arguments: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The demo as a process that works in `folder`, and its address."""
    command = [sys.executable, str(CHECKOUT / "tools" / "demo.py"), *map(str, arguments)]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
    (folder / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # comes when the page is there, or not at all
        assert line.startswith("page: http://127.0.0.1:"), process.communicate()
        yield line.split()[1], process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def status(address: str, method: str = "GET") -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(address, method=method), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_in_a_browser_a_image_is_searched_and_the_threshold_changes_the_boxes(weights, tmp_path):
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "best.safetensors").write_bytes(weights.read_bytes())
    (tmp_path / "secret.txt").write_text("not for the page")
    photo = write_image(tmp_path / "photos" / "street.png", 300, 400)
    (tmp_path / "photos" / "notes.png").write_text("no image")
    with served(tmp_path) as (address, process), open_browser(tmp_path / "profile") as browser:
        browser.open(address)
        browser.type("#image input[type=file]", str(photo))
        wait(lambda: "Reading" in browser.text("#summary"), "detections")
        expected = ssd.load(run).detect(photo)

        def count() -> int:
            found = re.search(r"(\d+) object", browser.text("#summary"))  # not there while it is being replaced
            return int(found.group(1)) if found else -1

        wait(lambda: count() == len(expected.filter(min_score=0.5)), "the number of boxes")
        first = wait(lambda: browser.run("return document.querySelector('#drawn img')?.src"), "the drawn image")
        browser.set("#threshold input[type=number]", "0.02")
        wait(lambda: count() == len(expected.filter(min_score=0.02)), "more boxes")
        wait(lambda: browser.run("return document.querySelector('#drawn img')?.src") != first, "another image")
        assert "300" in browser.text("#summary")
        assert "mine" in browser.run("return document.querySelector('#weights input').value")

        browser.download_to(tmp_path / "downloads")
        browser.click("#download")
        file = tmp_path / "downloads" / "street.json"
        wait(lambda: file.exists() and file.stat().st_size, "the JSON file")
        downloaded = json.loads(file.read_text())
        assert downloaded["path"] == "street.png"
        assert len(downloaded["detections"]) == count()

        browser.open(address)
        browser.type("#image input[type=file]", str(tmp_path / "photos" / "notes.png"))
        wait(lambda: "notes.png: is not an image" in browser.text("#summary"), "the error")

        remote = [url for url in browser.requests() if url.startswith(("http", "ws")) and not url.startswith(address)]
        assert remote == []
        for path in (tmp_path / "secret.txt", "/etc/passwd", CHECKOUT / "pyproject.toml"):
            assert status(f"{address}gradio_api/file={path}") == 403
        uploads = [path for path in (tmp_path / "tmp").rglob("*") if path.suffix in {".png", ".jpeg", ".json"}]
        assert uploads
        process.send_signal(signal.SIGTERM)  # Ctrl-C takes the same way
        printed, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        assert printed == "the page is closed\n"
    assert not [path for path in uploads if path.exists()]
    assert list((tmp_path / "tmp").glob("ssd-demo-*")) == []


@pytest.mark.slow
def test_the_page_has_limits(weights, tmp_path):
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    with served(tmp_path, weights, "--max-upload", 1) as (address, _):
        port = address.rsplit(":", 1)[1].strip("/")
        command = [sys.executable, str(CHECKOUT / "tools" / "demo.py"), str(weights), "--port", port]
        taken = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
        assert taken.returncode == 2
        assert taken.stderr.startswith(f"error: 127.0.0.1:{port}: cannot be listened at")
        noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)
        large = tmp_path / "large.png"
        large.write_bytes(cv2.imencode(".png", noise)[1].tobytes())
        assert large.stat().st_size > 2**20
        with open_browser(tmp_path / "profile") as browser:
            browser.open(address)
            browser.type("#image input[type=file]", str(large))
            wait(lambda: "maximum" in browser.text("body").lower(), "the refusal")
            time.sleep(1)
            assert browser.text("#summary") == ""
