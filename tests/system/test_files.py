import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssd.errors import ArgumentError, SSDError
from ssd.system.files import alone, clean_leftovers, refuse_existing, write_atomic


def test_chunks_follow_each_other_and_replace_what_was_there(tmp_path):
    path = tmp_path / "a.bin"
    write_atomic(path, b"old and longer")
    write_atomic(path, b"one ", memoryview(b"two"))
    assert path.read_bytes() == b"one two"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_ordinary_permissions(tmp_path):
    write_atomic(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_space_says_how_much_was_needed_and_keeps_the_old_file(tmp_path, monkeypatch, number):
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def full(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SSDError, match=r"a\.bin: no space left writing a\.bin \(needs 2\.5 MB\)"):
        write_atomic(path, bytes(2_000_000), bytes(500_000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_no_litter(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_the_dead_and_of_oneself_go_and_all_else_stays(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    parent = os.getppid()
    names = [f".a.pt.tmp-{child.pid}", f".a.pt.tmp-{os.getpid()}", f".a.pt.tmp-{parent}", ".a.tmp-x", "a.tmp-1", ".b"]
    for name in names:
        (tmp_path / name).touch()
    assert {path.name for path in clean_leftovers(tmp_path)} == set(names[:2])
    assert {path.name for path in tmp_path.iterdir()} == set(names[2:])
    assert clean_leftovers(Path(tmp_path / "nowhere")) == ()


_TAKES_TURNS = """
import sys, time
from pathlib import Path
from ssd.system.files import alone
target = Path(sys.argv[1])
for _ in range(20):
    with alone(target):
        count = int(target.read_text()) if target.exists() else 0
        time.sleep(0.001)
        target.write_text(str(count + 1))
"""


def test_processes_that_work_on_one_file_take_turns(tmp_path):
    path = tmp_path / "count"
    processes = [subprocess.Popen([sys.executable, "-c", _TAKES_TURNS, path]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert path.read_text() == "80"
    assert list(tmp_path.iterdir()) == [path]


def test_the_lock_of_a_killed_process_is_nobodys(tmp_path):
    path = tmp_path / "file"
    program = f"""
import os, signal
from ssd.system.files import alone
with alone({str(path)!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert [left.name for left in tmp_path.iterdir()] == [".file.lock"]
    with alone(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_made_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(SSDError, match=r"nowhere/file: cannot be written"), alone(tmp_path / "nowhere" / "file"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="there are no such files")
def test_a_device_or_a_pipe_is_no_place_for_a_result(tmp_path):
    """Root would put a file in its place: /dev/null would be one for every program."""
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", "/dev/null", "/dev/stdout"):
        with pytest.raises(ArgumentError, match=r"is a device or a pipe\. Name a file\."):
            refuse_existing(name, force=True)
