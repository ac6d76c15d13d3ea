import os
import pickle
import random
import subprocess
import sys
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from ssd.errors import CheckpointError, SSDError
from ssd.system import files
from ssd.training import checkpoints


def some_state() -> dict[str, object]:
    return {
        "model": {
            "weight": torch.randn(8, 3, 3, 3),
            "bias": torch.ones(5, dtype=torch.bfloat16),
            "none": torch.zeros(0, 4),
        },
        "rng": torch.get_rng_state(),
        "python_rng": random.getstate(),
        "epoch": 3,
        "best": None,
        "lrs": [1e-3, float("inf")],
        "config": '{"name": "run"}',
        "done": True,
        "milestones": Counter({80: 1}),
        "ema": OrderedDict(a=torch.ones(2)),
        "raw": b"\x00\xff",
    }


def assert_same(a: object, b: object) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def test_a_run_state_comes_back_as_it_was(tmp_path):
    state = some_state()
    checkpoints.save_state(tmp_path / "last.pt", state)
    assert_same(checkpoints.load_state(tmp_path / "last.pt"), state)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_run_state_is_an_ordinary_torch_file(tmp_path):
    checkpoints.save_state(tmp_path / "last.pt", some_state())
    plain = torch.load(tmp_path / "last.pt", weights_only=True)
    assert plain["epoch"] == 3


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.float64(1), "numpy.float64"),
        (np.arange(3), "numpy.ndarray"),
        (Path("x"), "pathlib"),
        (lambda: 1, "function"),
        (NotImplementedError(), "NotImplementedError"),
    ],
)
def test_what_could_not_be_loaded_safely_is_refused_at_saving_and_named(tmp_path, value, kind):
    with pytest.raises(CheckpointError, match=r"state\.rng\.1: a .*" + kind):
        checkpoints.save_state(tmp_path / "last.pt", {"rng": [0, value]})
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_byte_anywhere_in_a_run_state_is_an_error(tmp_path):
    path = tmp_path / "last.pt"
    checkpoints.save_state(path, {"a": torch.arange(20.0), "epoch": 1})
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 64
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoints.load_state(path)
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoints.load_state(path)


class _Evil:
    def __reduce__(self):
        return (os.system, (f"touch {os.environ['SSD_EVIL']}",))


@pytest.mark.parametrize("forced", [False, True])
def test_a_malicious_run_state_executes_nothing(tmp_path, monkeypatch, forced):
    import hashlib

    monkeypatch.setenv("SSD_EVIL", str(tmp_path / "executed"))
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    else:
        monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)
    torch.save({"model": _Evil()}, tmp_path / "zip.pt")
    zipped = (tmp_path / "zip.pt").read_bytes()
    for payload in (zipped, pickle.dumps(_Evil(), protocol=2)):
        path = tmp_path / "last.pt"
        path.write_bytes(payload + b"SSDSTATE" + hashlib.sha256(payload).digest())
        with pytest.raises(CheckpointError, match="is not a run state"):
            checkpoints.load_state(path)
    assert not (tmp_path / "executed").exists()


def test_the_newest_whole_state_is_found_past_damaged_ones(tmp_path):
    for step in (9, 10, 120):
        checkpoints.save_state(tmp_path / f"state-{step}.pt", {"step": step})
    assert checkpoints.newest_whole(tmp_path).name == "state-120.pt"
    (tmp_path / "state-120.pt").write_bytes((tmp_path / "state-120.pt").read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"state-120\.pt: is damaged"):
        assert checkpoints.newest_whole(tmp_path).name == "state-10.pt"
    assert checkpoints.newest_whole(tmp_path, "*.safetensors") is None
    assert checkpoints.newest_whole(tmp_path / "nothing") is None


def test_the_later_of_two_states_without_numbers_is_the_newest(tmp_path):
    for name, when in (("a.pt", 2000), ("b.pt", 1000)):
        checkpoints.save_state(tmp_path / name, {})
        os.utime(tmp_path / name, (when, when))
    assert checkpoints.newest_whole(tmp_path).name == "a.pt"


def test_prune_keeps_the_newest_and_only_those(tmp_path):
    for step in range(5):
        checkpoints.save_state(tmp_path / f"state-{step:06d}.pt", {"step": step})
        checkpoints.prune(tmp_path, keep=2)
        assert (tmp_path / f"state-{step:06d}.pt").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state-000003.pt", "state-000004.pt"]
    with pytest.raises(CheckpointError, match="keep = 0"):
        checkpoints.prune(tmp_path, keep=0)


def test_a_failed_delete_is_a_warning(tmp_path, monkeypatch):
    for step in range(3):
        checkpoints.save_state(tmp_path / f"state-{step}.pt", {"step": step})
    unlink = Path.unlink

    def refuse(self, *arguments, **keywords):
        if self.name == "state-0.pt":
            raise PermissionError(13, "Permission denied")
        unlink(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.warns(UserWarning, match=r"state-0\.pt: cannot be deleted \(Permission denied\)"):
        deleted = checkpoints.prune(tmp_path, keep=1)
    assert [p.name for p in deleted] == ["state-1.pt"]


# One process imports torch and forks a saver for every kill; the saver reports each step after it is saved.
_KILLER = """
import os, random, signal, sys, time
import torch
from ssd.training import checkpoints as checkpoint
path, kills = sys.argv[1], int(sys.argv[2])
random.seed(0)
torch.set_num_threads(1)
step = 0
for _ in range(kills):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        while True:
            step += 1
            checkpoint.save_state(path, {"step": step, "tensor": torch.full((1_000_000,), float(step))})
            os.write(writer, f"{step} ".encode())
    os.close(writer)
    reported = os.read(reader, 100)
    time.sleep(random.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reader, 100):
        reported += more
    os.close(reader)
    state = checkpoint.load_state(path)
    assert (state["tensor"] == state["step"]).all()
    assert state["step"] >= int(reported.split()[-1]), "a step reported as saved is gone"
    step = state["step"]
"""


def kill_while_saving(path: Path, times: int) -> None:
    subprocess.run([sys.executable, "-c", _KILLER, str(path), str(times)], check=True)
    files.clean_leftovers(path.parent)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_state_killed_while_saving_is_always_whole(tmp_path):
    kill_while_saving(tmp_path / "last.pt", times=5)


@pytest.mark.slow
def test_a_state_killed_thirty_times_while_saving_is_always_whole(tmp_path):
    kill_while_saving(tmp_path / "last.pt", times=30)


def test_a_full_disk_leaves_the_old_state_and_no_litter(tmp_path):
    path = tmp_path / "last.pt"
    checkpoints.save_state(path, {"step": 1})
    program = f"""
import resource, torch
from ssd.training import checkpoints as checkpoint
from ssd.errors import SSDError
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    checkpoint.save_state({str(path)!r}, {{"big": torch.zeros(1_000_000)}})
except SSDError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "no space left writing last.pt (needs 4.0 MB)" in done.stdout
    assert checkpoints.load_state(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(SSDError, match=r"nowhere/last\.pt: cannot be written \(No such file or directory\)"):
        checkpoints.save_state(tmp_path / "nowhere" / "last.pt", {})
