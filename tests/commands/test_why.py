import json
import shlex
from pathlib import Path

import pytest

import ssd
from ssd.commands.main import main
from ssd.data.shapes.dataset import shapes
from ssd.errors import ArgumentError
from ssd.evaluation.causes.explain import Cause
from tests.audit.made import good, voc_splits
from tests.commands.test_eval import SHAPES, make_run
from tests.data.made import xml, xml_object

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


def test_remedies_can_be_typed_with_the_names_of_the_weights_and_the_data(tmp_path: Path) -> None:
    data = voc_splits(tmp_path / "my images", train={"a": good()}, val={"b": xml(xml_object(), xml_object("circle"))})
    run = make_run(tmp_path / "my runs" / "small", NAMES)
    result = ssd.why(run, data)
    remedy = next(row.remedy for row in result.causes if row.cause is Cause.UNKNOWN_CLASS)
    assert shlex.split(remedy) == ["ssd", "train", "--data", str(data), f"model.weights={run}"]


@pytest.mark.parametrize("name", ["coco", "ssdlite", "hf://me/cells"])
def test_remedies_name_weights_that_are_no_files_here(name: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ssd.load(run)
    monkeypatch.setattr("ssd.api.evaluation_data.load", lambda *_, **__: small)
    result = ssd.why(name, shapes("val", count=6, size=64))
    remedy = next(row.remedy for row in result.causes if row.cause is Cause.UNKNOWN_CLASS)
    assert remedy == f"ssd train --data FOLDER model.weights={name}"


def test_a_report_that_is_there_is_replaced_with_force_alone(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    result = ssd.why(run)
    with pytest.raises(ArgumentError, match="is there already"):
        result.write_report(page)
    result.write_report(page, force=True)
    assert page.read_text().startswith("<!DOCTYPE html>")
    ssd.why(run, report=page, force=True)
