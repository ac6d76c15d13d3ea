"""A page in headless Chromium: what it logs, what it fetched, what its tree is."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


@dataclass(frozen=True)
class Opened:
    """What the browser made of a page."""

    html: str
    console: list[str]


def open_page(path: Path, profile: Path, *flags: str) -> Opened:
    """Open a page of this machine; skips without Chromium."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    command = [program, *FLAGS, f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", *flags]
    answer = subprocess.run(
        [*command, "--dump-dom", path.resolve().as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(profile)},
    )
    return Opened(answer.stdout, re.findall(r"CONSOLE.*", answer.stderr))
