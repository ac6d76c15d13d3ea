"""Gives changed inputs to the readers, as a program of its own: without the checks that tests put into signatures.

`python -m tests.reliability.fuzz TARGET ... --examples N` prints a line of JSON for each target: how often it was
accepted, and how often refused with which error. The first input that is answered otherwise, or takes more than 2 s of
CPU time or 1 GB of memory, ends it with a traceback, a crash with the signal's own exit code.
"""

import argparse
import contextlib
import faulthandler
import json
import logging
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ssd.errors import SSDError
from ssd.images.any_image import as_image
from tests.reliability.mutation import KINDS, edits, mutate
from tests.reliability.targets import TARGETS, fresh

SECONDS = 2.0  # of CPU time for one input; what waits for ever meets the caller's limit
MEMORY = 10**9  # bytes of address space for all inputs together, beyond what the program has before the first
QUIET: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

IMAGES = arrays.arrays(
    st.sampled_from(["u1", "u1", "f4"]),
    st.one_of(st.tuples(*[st.integers(1, 6)] * 2), st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5))),
)
DTYPES = st.sampled_from(["u1", "i1", "u2", "i4", "f2", "f4", "f8", "?", "c8", "S3", "U2", "M8[s]", "O"])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ZEROS = st.tuples(DTYPES, SHAPES).map(lambda pair: np.zeros(pair[1], pair[0]))
OBJECTS = st.one_of(
    *(st.none(), st.integers(), st.floats(), st.binary(max_size=40), st.text(max_size=12), st.lists(st.integers()))
)


def answer(call: Any, data: Any, seen: "Counter[str]") -> None:
    """Give one input, and count how it was answered; anything but a result or an error of ours passes through."""
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        call(data)
    except SSDError as error:
        seen[type(error).__name__] += 1
        if not str(error).strip():
            raise
    else:
        seen["accepted"] += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert time.process_time() - start < SECONDS


def limit() -> None:
    """Let an input that takes too long fail where it is, and memory beyond the limit be a MemoryError."""

    def stop(*_: object) -> None:
        raise AssertionError(f"more than {SECONDS} s of CPU time for one input")

    signal.signal(signal.SIGPROF, stop)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))


def fuzz_files(target: str, folder: Path, wanted: int) -> "Counter[str]":
    """Give changed seeds to a target: up to a thousand from hypothesis, which shrinks what fails, the rest drawn."""
    seeds, call = fresh(target, folder)
    with contextlib.suppress(SSDError):
        call(seeds[0])  # imports what it needs; that is no input's time
    limit()
    examples = min(wanted, 1000)
    seen: Counter[str] = Counter()

    @settings(max_examples=examples, derandomize=examples < 1000, **QUIET)
    @given(st.sampled_from(seeds), edits)
    def run(seed: bytes, changes: Any) -> None:
        answer(call, mutate(seed, changes), seen)

    for seed in seeds:
        answer(call, seed, seen)
    run()
    draw = random.Random(target)
    for number in range(examples, wanted):
        seed = draw.choice(seeds)
        changes = [(draw.choice(KINDS), draw.randrange(65536), draw.randrange(256)) for _ in range(draw.randint(1, 5))]
        try:
            answer(call, mutate(seed, changes), seen)
        except BaseException:
            print(f"input {number} of {target}: mutate({seed!r}, {changes!r})", file=sys.stderr)
            raise
    return seen


def fuzz_arrays(examples: int) -> "Counter[str]":
    """Give arrays and other things to `detect`'s first step."""
    seen: Counter[str] = Counter()

    def call(thing: object) -> None:
        with contextlib.suppress(SSDError):
            assert as_image(thing, depth="percentile").dtype == np.uint8
        image = as_image(thing)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3

    limit()

    @settings(max_examples=examples, derandomize=examples < 1000, **QUIET)
    @given(st.one_of(IMAGES, ZEROS, OBJECTS))
    def run(thing: object) -> None:
        answer(call, thing, seen)

    run()
    return seen


def main() -> None:
    """Fuzz the targets named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", default=[*TARGETS, "arrays"])
    parser.add_argument("--examples", type=int, default=1000)
    args = parser.parse_args()
    faulthandler.enable()
    logging.disable()
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        for target in args.targets:
            start = time.process_time()
            seen = fuzz_arrays(args.examples) if target == "arrays" else fuzz_files(target, Path(folder), args.examples)
            seconds = round(time.process_time() - start, 1)
            print(
                json.dumps({"target": target, "inputs": sum(seen.values()), "cpu_seconds": seconds, **seen}), flush=True
            )


if __name__ == "__main__":
    main()
