"""The check of a GPU runs on a CPU too, so that no minute on a GPU is lost to a mistake in the check itself."""

import json

import pytest
import torch

from ssd.benchmark.gpu.check import CHECK, SPEED
from ssd.benchmark.gpu.sections import Section, SkippedError, run_sections, table
from ssd.benchmark.gpu.setup import Setup
from ssd.commands.gpu_check import main


def test_every_section_runs_on_the_cpu(tmp_path, capsys):
    assert main(["--device", "cpu", "--tiny", "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "gpu_check.json").read_text())
    states = {section["name"]: section["state"] for section in written["sections"]}
    assert list(states) == [section.name for section in (*CHECK, *SPEED)]
    assert {name for name, state in states.items() if state != "ok"} == {"tests", "nvJPEG", "compiled"}
    assert "logits differ by" in capsys.readouterr().out


def test_a_failed_section_is_written_down_and_the_others_still_run(tmp_path):
    def fails(setup):
        raise AssertionError("the device is wrong")

    def skips(setup):
        raise SkippedError("nothing to do here")

    sections = [Section("a", 1.0, fails), Section("b", 1.0, skips), Section("c", 1.0, lambda setup: {"figure": 1.5})]
    lines: list[str] = []
    out = tmp_path / "gpu.json"
    found = run_sections(sections, Setup(torch.device("cpu"), tiny=True), deadline=0.0, out=out, say=lines.append)
    assert [outcome.state for outcome in found] == ["failed", "skipped", "ok"]
    assert "the device is wrong" in lines[0]
    assert [row["figures"] for row in json.loads(out.read_text())["sections"]] == [{}, {}, {"figure": 1.5}]
    assert "figure: 1.5" in table(found)


def test_a_section_that_does_not_fit_into_the_time_is_left_out(tmp_path):
    class Pretended(Setup):
        device = torch.device("cuda")

    never = Section("long", 100.0, lambda setup: pytest.fail("was run"))
    (outcome,) = run_sections([never], Pretended(torch.device("cuda")), deadline=0.0, out=tmp_path / "x", say=str)
    assert outcome.state == "no time"


def test_an_unknown_section_is_named_with_those_there_are(tmp_path, capsys):
    assert main(["--device", "cpu", "--tiny", "--only", "networks", "--out", str(tmp_path)]) == 2
    assert "no section 'networks'" in capsys.readouterr().err


def test_a_file_in_place_of_the_folder_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "file")]) == 2
    assert "file: cannot be written" in capsys.readouterr().err
