"""A run small enough for a test: a few shapes, a tiny network, seconds."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

CHECKOUT = Path(__file__).parents[2]

TINY = (
    "data.format=shapes",
    "data.shapes=[12, 4, 80]",
    "data.workers=0",
    "model.backbone=vgg16_bn",
    "model.backbone_weights=none",
    "model.width=0.05",
    "model.input_size=80",
    "model.extras_norm=batch",
    "train.batch_size=4",
    "train.epochs=3",
    "train.eval_every=3",
    "train.log_every=1",
    "train.precision=fp32",
    "train.device=cpu",
    "augment.photometric=true",
    "augment.expand=4",
    "augment.crop=0.3",
    "optim.warmup=2",
)


def train_command(folder: Path, *words: str, processes: int = 1) -> list[str]:
    """The command line of a tiny run into `folder`."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    script = str(CHECKOUT / "tools" / "train.py")
    return [*launcher, script, *TINY, f"output={folder}", "name=tiny", *words, "--quiet"]


def environment() -> dict[str, str]:
    """One thread a process, so that sums come out alike."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}


def run_training(folder: Path, *words: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = train_command(folder, *words, processes=processes)
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment(), check=False)


def assert_same(a: Any, b: Any) -> None:
    """Equal to the last bit, however deep."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b
