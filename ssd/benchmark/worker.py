"""One side of all contests in a process of its own: as its users run it, and undisturbed by the other.

`python -m ssd.benchmark.worker JSON` answers line by line: `stage NAME` makes a stage ready (null), `time N`
calls it N times (seconds).
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import torch

from ssd.benchmark.fixtures import Bench, Sizes
from ssd.benchmark.stages import CONTESTS
from ssd.benchmark.timing import Clock, clock
from ssd.errors import SSDError
from ssd.system.malloc import keep_freed_memory


class Sides:
    """Both processes; they start when the first stage needs them.

    In stages of training ours keeps freed memory, as `ssd train` does, and torchvision's does not, since nothing of it
    would; unless `same_allocator` says that it shall.
    """

    def __init__(self, bench: Bench, *, same_allocator: bool = False) -> None:
        self._bench, self._same_allocator = bench, same_allocator
        self._sides: list[Side] = []

    def __enter__(self) -> "Sides":
        return self

    def prepare(self, stage: str) -> tuple[Clock, Clock]:
        """Make both ready; gives what times ours and theirs."""
        if not self._sides:
            self._sides.append(Side("ours", self._bench, keep_memory=True))
            self._sides.append(Side("theirs", self._bench, keep_memory=self._same_allocator))
        ours, theirs = (side.prepare(stage) for side in self._sides)
        return ours, theirs

    def __exit__(self, *_: object) -> None:
        for side in self._sides:
            side.close()


class Side:
    """The process of one side, `ours` or `theirs`; it lives until `close`."""

    def __init__(self, name: str, bench: Bench, *, keep_memory: bool) -> None:
        self.name = name
        self._jpeg = bench.weights.with_name(f"{name}.jpg")
        self._jpeg.write_bytes(bench.jpeg)
        facts = {
            "side": name,
            "device": str(bench.device),
            "jpeg": str(self._jpeg),
            "weights": str(bench.weights),
            "sizes": dataclasses.asdict(bench.sizes),
            "compiled": bench.compiled,
            "keep_memory": keep_memory,
            "threads": torch.get_num_threads(),
        }
        words = [sys.executable, "-m", "ssd.benchmark.worker", json.dumps(facts)]
        here = Path(__file__).resolve().parents[2]  # a checkout need not be installed
        self._errors = bench.weights.with_name(f"{name}.log").open("w+")
        self._process = subprocess.Popen(
            words, cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def prepare(self, stage: str) -> Clock:
        """Make a stage ready, in place of the one before; gives what times it."""
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
    """Answer until the questions end."""
    # Libraries may print; what they print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    facts = json.loads(text)
    torch.set_num_threads(facts["threads"])
    bench = Bench(
        torch.device(facts["device"]),
        Path(facts["jpeg"]).read_bytes(),
        Path(facts["weights"]),
        Sizes(**facts["sizes"]),
        facts["compiled"],
    )
    _answer(bench, facts["side"], facts["keep_memory"], answers)


def _answer(bench: Bench, side: str, keep_memory: bool, answers: TextIO) -> None:
    ready: Clock | None = None
    for line in sys.stdin:
        word, what = line.split()
        answer = None
        if word == "stage":
            ready = None  # its networks go before the next ones come
            contest = CONTESTS[what](bench)
            if keep_memory and contest.training:
                keep_freed_memory()
            call = contest.ours if side == "ours" else contest.theirs
            ready = clock(call, bench.device, one_core=contest.one_core)
            del contest, call
        else:
            assert ready is not None, "a stage comes first"
            answer = ready(int(what))
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
