import json
from pathlib import Path

import pytest

from ssd.commands.main import main
from tests.commands.test_eval import SHAPES, make_run

NAMES = ("circle", "square", "triangle")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "small", NAMES, SHAPES)


def test_a_run_is_explained_on_its_own_validation_set(run: Path, tmp_path: Path, capsys) -> None:
    assert main(["why", str(run), "--quiet", "--show", "2", "--report", str(tmp_path / "page.html")]) == 0
    printed = capsys.readouterr().out
    assert "unknown class" in printed  # stars
    assert "AP50 of these detections" in printed
    assert "... and" in printed
    assert (tmp_path / "page.html").is_file()


def test_everything_is_printed_as_json(run: Path, capsys) -> None:
    assert main(["why", str(run), "--quiet", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["objects"] == facts["found"] + len(facts["missed"])
    assert sum(row["objects"] for row in facts["causes"]) == len(facts["missed"])
