"""A run is shrunk: the choice, the training, the comparison. Times are given, not measured."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import ssd
from ssd.benchmark.largest_in_time import Entrant, Timed, choose
from ssd.benchmark.latency import rounds_in_turns
from ssd.benchmark.smaller_networks import Candidate
from ssd.commands.train import main
from ssd.errors import ArgumentError, CheckpointError
from ssd.experiment import config_file as configs
from ssd.inference.detector import Detector
from ssd.model.factory import from_settings, settings_for
from ssd.weights.native import save_weights
from tests.benchmark.given_times import GivenClock, GivenTimes
from tests.training.runs import TINY

CLASSES = ("circle", "square", "star", "triangle")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose detector takes 80 ms; others take one for each pixel of their side less 20, trained less 16."""
    clock = GivenClock()

    def untrained(one: Candidate, *_: object, **__: object) -> GivenTimes:
        return GivenTimes(clock, [one.settings.network.input_size - 20.0])

    def chosen(entrants: Sequence[Entrant], *args: Any, **options: Any) -> tuple[Timed, ...]:
        itself = dataclasses.replace(entrants[0], open=lambda: GivenTimes(clock, [80.0]))
        return choose([itself, *entrants[1:]], *args, **{**options, "load": None}, clock=clock)

    def trained(detectors: Sequence[Detector], images: Any) -> list[tuple[float, ...]]:
        small, large = (one.settings.network.input_size for one in detectors)
        assert large == 80
        given = [GivenTimes(clock, [small - 16.0]), GivenTimes(clock, [78.0])]
        return rounds_in_turns(given, images, clock=clock)

    monkeypatch.setattr("ssd.api.shrink_choice.opened", untrained)
    monkeypatch.setattr("ssd.api.shrink_choice.choose", chosen)
    monkeypatch.setattr("ssd.api.shrink.rounds_in_turns", trained)
    folder = tmp_path / "big"
    folder.mkdir()
    settings = settings_for(CLASSES, input_size=80, backbone="vgg16_bn", width=0.05, extras_norm="batch", table="fine")
    save_weights(folder / "best.safetensors", from_settings(settings).state_dict(), settings, extra={})
    config = configs.load(None, [*TINY, "name=big", "train.epochs=1", "train.eval_every=1"])
    (folder / "config.yaml").write_text(configs.to_yaml(config))
    return folder


def test_a_smaller_network_is_trained_from_the_run_and_compared_with_it(run: Path) -> None:
    result = ssd.shrink(run, 70)
    small = run.with_name("big-70ms")
    assert result.weights == small / "best.safetensors"
    assert (round(result.p95), round(result.run_p95), result.fits) == (64, 78, True)
    assert [(one.input_size, round(one.p95)) for one in result.timed] == [(80, 80), (80, 60)]
    config = configs.load(small / "config.yaml")
    assert (config.model.width, config.model.weights) == (0.0375, None)  # narrower, so it learns from scratch
    assert result.comparison is not None
    assert result.comparison.a.evaluation.images == 4
    text = result.to_text()
    assert "/big, p95 78.0 ms (80.0 before training)" in text
    assert "p95 64.0 ms after training, within 70 ms" in text
    assert "It cannot be told which is better: AP" in text
    assert json.loads((small / "shrink.json").read_text())["result"]["p95"] == result.p95


def test_the_same_call_goes_on_with_what_was_chosen_and_the_run_resumes_by_itself(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ssd.shrink(run, 70)
    log = (run.with_name("big-70ms") / "train.jsonl").read_text()
    assert main(["--resume", str(run.with_name("big-70ms")), "--quiet"]) == 0
    monkeypatch.setattr("ssd.api.shrink_choice.opened", None)  # nothing is timed again
    again = ssd.shrink(run, 70)
    assert again.timed == first.timed
    assert (run.with_name("big-70ms") / "train.jsonl").read_text() == log
    with pytest.raises(ArgumentError, match=r"big-70ms: holds something else\. .*--name NAME"):
        ssd.shrink(run, 70, overrides={"train.epochs": 2})
    with pytest.raises(ArgumentError, match="holds something else"):
        ssd.shrink(run, 70, name="big")


def test_a_run_that_is_fast_enough_is_left_as_it_is(run: Path) -> None:
    result = ssd.shrink(run, 80.1)
    assert (result.weights, result.comparison) == (run / "best.safetensors", None)
    assert "is within 80.1 ms as it is: nothing was trained" in result.to_text()
    assert [path.name for path in run.parent.iterdir()] == ["big"]


def test_a_run_may_be_the_current_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert ssd.shrink(".", 70).weights.parent == run.with_name("big-70ms")


def test_what_cannot_be_shrunk_is_said_on_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(run)
    wrong = {
        "--shrink and --ms go together": ["--shrink", folder],
        "--data: does not go with --shrink": ["--shrink", folder, "--ms", "70", "--data", "x"],
        "--force: does not go with --shrink": ["--shrink", folder, "--ms", "70", "--force"],
        "demo: a config file does not go": ["demo", "--shrink", folder, "--ms", "70"],
        "nan is no time": ["--shrink", folder, "--ms", "nan"],
        "there is no config.yaml": ["--shrink", folder + "x", "--ms", "70"],
        "the fastest is vgg16_bn, width 0.05 at 64 pixels in fp32, with 44.0 ms. Use 53 or more.": [
            "--shrink",
            folder,
            "--ms",
            "9",
        ],
    }
    for message, words in wrong.items():
        assert main(words) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert message in error
    (run / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no weights yet\. Train it: ssd train --resume"):
        ssd.shrink(run, 70)


def test_the_command_prints_what_was_timed_and_what_it_costs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--shrink", str(run), "--ms", "46", "--name", "small", "train.log_every=2", "--quiet"]
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    table = next(place for place, line in enumerate(printed) if line.startswith("network "))
    columns = "network input precision multiply-adds p95 rounds within 46 ms"
    assert printed[table].split() == columns.split()
    assert [line.split()[-1] for line in printed[table + 1 : -4]][-1] == "yes"
    assert "p95 48.0 ms after training, NOT within 46 ms: a lower --ms gives a smaller network" in printed[-2]
    config = configs.load(run.with_name("small") / "config.yaml")
    assert (config.train.log_every, config.model.weights) == (2, str(run / "best.safetensors"))


def test_in_8_bits_the_runs_own_network_is_exported_and_not_trained(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd.api.shrink.load_extra", lambda *_: None)
    exported = []
    monkeypatch.setattr("ssd.api.shrink._in_8_bits", lambda weights, *_: exported.append(weights) or weights)
    ssd.shrink(run, 70, int8=True)
    assert exported == [run / "best.safetensors"]
    assert not (run.with_name("big-70ms") / "train.jsonl").exists()
