import contextlib
from pathlib import Path

import pytest
import torch

from ssd.benchmark.fixtures import Fixtures
from ssd.benchmark.timing import clock
from ssd.benchmark.worker import Worker, Workers
from ssd.errors import SSDError

CPU = torch.device("cpu")


def test_each_side_answers_from_a_process_of_its_own(small):
    with contextlib.closing(Worker("theirs", small, keep_memory=True)) as side:
        for stage in ("loss", "coco_eval"):
            if stage == "coco_eval":
                pytest.importorskip("faster_coco_eval", reason="needs the extra fast-eval")
            assert 0 < side.prepare(stage)(1) < 60
        with pytest.raises(SSDError, match=r"its process ended with 1: KeyError: .nothing."):
            side.prepare("nothing")


def test_torchvisions_process_keeps_no_memory_unless_told_to(monkeypatch):
    started = []
    monkeypatch.setattr(
        Worker, "__init__", lambda self, name, fixtures, keep_memory: started.append((name, keep_memory))
    )
    monkeypatch.setattr(Worker, "prepare", lambda self, stage: clock(str, CPU))
    monkeypatch.setattr(Worker, "close", lambda self: started.append("closed"))
    with Workers(Fixtures(CPU, b"", Path())) as workers:
        workers.prepare("loss")
        workers.prepare("train_step")
    assert started == [("ours", True), ("theirs", False), "closed", "closed"] * 2  # new ones for every stage
    with Workers(Fixtures(CPU, b"", Path()), same_allocator=True) as workers:
        workers.prepare("loss")
    assert started[8:10] == [("ours", True), ("theirs", True)]
