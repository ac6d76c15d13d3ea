import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssd.benchmark import fixtures, stages, timing
from ssd.benchmark.fixtures import Fixtures
from ssd.benchmark.stage_names import STAGES
from ssd.benchmark.timing import Comparison, DisagreementError, UnavailableError, clock
from ssd.benchmark.worker import Workers
from ssd.commands.benchmark import main

CPU = torch.device("cpu")


@pytest.fixture
def made_up(monkeypatch):
    """A benchmark of three stages that take no time: one agrees, one does not, one cannot run."""

    def differ():
        raise DisagreementError("1 and 2")

    def missing(_):
        raise UnavailableError("no such thing here")

    monkeypatch.setattr(timing, "_LEAST_SECONDS", 0)
    monkeypatch.setitem(stages.COMPARISONS, "decode", lambda _: Comparison(str, str, lambda: "equal"))
    monkeypatch.setitem(stages.COMPARISONS, "network", lambda _: Comparison(pytest.fail, pytest.fail, differ))
    monkeypatch.setitem(stages.COMPARISONS, "coco_eval", missing)
    fake = Fixtures(CPU, b"", Path())
    monkeypatch.setattr(fixtures, "prepared", lambda device, image, compiled: contextlib.nullcontext(fake))
    monkeypatch.setattr(Workers, "prepare", lambda self, stage: (clock(str, CPU), clock(str, CPU)))


def test_json_holds_stages_skipped_failed_memory_and_machine(made_up, tmp_path, capsys):
    path = tmp_path / "benchmark.json"
    assert main(["--only", "decode", "coco_eval", "--pairs", "4", "--json", str(path)]) == 0
    facts = json.loads(path.read_text())
    assert set(facts) == {"machine", "stages", "skipped", "failed", "memory"}
    assert [(stage["name"], stage["pairs"]) for stage in facts["stages"]] == [("decode", 4)]
    assert facts["skipped"] == [{"name": "coco_eval", "reason": "no such thing here"}]
    assert "skipped: no such thing here" in capsys.readouterr().out


def test_sides_that_disagree_are_not_timed_and_fail_the_run(made_up, capsys):
    assert main(["--only", "network", "decode", "--quick"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "network               FAILED, not timed: 1 and 2" in lines
    assert next(line for line in lines if line.startswith("decode")).split()[5] == "3"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--pairs", "0"], "--pairs"),
        (["--json", "{folder}/no/such.json"], "such.json"),
        (["--image", "{folder}/none.jpg"], "none.jpg"),
        (["--image", "{folder}/text.jpg"], "is not a JPEG"),
        (["--device", "toaster"], "toaster"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, capsys, words, text):
    (tmp_path / "text.jpg").write_text("hello")
    assert main(["--quick", *(word.format(folder=tmp_path) for word in words)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert text in message
    assert message.count("\n") == 1


def test_an_unknown_stage_is_exit_code_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "everything"])
    assert "'everything'" in capsys.readouterr().err


def test_help_names_every_stage_and_does_not_load_torch():
    code = (
        "import sys; from ssd.commands.benchmark import parser; print(parser().format_help());"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert all(name in done.stdout for name in (*STAGES, "memory"))
