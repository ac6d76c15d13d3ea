"""Two and three Gloo processes: uneven data, empty shares, and ranks that fail, die, go silent or never come."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ssd.report.run_log import read_rows
from ssd.training.checkpoints import load_state
from tests.reliability.nursery import Nursery
from tests.training.runs import TINY

# Executed by every rank before the command; `rank` is its number.
AT_STEP_2 = """
import os, signal
from ssd.training import loss_monitor as loss_monitor
from ssd.errors import DataWorkerError
real = loss_monitor.LossMonitor.add
def add(self, step, lr, parts, *rest):
    if rank == 1 and step == 2:
        {}
    return real(self, step, lr, parts, *rest)
loss_monitor.LossMonitor.add = add
"""
SHORT_TIMEOUT = (
    "import datetime, ssd.system.distributed\nssd.system.distributed.TIMEOUT = datetime.timedelta(seconds=3)\n"
)
THREE = ("train.batch_size=6",)


def words(folder: Path, *more: str) -> tuple[str, ...]:
    return (*TINY, f"output={folder}", "name=tiny", "--quiet", *more)


def states(folder: Path) -> list[Path]:
    return sorted((folder / "tiny").glob("state-*.pt"))


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("raise DataWorkerError('a data worker died')", 2, "error: a data worker died"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", -9, "", id="killed"),
        pytest.param("raise KeyError('a bug')", 70, "KeyError: 'a bug'", marks=pytest.mark.slow),
        pytest.param("os._exit(7)", 7, "", marks=pytest.mark.slow),
    ],
)
def test_a_rank_that_fails_ends_the_others_at_once_with_one_line(
    nursery: Nursery, tmp_path: Path, how: str, code: int, message: str
) -> None:
    ended = nursery.run("train", *words(tmp_path, *THREE), ranks=3, first=AT_STEP_2.format(how), timeout=30)
    assert [rank.hung for rank in ended] == [False] * 3
    assert ended[1].code == code
    assert message in ended[1].err
    for number in (0, 2):
        assert ended[number].code == 2
        last = ended[number].err.splitlines()[-1]
        assert last.startswith(f"error: rank {number} lost the connection to another process")
        assert "Traceback" not in ended[number].err


def test_a_loss_that_is_not_finite_on_one_rank_stops_both_in_the_same_step(nursery: Nursery, tmp_path: Path) -> None:
    spoil = "import dataclasses; parts = dataclasses.replace(parts, box=parts.box * float('nan'))"
    ended = nursery.run("train", *words(tmp_path), ranks=2, first=AT_STEP_2.format(spoil), timeout=30)
    assert [(rank.code, rank.hung) for rank in ended] == [(2, False)] * 2
    assert "another process's loss is not finite" in ended[0].err
    assert "error: step 2: the loss is not finite (box nan" in ended[1].err
    assert "shapes/train/" in ended[1].err
    assert states(tmp_path) == []
    assert [row["step"] for row in read_rows(tmp_path / "tiny" / "train.jsonl")] == [1, 2]


@pytest.mark.slow
def test_a_rank_that_goes_silent_is_not_waited_for_forever(nursery: Nursery, tmp_path: Path) -> None:
    first = SHORT_TIMEOUT + AT_STEP_2.format("os.kill(os.getpid(), signal.SIGSTOP)")
    ended = nursery.run("train", *words(tmp_path, *THREE), ranks=3, first=first, timeout=15)
    assert [rank.hung for rank in ended] == [False, True, False]
    for number in (0, 2):
        assert f"error: rank {number} waited 3 seconds for another process" in ended[number].err


@pytest.mark.slow
def test_a_process_that_never_comes_is_told(nursery: Nursery, tmp_path: Path) -> None:
    pids = nursery.start("train", *words(tmp_path), ranks=2, first=SHORT_TIMEOUT + "if rank == 1: os._exit(0)\n")
    ended = nursery.wait(pids, 30)
    assert ended[0].code == 2
    assert "the 2 processes did not come together" in ended[0].err


def test_ranks_with_different_configs_stop_on_all(nursery: Nursery, tmp_path: Path) -> None:
    first = "import ssd.experiment.config_file as c\nreal = c.load_with_keys\n"
    first += "c.load_with_keys = lambda p, o=(): real(p, [*o, f'seed={rank}'])\n"
    ended = nursery.run("train", *words(tmp_path, *THREE), ranks=3, first=first, timeout=30)
    assert [rank.code for rank in ended] == [2] * 3
    assert all("disagree on the config or the data" in rank.err for rank in ended)


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_uneven_data_and_empty_shares_train_to_the_end(nursery: Nursery, tmp_path: Path, ranks: int) -> None:
    """Seven images in batches of six, and two to evaluate: on three ranks the third has none."""
    uneven = ("data.shapes=[7, 2, 80]", *THREE, "train.epochs=2")
    ended = nursery.run("train", *words(tmp_path, *uneven), ranks=ranks, timeout=30)
    assert [(rank.code, rank.hung) for rank in ended] == [(0, False)] * ranks
    assert [row["step"] for row in read_rows(tmp_path / "tiny" / "train.jsonl")] == [1, 2, 3, 4]
    assert [row["images"] for row in read_rows(tmp_path / "tiny" / "val.jsonl")] == [2]


def test_evaluation_counts_each_image_once_and_equals_one_process(nursery: Nursery, tmp_path: Path) -> None:
    assert nursery.run("train", *words(tmp_path, "train.epochs=1"))[0].code == 0
    weights = str(tmp_path / "tiny" / "best.safetensors")
    reports: list[dict[str, Any]] = []
    for ranks in (1, 2, 3):
        report = tmp_path / f"{ranks}.json"
        five = ("--set", "data.shapes=[12, 5, 80]", "--precision", "fp32", "--output", str(report))
        ended = nursery.run("eval", weights, "--coco", "--voc", *five, "--quiet", ranks=ranks, timeout=60)
        assert [rank.code for rank in ended] == [0] * ranks, ended[0].err
        content = json.loads(report.read_text())
        reports.append({key: value for key, value in content.items() if "second" not in key})
    assert reports[0]["images"] == 5
    assert reports[0] == reports[1] == reports[2]


@pytest.mark.slow
def test_a_rank_that_fails_in_evaluation_ends_the_others(nursery: Nursery, tmp_path: Path) -> None:
    first = """
from ssd.inference import detector
def broken(self, images):
    raise KeyError("a bug")
if rank == 1:
    detector.Detector.predict = broken
"""
    ended = nursery.run("train", *words(tmp_path, "train.epochs=1"), ranks=2, first=first, timeout=30)
    assert (ended[0].code, ended[0].hung, ended[1].code) == (2, False, 70)
    assert "rank 0 lost the connection" in ended[0].err


def test_a_signal_to_one_rank_saves_and_ends_all(nursery: Nursery, tmp_path: Path) -> None:
    first = AT_STEP_2.format("os.kill(os.getpid(), signal.SIGTERM)")
    ended = nursery.run("train", *words(tmp_path), ranks=2, first=first, timeout=30)
    assert [rank.code for rank in ended] == [128 + signal.SIGTERM] * 2
    (state,) = states(tmp_path)
    assert load_state(state)["step"] == 3


def test_the_network_between_processes_is_said_to_be_trusted() -> None:
    root = Path(__file__).parents[2]
    for name in ("README.md", "SECURITY.md"):
        text = (root / name).read_text().replace("\n", " ")
        assert "torchrun" in text
        assert "private" in text
    assert "MASTER_ADDR" not in os.environ


def test_every_rank_evaluates_the_network_that_is_saved(nursery: Nursery, tmp_path: Path) -> None:
    """The statistics of BatchNorm are each rank's own while it trains."""
    kept = f"""
import torch, ssd.training.validation as validation
real = validation.NetworkPipeline
def keep(network, *rest, **options):
    torch.save(network.state_dict(), f"{tmp_path}/{{rank}}.pt")
    return real(network, *rest, **options)
validation.NetworkPipeline = keep
"""
    ended = nursery.run("train", *words(tmp_path, "train.epochs=1", "train.eval_every=1"), ranks=2, first=kept)
    assert [rank.code for rank in ended] == [0, 0], ended[0].err
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert any("running_var" in name for name in one)
    assert all(torch.equal(one[name], two[name]) for name in one)
