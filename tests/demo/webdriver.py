"""A browser to click in: the few requests of the WebDriver protocol that the tests need, over chromedriver's HTTP."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import FLAGS

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for an element's id
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """One window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def _ask(self, method: str, path: str, body: dict | None = None) -> Any:
        return _request(f"{self._session}{path}", method, body)

    def open(self, address: str) -> None:
        self._ask("POST", "/url", {"url": address})

    def find(self, css: str) -> str:
        """The first element that fits, waited for."""
        return wait(lambda: self._ask("POST", "/element", {"using": "css selector", "value": css})[_ELEMENT], css)

    def type(self, css: str, text: str) -> None:
        """Type, or choose a file."""
        self._ask("POST", f"/element/{self.find(css)}/value", {"text": text})

    def click(self, css: str) -> None:
        self._ask("POST", f"/element/{self.find(css)}/click", {})

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a JavaScript function's body."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, css: str) -> str:
        return str(self.run("return (document.querySelector(arguments[0]) || {innerText: ''}).innerText", css))

    def set(self, css: str, value: str) -> None:
        """Give a field a value as its user would."""
        script = """
            const field = document.querySelector(arguments[0]);
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, arguments[1]);
            for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true}));
        """
        self.find(css)
        self.run(script, css, value)

    def download_to(self, folder: Path) -> None:
        """Save downloads there without asking."""
        folder.mkdir()
        command = {"cmd": "Browser.setDownloadBehavior", "params": {"behavior": "allow", "downloadPath": str(folder)}}
        self._ask("POST", "/goog/cdp/execute", command)

    def requests(self) -> list[str]:
        """Every address that was asked for since the last call, in order."""
        entries = self._ask("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    def image(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot"))


def wait(ask: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """The first true answer of `ask`; elements that are not there yet count as false."""
    until = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < until:
        try:
            last = ask()
        except (LookupError, AssertionError) as error:
            last = error
        else:
            if last:
                return last
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s in vain for {what}; last: {last!r}")


@contextmanager
def open_browser(profile: Path, width: int = 1300, height: int = 900) -> Iterator[Browser]:
    """A headless Chromium; skips without chromium and chromedriver."""
    programs = [shutil.which(name) for name in ("chromedriver", "chromium")]
    if None in programs:
        pytest.skip("no chromedriver and chromium on this machine")
    driver = subprocess.Popen([str(programs[0]), "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{_port(driver)}"
        flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        options = {"binary": programs[1], "args": flags}
        logs = {"performance": "ALL"}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": logs}}
        session = _request(f"{address}/session", "POST", {"capabilities": wanted})["sessionId"]
        try:
            yield Browser(f"{address}/session/{session}")
        finally:
            _request(f"{address}/session/{session}", "DELETE")
    finally:
        driver.terminate()
        driver.communicate()


def _port(driver: "subprocess.Popen[str]") -> int:
    """Chromedriver takes a free port and says which."""
    assert driver.stdout is not None
    for line in driver.stdout:
        if "successfully on port " in line:  # an earlier line names port 0
            return int(line.rsplit("on port ", 1)[1].strip(" .\n"))
    raise AssertionError("chromedriver did not start")


def _request(address: str, method: str, body: dict | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    try:
        with _DIRECT.open(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise LookupError(json.load(error)["value"]["message"]) from None
