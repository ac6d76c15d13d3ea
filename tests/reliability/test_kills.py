"""Runs that are killed, asked to stop or out of space: what is on disk afterwards, and how they end once resumed."""

import os
import random
import shutil
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest

from ssd.report.run_log import read_rows
from ssd.training.checkpoints import load_state, newest_whole
from ssd.weights.native import load_weights
from tests.reliability.nursery import Nursery
from tests.training.runs import TINY, assert_same

# Averaging, accumulation and warm-up; a state after each of the three epochs of three steps.
HARD = (*TINY, "optim.accumulate=2", "optim.ema=0.9", "train.eval_every=2")
HARD += ("data.shapes=[12, 12, 80]",)  # an evaluation of three batches
KILL_AT = """
import os, signal
from ssd.training import loss_monitor as loss_monitor
real = loss_monitor.LossMonitor.add
def add(self, step, *rest):
    if step == {}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, step, *rest)
loss_monitor.LossMonitor.add = add
"""
# Killed before (0) or after (1) the given call of one of the acts with which a run changes its files.
KILL_AROUND = """
import os, signal
from ssd.report import run_log
from ssd.training import run_folder, saving, state, step, validation
calls = 0
def dies_around(real):
    def act(*args, **keywords):
        global calls
        calls += 1
        if (calls, 0) == ({call}, {after}):
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args, **keywords)
        if (calls, 1) == ({call}, {after}):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return act
holder, name = {holder}, {name!r}
setattr(holder, name, dies_around(getattr(holder, name)))
"""
ACTS = {  # what is patched, and how often the finished run does it
    ("run_log.RunLog", "write"): 11,  # nine steps and two evaluations
    ("run_log", "write_atomic"): 4,  # the first row of each table makes both of its files
    ("run_folder", "save_state"): 5,  # after each epoch, and again after each evaluation
    ("saving", "save_weights"): 4,  # last, perhaps best
    ("validation", "update_page"): 2,
    ("validation", "save_averaged_weights"): 2,
    ("run_folder.RunFolder", "describe"): 1,
}
MOMENTS = [
    (holder, name, call, after)
    for (holder, name), calls in ACTS.items()
    for call in range(1, calls + 1)
    for after in (0, 1)
    if (holder, name) != ("run_log.RunLog", "write") or call % 2 == 1 or call > 6
]
# An evaluation's row is written, the state that remembers it is not yet.
TELLING = [
    ("run_log.RunLog", "write", 7, 1),
    ("saving", "save_weights", 1, 1),
    ("validation", "update_page", 1, 1),
    ("run_folder", "save_state", 3, 0),
]
# The evaluation's first batch says that it is under way, and takes its time.
SLOW_EVALUATION = """
import pathlib, time
from ssd.inference import detector
real = detector.Detector.predict
def predict(self, images):
    pathlib.Path({!r}).touch()
    time.sleep(0.3)
    return real(self, images)
detector.Detector.predict = predict
"""
SLOW_STEP = """
import pathlib, time
from ssd.training import loss_monitor as loss_monitor
def add(self, *rest):
    pathlib.Path({!r}).touch()
    time.sleep(60)
loss_monitor.LossMonitor.add = add
"""


def words(folder: Path, *more: str) -> tuple[str, ...]:
    return (*HARD, f"output={folder}", "name=tiny", *more, "--quiet", "--resume", "auto")


def newest(folder: Path) -> dict[str, Any]:
    return load_state(max((folder / "tiny").glob("state-*.pt")))


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a run without what a clock says."""
    table = read_rows(folder / "tiny" / f"{name}.jsonl")
    return [{key: value for key, value in row.items() if "second" not in key} for row in table]


def assert_equal_runs(folder: Path, reference: Path) -> None:
    """Weights, average, momentum, random state and history, to the last bit."""
    assert_same(*({**newest(place), "config": None} for place in (folder, reference)))
    for table in ("train", "val"):
        assert rows(folder, table) == rows(reference, table)
    for name in ("best.safetensors", "last.safetensors"):
        assert_same(*(load_weights(place / "tiny" / name)[0] for place in (folder, reference)))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def finished(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, which nobody interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    (ended,) = nursery.run("train", *words(folder))
    assert ended.code == 0, ended.err
    return folder


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_in_every_epoch_and_resumed_a_run_ends_bit_for_bit_like_the_uninterrupted_one(
    nursery: Nursery, finished: Path, tmp_path: Path, workers: int
) -> None:
    kills = 0
    for step in (1, 4, 8):  # before the first state, and after the first and the second
        first = KILL_AT.format(step)
        (ended,) = nursery.run("train", *words(tmp_path, f"data.workers={workers}"), first=first)
        kills += ended.code == -signal.SIGKILL
    (ended,) = nursery.run("train", *words(tmp_path, f"data.workers={workers}"))
    assert (kills, ended.code) == (3, 0), ended.err
    assert_equal_runs(tmp_path, finished)


def test_killed_between_two_saves_a_run_ends_bit_for_bit_like_the_uninterrupted_one(
    nursery: Nursery, finished: Path, tmp_path: Path
) -> None:
    """With saves a minute apart: after the first epoch, with the best weights, and at the end."""
    far_apart = "import ssd.training.saving as saving; saving.SECONDS_BETWEEN = 60.0\n"
    steps = []
    for step in (5, 8):
        (ended,) = nursery.run("train", *words(tmp_path), first=far_apart + KILL_AT.format(step))
        assert ended.code == -signal.SIGKILL
        steps.append(newest(tmp_path)["step"])
    assert steps == [3, 6]
    (ended,) = nursery.run("train", *words(tmp_path), first=far_apart)
    assert ended.code == 0, ended.err
    assert_equal_runs(tmp_path, finished)


def killed_around(nursery: Nursery, folder: Path, moment: tuple[str, str, int, int]) -> bool:
    """Train with a kill at this moment; false where the run ended before."""
    holder, name, call, after = moment
    first = KILL_AROUND.format(holder=holder, name=name, call=call, after=after)
    (ended,) = nursery.run("train", *words(folder), first=first, timeout=300)
    assert (ended.code in (0, -signal.SIGKILL), ended.hung) == (True, False), ended.err
    return ended.code == -signal.SIGKILL


def assert_resumes_as_if_nothing_happened(nursery: Nursery, folder: Path, reference: Path) -> None:
    (ended,) = nursery.run("train", *words(folder), timeout=300)
    assert ended.code == 0, ended.err
    assert_equal_runs(folder, reference)
    for table in ("train", "val"):
        steps = [str(row["step"]) for row in rows(reference, table)]
        lines = (folder / "tiny" / f"{table}.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in lines[1:]] == steps


@pytest.mark.parametrize("moment", TELLING)
def test_killed_between_an_evaluation_and_its_state_a_run_logs_no_step_twice(
    nursery: Nursery, finished: Path, tmp_path: Path, moment: tuple[str, str, int, int]
) -> None:
    assert killed_around(nursery, tmp_path, moment)
    assert_resumes_as_if_nothing_happened(nursery, tmp_path, finished)


@pytest.mark.slow
def test_killed_around_every_act_that_changes_a_file_a_run_goes_on_as_if_nothing_happened(
    nursery: Nursery, finished: Path, tmp_path: Path
) -> None:
    kills = 0
    for number, moment in enumerate(MOMENTS):
        kills += killed_around(nursery, tmp_path / str(number), moment)
        assert_resumes_as_if_nothing_happened(nursery, tmp_path / str(number), finished)
        shutil.rmtree(tmp_path / str(number))
    assert kills >= 35


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_random_moments_a_run_loses_nothing_it_saved(
    nursery: Nursery, finished: Path, tmp_path: Path, workers: int
) -> None:
    """Thirty kills with workers=0, ten with 2. A step takes little, so much of the time goes into saving."""
    draw = random.Random(workers)
    saved, tried = -1, 30 if workers == 0 else 10
    for number in range(tried):
        (pid,) = nursery.start("train", *words(tmp_path, f"data.workers={workers}"))
        time.sleep(draw.uniform(0.2, 2.0 if workers == 0 else 6.0))
        os.kill(pid, signal.SIGKILL)
        nursery.wait([pid])
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a damaged state would be a warning
            state = newest_whole(tmp_path / "tiny", "state-*.pt") if (tmp_path / "tiny").exists() else None
        step = -1 if state is None else load_state(state)["step"]
        assert step >= saved, f"kill {number} lost a state"
        saved = step
        if saved == 9 and number + 1 < tried:  # done: once more from the start
            assert_weights_load(tmp_path)
            shutil.rmtree(tmp_path / "tiny")
            saved = -1
    (ended,) = nursery.run("train", *words(tmp_path, f"data.workers={workers}"), timeout=120)
    assert ended.code == 0, ended.err
    assert_equal_runs(tmp_path, finished)
    assert not list((tmp_path / "tiny").glob(".*.tmp-*"))


def assert_weights_load(folder: Path) -> None:
    for path in (folder / "tiny").glob("*.safetensors"):
        load_weights(path)


@pytest.mark.slow
def test_the_workers_of_a_killed_run_end_too(nursery: Nursery, tmp_path: Path) -> None:
    (pid,) = nursery.start("train", *words(tmp_path, "data.workers=2", "train.epochs=500"))
    wait_for(tmp_path / "tiny" / "train.jsonl")
    family = psutil.Process(pid).children(recursive=True)
    assert len(family) >= 2
    os.kill(pid, signal.SIGKILL)
    nursery.wait([pid])
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_sigterm_during_an_evaluation_stops_it_and_the_resumed_run_makes_up_for_it(
    nursery: Nursery, finished: Path, tmp_path: Path
) -> None:
    sign = tmp_path / "evaluating"
    slow = SLOW_EVALUATION.format(str(sign))
    (pid,) = nursery.start("train", *words(tmp_path), first=slow)
    wait_for(sign)
    os.kill(pid, signal.SIGTERM)
    (ended,) = nursery.wait([pid], 10)
    assert (ended.code, ended.hung) == (143, False)
    assert "stopped after step 6; go on with --resume " in ended.err
    assert rows(tmp_path, "val") == []
    (ended,) = nursery.run("train", *words(tmp_path))
    assert ended.code == 0
    assert_equal_runs(tmp_path, finished)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_run_at_once(nursery: Nursery, tmp_path: Path, number: signal.Signals) -> None:
    sign = tmp_path / "stepping"
    (pid,) = nursery.start("train", *words(tmp_path), first=SLOW_STEP.format(str(sign)))
    wait_for(sign)
    os.kill(pid, number)
    time.sleep(0.3)
    assert psutil.pid_exists(pid)
    os.kill(pid, number)
    (ended,) = nursery.wait([pid], 10)
    assert (ended.code, ended.hung) == (-number, False)


@pytest.mark.parametrize("megabytes", [0.02, pytest.param(0.0015, marks=pytest.mark.slow)])
def test_on_a_full_disk_a_run_stops_with_one_line_and_what_was_saved_is_whole(
    nursery: Nursery, finished: Path, tmp_path: Path, megabytes: float
) -> None:
    """The larger limit is too small for a state, the smaller for the tables and the config."""
    shutil.copytree(finished / "tiny", tmp_path / "tiny")
    before = files_of(tmp_path / "tiny")
    longer = words(tmp_path, "train.epochs=5")
    (ended,) = nursery.run("train", *longer, first=f"limit_file_size({megabytes})")
    assert ended.code == 2, ended.err
    assert ended.err.splitlines()[-1].startswith("error: ")
    assert "no space left" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
    after = files_of(tmp_path / "tiny")
    whole = [name for name in before if name.endswith((".pt", ".safetensors"))]
    assert {name: after[name] for name in whole} == {name: before[name] for name in whole}
    assert set(after) == set(before)
    (ended,) = nursery.run("train", *longer)  # somebody has freed some space
    assert ended.code == 0
    assert [row["step"] for row in rows(tmp_path, "train")] == list(range(1, 16))


def test_a_damaged_state_is_passed_over_and_a_folder_of_them_is_an_error(
    nursery: Nursery, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "tiny", tmp_path / "tiny")
    states = sorted((tmp_path / "tiny").glob("state-*.pt"))
    for state in states[1:]:
        data = bytearray(state.read_bytes())
        data[len(data) // 2] ^= 1
        state.write_bytes(data)
    (ended,) = nursery.run("train", *words(tmp_path))
    assert ended.code == 0
    assert "resuming after step 6" in ended.err  # the older of the two that are kept
    assert_equal_runs(tmp_path, finished)
    for state in states:
        state.write_bytes(state.read_bytes()[:-1])
    (ended,) = nursery.run("train", *words(tmp_path))
    assert ended.code == 2
    assert "every saved state is damaged" in ended.err


def test_a_folder_that_cannot_be_made_is_named(nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (ended,) = nursery.run("train", *words(tmp_path / "file"))
    assert ended.code == 2
    assert "file/tiny: cannot be written (Not a directory)" in ended.err.splitlines()[-1]
