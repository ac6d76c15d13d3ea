"""Two agents of torchrun with a folder each stand in for two machines that share no disk."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssd.report.run_log import read_rows
from ssd.training.checkpoints import load_state
from tests.training.runs import CHECKOUT, TINY

# A worker: the training command, with a process that kills itself in the first of its lives.
WORKER = """
import os, signal, sys
from ssd.commands import train
from ssd.training import loss_monitor
real = loss_monitor.LossMonitor.add
def add(self, step, lr, parts, *rest):
    life, rank = os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]
    if (life, rank, step) == ("0", os.environ.get("VICTIM"), 5):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, step, lr, parts, *rest)
loss_monitor.LossMonitor.add = add
sys.exit(train.main())
"""
RUN = (*TINY, "output=runs", "name=tiny", "--quiet", "--resume", "auto")

pytestmark = pytest.mark.slow


def start(folder: Path, port: int, machine: int, *, restarts: int = 0, victim: str = "") -> "subprocess.Popen[str]":
    """The agent of one machine; ranks follow the order of the addresses."""
    folder = folder / f"machine{machine}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "worker.py").write_text(WORKER)
    options = ["--nnodes=2", "--nproc-per-node=1", f"--max-restarts={restarts}", "--rdzv-backend=c10d"]
    options += ["--rdzv-id=7", f"--rdzv-endpoint=127.0.0.1:{port}", f"--local-addr=127.0.0.{machine}"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "worker.py", *RUN]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "VICTIM": victim}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )


def train(folder: Path, **options: object) -> list[str]:
    """Both machines train to the end; what each of them wrote to stderr."""
    port = free_port()
    agents = [start(folder, port, machine, **options) for machine in (1, 2)]  # type: ignore[arg-type]
    said = [agent.communicate(timeout=170)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], "\n".join(said)
    return said


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def ending(folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of each step and the last network of a run."""
    run = folder / "machine1" / "runs" / "tiny"
    state = load_state(max(run.glob("state-*.pt")))
    return [row["loss"] for row in read_rows(run / "train.jsonl")], state["network"]


def test_machines_without_a_shared_disk_go_on_where_they_were(tmp_path: Path) -> None:
    """Only the first machine has the states: the second one gets them from it, and both end as if nothing happened."""
    train(tmp_path / "calm")
    calm = ending(tmp_path / "calm")
    for victim in ("0", "1"):
        folder = tmp_path / f"victim{victim}"
        said = train(folder, restarts=3, victim=victim)
        assert "resuming after step 3" in said[0]
        assert not (folder / "machine2" / "runs").exists()
        losses, network = ending(folder)
        assert losses == calm[0]
        assert all(torch.equal(network[name], calm[1][name]) for name in calm[1])


def test_a_machine_that_is_lost_is_waited_for_by_starting_all_again(tmp_path: Path) -> None:
    """The whole second machine dies, agent and worker; the same command on both goes on."""
    port = free_port()
    first, second = (start(tmp_path, port, machine, victim="1") for machine in (1, 2))
    second.communicate(timeout=170)
    assert second.returncode != 0
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=170)
    assert "resuming after step 3" in train(tmp_path)[0]
    assert [row["step"] for row in read_rows(tmp_path / "machine1" / "runs" / "tiny" / "train.jsonl")] == [
        *range(1, 10)
    ]


def test_a_run_does_not_start_afresh_beside_its_states(tmp_path: Path) -> None:
    """The machines changed places: the first one has no states, the second one has."""
    train(tmp_path)
    (tmp_path / "machine1").rename(tmp_path / "aside")
    (tmp_path / "machine2").rename(tmp_path / "machine1")
    (tmp_path / "aside").rename(tmp_path / "machine2")
    port = free_port()
    agents = [start(tmp_path, port, machine) for machine in (1, 2)]
    said = "".join(agent.communicate(timeout=170)[1] for agent in agents)
    assert [agent.returncode for agent in agents] != [0, 0]
    assert f"rank 1 ({socket.gethostname()}) has states of this run, but rank 0 has none" in said
