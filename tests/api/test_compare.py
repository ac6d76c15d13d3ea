import json
from pathlib import Path

import pytest

import ssd
from ssd.commands.compare import main
from ssd.errors import ArgumentError
from tests.commands.test_eval import SHAPES, make_run

NAMES = ("circle", "square", "triangle")


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return make_run(tmp_path / "runs" / "a", NAMES, SHAPES), make_run(tmp_path / "runs" / "b", NAMES, SHAPES)


def test_the_figures_are_those_of_two_evaluations(runs: tuple[Path, Path]) -> None:
    result = ssd.compare(*runs, resamples=100)
    for one, run in (("a", runs[0]), ("b", runs[1])):
        estimate = getattr(result.comparison.overall["AP"], one)
        assert estimate.value == pytest.approx(ssd.evaluate(run).metrics["AP"], abs=1e-12)
    assert result.verdict == "cannot be told"
    assert repr(result).startswith("<ComparisonResult: It cannot be told")


def test_a_report_that_is_there_is_replaced_with_force_alone(runs: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    result = ssd.compare(*runs, resamples=100)
    with pytest.raises(ArgumentError, match="is there already"):
        result.write_report(page)
    result.write_report(page, force=True)
    assert page.read_text().startswith("<!DOCTYPE html>")
    ssd.compare(*runs, resamples=100, report=page, force=True)


def test_the_data_is_that_of_the_first_unless_it_is_named(runs: tuple[Path, Path]) -> None:
    detector = ssd.load(runs[1])
    result = ssd.compare(runs[0], detector, metric="voc", resamples=100, split="val")
    assert result.comparison.headline == "AP"
    assert set(result.comparison.overall) == {"AP", "AP07"}
    assert result.b.evaluation.images == 6


def test_images_that_one_was_trained_on_are_named(tmp_path: Path, bccd: Path) -> None:
    config = {"name": "x", "data": {"folder": str(bccd), "train": "test", "val": "first5", "bad_objects": "drop"}}
    run = make_run(tmp_path / "b", ("RBC", "WBC"), config)
    other = make_run(tmp_path / "a", ("RBC", "WBC"), config | {"data": config["data"] | {"train": "train"}})
    result = ssd.compare(other, run, overrides={"data.val": "test"}, resamples=100)
    assert "B was trained on 72 of the 72 images, so its figures are too good" in result.warnings
    assert not any(line.startswith("A was") for line in result.warnings)
    assert "A does not know Platelets: their AP is 0" in result.warnings


def test_the_command_prints_writes_and_replaces_nothing(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, page = tmp_path / "new" / "compare.json", tmp_path / "new" / "compare.html"
    named = ["--output", str(figures), "--report", str(page), "--resamples", "100", "--quiet"]
    assert main([*map(str, runs), *named]) == 0
    printed = capsys.readouterr().out
    assert "It cannot be told which is better" in printed
    assert f"report: {page}" in printed
    facts = json.loads(figures.read_text())
    assert (facts["verdict"], facts["images"], facts["a"]) == ("cannot be told", 6, str(runs[0]))
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert main([*map(str, runs), *named]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"resamples": 5}, "resamples: 5 is too small"),
        ({"report": "x.json"}, "not an .html file"),
    ],
)
def test_a_wrong_argument_is_named(runs: tuple[Path, Path], options: dict[str, object], problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        ssd.compare(*runs, **options)
