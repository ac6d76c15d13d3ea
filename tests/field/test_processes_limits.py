"""Limits on open files and shared memory are named, with a remedy, before or instead of tracebacks (rule 10)."""

import signal
import types

import pytest

from ssd.data.loading import limits
from ssd.errors import DataWorkerError
from tests.reliability.nursery import Nursery
from tests.training.runs import TINY

LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))
"""


@pytest.mark.parametrize("files", [20, 24])
def test_twenty_open_files_are_one_line_before_training(nursery: Nursery, tmp_path, files):
    words = (*TINY, "data.workers=2", f"output={tmp_path}", "name=few", "--quiet")
    (ended,) = nursery.run("train", *words, first=LIMITED.format(files=files))
    last = ended.err.splitlines()[-1]
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert last.startswith(f"error: the limit on open files: {files} files may be open")
    assert last.endswith("Raise it with `ulimit -n 4096`. Set data.workers=0 to load in the main process.")
    assert not (tmp_path / "few").exists()


def test_what_the_message_advises_works(nursery: Nursery, tmp_path):
    words = (*TINY, "data.workers=0", "train.epochs=1", f"output={tmp_path}", "name=few", "--quiet")
    (ended,) = nursery.run("train", *words, first=LIMITED.format(files=40))
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("free", [2**20, 0, 3 * 2**20])
def test_a_small_shared_memory_is_one_line_before_training(monkeypatch, tmp_path, free):
    monkeypatch.setattr(limits, "SHARED_MEMORY", tmp_path)
    usage = types.SimpleNamespace(total=2**20, used=0, free=free)
    monkeypatch.setattr(limits.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataWorkerError, match=r"too little shared memory for 2 data workers .*--shm-size=1g"):
        limits.check_limits(2)
    assert "too little shared memory" in str(limits.explain_silence(60.0, 2))  # and not "if the disk is slow"


@pytest.mark.parametrize(
    ("message", "code", "shown"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. ", None, "too little shared memory"),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", -signal.SIGBUS, "too little shared memory"),
        ("unable to allocate shared memory(shm) for file </torch_1>", 1, "too little shared memory"),
        ("[Errno 24] Too many open files", 1, "the limit on open files: too few"),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", -signal.SIGKILL, "perhaps for want of memory"),
    ],
)
def test_the_death_of_a_worker_names_its_cause(message, code, shown):
    error = limits.explain_death(message, [None, code], 2)
    assert shown in str(error)
    assert str(error).endswith("Set data.workers=0 to load in the main process.")
