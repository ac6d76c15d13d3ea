"""Whatever is given to the readers, they answer or raise an error of ours: no other exception, no crash, no hang."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.nursery import Nursery
from tests.reliability.targets import TARGETS

EVERYTHING = [*TARGETS, "arrays"]
CHECKOUT = Path(__file__).parents[2]


def fuzz(*words: str, timeout: float, module: str = "fuzz") -> list[dict[str, Any]]:
    """Run the fuzzer in a process that may crash; its counts."""
    command = [sys.executable, "-m", f"tests.reliability.{module}", *words]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    print(done.stdout)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_changed_inputs_are_read_or_refused_in_our_words(nursery: Nursery) -> None:
    (ended,) = nursery.execute(
        "import sys; sys.argv = ['fuzz', '--examples', '40']; from tests.reliability.fuzz import main; main()"
    )
    assert ended.code == 0, ended.err[-6000:]
    rows = {row["target"]: row for row in map(json.loads, ended.out.splitlines())}
    assert list(rows) == EVERYTHING
    for row in rows.values():
        assert row["inputs"] >= 40
        assert row["accepted"] > 0, row
        assert set(row) - {"target", "inputs", "cpu_seconds", "accepted"}, "nothing was refused"


@pytest.mark.slow
@pytest.mark.parametrize("target", EVERYTHING)
def test_ten_thousand_changed_inputs_are_read_or_refused_in_our_words(target: str) -> None:
    (row,) = fuzz(target, "--examples", "10000", timeout=500)
    assert row["inputs"] >= 10_000


@pytest.mark.slow
@pytest.mark.parametrize("target", ["voc_xml", "coco_json", "yolo_text", "config_yaml", "picture"])
def test_inputs_that_look_for_new_lines_of_the_readers_are_answered_too(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # libFuzzer ends the process without tidying up
    pytest.importorskip("atheris", reason="the guided fuzzer atheris is not installed")
    rows = fuzz(target, "--seconds", "8", timeout=120, module="fuzz_guided")
    assert rows[-1]["inputs"] >= 50
