import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssd.system import malloc

# Without `import ssd`, which takes PyTorch along: this is about the C library.
COUNT = """
import resource, runpy, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np

keep = runpy.run_path(sys.argv[1])["keep_freed_memory"]
kept = keep() if sys.argv[2] == "keep" else None

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(80 * 2**20, 1, np.uint8)  # freed at once, and more than glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def least():
    faults()
    return min(faults() for _ in range(3))

with ThreadPoolExecutor(1) as pool:
    print(kept, least(), pool.submit(least).result())
"""


def run(word: str) -> list[str]:
    words = [sys.executable, "-c", COUNT, str(Path(malloc.__file__)), word]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="the C library is not glibc")
def test_kept_memory_is_used_again_without_asking_the_system() -> None:
    assert int(run("leave")[1]) >= 20  # with huge pages a fault brings 2 MiB, else 4 KiB
    kept, faults, in_a_thread = run("keep")
    assert kept == "True"
    assert int(faults) < 20
    assert int(in_a_thread) < 20  # a heap of its own would have 64 MB at most


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.confstr_names", {})
    assert malloc.keep_freed_memory() is False


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("compare", ["missing.safetensors", "missing.safetensors"]),
        ("detect", ["missing.jpg"]),
        ("eval", ["missing.safetensors"]),
        ("review", ["missing"]),
        ("train", ["--data", "missing"]),
        ("train", ["--shrink", "missing", "--ms", "30"]),
        ("why", ["missing.safetensors"]),
    ],
)
def test_commands_that_train_or_compute_on_many_images_keep_freed_memory(command, words, monkeypatch, tmp_path) -> None:
    called = []
    monkeypatch.setattr("ssd.commands._shared.keep_freed_memory", lambda: called.append(command))
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(f"ssd.commands.{command}").main
    assert main(words) == 2  # a user's mistake
    assert called == [command]
