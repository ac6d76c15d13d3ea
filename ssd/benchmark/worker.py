"""A process for one side of all comparisons, so that neither side disturbs the other.

`python -m ssd.benchmark.worker JSON` answers line by line: `stage NAME` prepares a stage (null), `time N` calls it N
times (seconds).
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import torch

from ssd.benchmark.fixtures import Fixtures, Sizes
from ssd.benchmark.stages import COMPARISONS
from ssd.benchmark.timing import Clock, clock
from ssd.errors import SSDError
from ssd.system.malloc import keep_freed_memory


class Workers:
    """The processes of this package and of torchvision, new ones for every stage.

    Whether the C library keeps large blocks or returns them depends on what a process has freed before: after other
    stages torchvision's network had 44,000 page faults a call, or none, which is a seventh of its time.
    In training stages this package's process keeps freed memory, as `ssd train` does; torchvision's does so only with
    `same_allocator`.
    """

    def __init__(self, fixtures: Fixtures, *, same_allocator: bool = False) -> None:
        self._fixtures, self._same_allocator = fixtures, same_allocator
        self._workers: list[Worker] = []

    def __enter__(self) -> "Workers":
        return self

    def prepare(self, stage: str) -> tuple[Clock, Clock]:
        """Prepare a stage in both; returns the clocks of ours and theirs."""
        self._close()
        self._workers.append(Worker("ours", self._fixtures, keep_memory=True))
        self._workers.append(Worker("theirs", self._fixtures, keep_memory=self._same_allocator))
        ours, theirs = (side.prepare(stage) for side in self._workers)
        return ours, theirs

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        while self._workers:
            self._workers.pop(0).close()


class Worker:
    """The process of `ours` or `theirs`, which runs until `close`."""

    def __init__(self, name: str, fixtures: Fixtures, *, keep_memory: bool) -> None:
        self.name = name
        self._jpeg = fixtures.weights.with_name(f"{name}.jpg")
        self._jpeg.write_bytes(fixtures.jpeg)
        facts = {
            "side": name,
            "device": str(fixtures.device),
            "jpeg": str(self._jpeg),
            "weights": str(fixtures.weights),
            "sizes": dataclasses.asdict(fixtures.sizes),
            "compiled": fixtures.compiled,
            "keep_memory": keep_memory,
            "threads": torch.get_num_threads(),
        }
        words = [sys.executable, "-m", "ssd.benchmark.worker", json.dumps(facts)]
        here = Path(__file__).resolve().parents[2]  # for a checkout that is not installed
        self._errors = fixtures.weights.with_name(f"{name}.log").open("w+")
        self._process = subprocess.Popen(
            words, cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def prepare(self, stage: str) -> Clock:
        """Prepare a stage in place of the previous one; returns its clock."""
        self._ask(f"stage {stage}")
        return lambda repeats: float(self._ask(f"time {repeats}"))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _ask(self, question: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(question, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no message"])[-1]
            raise SSDError(f"its process ended with {code}: {last}", place=f"benchmark, {self.name}, {question}")
        return json.loads(answer)


def main(text: str) -> None:
    """Answer until the input ends."""
    # The output of libraries must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    facts = json.loads(text)
    torch.set_num_threads(facts["threads"])
    fixtures = Fixtures(
        torch.device(facts["device"]),
        Path(facts["jpeg"]).read_bytes(),
        Path(facts["weights"]),
        Sizes(**facts["sizes"]),
        facts["compiled"],
    )
    _answer(fixtures, facts["side"], facts["keep_memory"], answers)


def _answer(fixtures: Fixtures, side: str, keep_memory: bool, answers: TextIO) -> None:
    ready: Clock | None = None
    for line in sys.stdin:
        word, what = line.split()
        answer = None
        if word == "stage":
            ready = None  # frees its networks before the next ones are built
            comparison = COMPARISONS[what](fixtures)
            if keep_memory and comparison.training:
                keep_freed_memory()
            call = comparison.ours if side == "ours" else comparison.theirs
            ready = clock(call, fixtures.device, one_core=comparison.one_core)
            del comparison, call
        else:
            assert ready is not None, "a stage comes first"
            answer = ready(int(what))
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
