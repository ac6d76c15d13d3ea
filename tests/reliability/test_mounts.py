"""Runs on file systems that are really full or read-only, and with a really small /dev/shm. Mounting needs root."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.runs import environment, train_command


def _may_mount() -> bool:
    if sys.platform != "linux":
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _may_mount(), reason="file systems cannot be mounted here"),
]


def train_with(mount: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Train into `folder` after a mount that only this run sees; prints the names of its files at the end."""
    command = shlex.join(train_command(folder, *words))
    listed = f"ls -A {shlex.quote(str(folder / 'tiny'))} 2>/dev/null"
    script = f"{mount} || exit 99; {command}; code=$?; {listed}; exit $code"
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(),
        check=False,
    )


def the_error(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.returncode == 2, ended.stderr
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_a_full_file_system_is_one_line_and_leaves_no_half_written_file(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=200k tmpfs {shlex.quote(str(tmp_path))}"
    ended = train_with(mount, tmp_path)
    assert "no space left" in the_error(ended)
    names = ended.stdout.split()
    assert "config.yaml" in names
    assert not [name for name in names if ".tmp-" in name or name.startswith("state-")]


def test_a_read_only_file_system_is_one_line_before_the_work(tmp_path: Path) -> None:
    place = shlex.quote(str(tmp_path))
    ended = train_with(f"mount --bind {place} {place} && mount -o remount,ro,bind {place}", tmp_path)
    assert "cannot be written (Read-only file system)" in the_error(ended)
    assert "images to train on" not in ended.stderr


@pytest.mark.parametrize(
    ("size", "words"),
    [
        # The first is seen before the start, the second is filled by the batches.
        ("1m", ()),
        (
            "6m",
            ("train.batch_size=16", "model.input_size=300", "data.shapes=[64, 4, 80]", "data.timeout=10"),
        ),
    ],
)
def test_a_small_shared_memory_is_one_line_with_a_remedy_and_no_bus_error(
    tmp_path: Path, size: str, words: tuple[str, ...]
) -> None:
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    line = the_error(train_with(mount, tmp_path, "data.workers=2", *words))
    assert "too little shared memory for 2 data workers" in line
    assert "data.workers=0" in line
