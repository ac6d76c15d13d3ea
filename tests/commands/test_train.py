"""Which config `ssd train` trains with."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from ssd.commands.train import load_config, main
from ssd.errors import CheckpointError, ConfigError
from ssd.experiment.config import Config
from ssd.experiment.config_file import builtin, load
from ssd.report.run_log import read_rows
from ssd.training.page import PAGE
from ssd.training.run_folder import RunFolder
from ssd.training.trainer import Outcome

STOPPED = Path(__file__).parents[1] / "earlier_versions" / "files" / "stopped"


def test_alone_it_is_the_demo_and_with_data_the_defaults() -> None:
    assert load_config([]) == load(builtin("demo"))
    # Where nothing is said of weights, what is on the machine may replace ImageNet's.
    default = dataclasses.replace(Config().model, backbone_weights="auto")
    assert load_config([], data="my_images").model == default
    assert load_config(["data.folder=my_images"]) == load_config([], data="my_images")


@pytest.mark.parametrize("words", [["demo"], ["data.format=shapes"]])
def test_shapes_are_not_drawn_in_place_of_the_images_of_a_folder(words: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"my_images: data\.format=shapes, as in the demo, .*Set data\.format=auto"):
        load_config(words, data="my_images")
    with pytest.raises(ConfigError, match="my_images: data"):
        load_config([*words, "data.folder=my_images"])


@pytest.mark.parametrize("resume", [STOPPED, STOPPED / "state-00000005.pt"])
def test_a_run_is_resumed_with_its_own_config(resume: Path) -> None:
    config = load_config(["train.epochs=9"], resume=str(resume))
    assert (config.name, config.model.input_size, config.train.epochs) == ("stopped", 64, 9)
    assert load_config([str(builtin("demo"))], resume=str(resume)).name == "demo"


def test_auto_looks_for_a_run_of_the_named_config() -> None:
    assert load_config([], resume="auto") == load(builtin("demo"))
    assert load_config([], data="my_images", resume="auto").name == Config().name


def test_what_cannot_be_resumed_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing: no such run or state"):
        load_config([], resume=str(tmp_path / "missing"))
    with pytest.raises(CheckpointError, match=r"is no run: it holds no state\. Name a folder of a run"):
        load_config([], resume=str(tmp_path))
    (tmp_path / "state-00000001.pt").touch()
    with pytest.raises(CheckpointError, match=r"no config\.yaml of the run\. Name the config file"):
        load_config([], resume=str(tmp_path))


def test_the_command_that_a_stopped_run_prints_goes_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(STOPPED, tmp_path / "runs" / "stopped")
    monkeypatch.chdir(tmp_path)
    assert main(["--resume", "runs/stopped", "--quiet"]) == 0
    assert [row["step"] for row in read_rows(Path("runs/stopped/train.jsonl"))] == list(range(1, 10))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["stopped"]


@pytest.mark.parametrize(("rank", "lines"), [("0", 3), ("1", 0)])
def test_one_process_names_the_files_for_all(
    rank: str, lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(STOPPED, tmp_path / "stopped")
    (tmp_path / "stopped" / PAGE).touch()
    outcome = Outcome(RunFolder(tmp_path / "stopped"), None, steps=9)
    monkeypatch.setattr("ssd.training.trainer.train", lambda *_, **__: outcome)
    monkeypatch.setenv("RANK", rank)
    assert main(["--resume", str(tmp_path / "stopped"), "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == lines


def test_a_key_without_a_value_and_two_files_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'train\.epochs' has no value"):
        load_config(["train.epochs", "=", "3"])
    with pytest.raises(ConfigError, match="more than one config file"):
        load_config(["a.yaml", "b.yaml"])


def test_images_are_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The last of several folders was taken without a word."""
    with pytest.raises(ConfigError, match=r"--data a and data\.folder= both name the images\. Drop one\."):
        load_config(["data.folder=b"], data="a")
    with pytest.raises(SystemExit):
        main(["--data", "a", "--data", "b"])
    error = capsys.readouterr().err
    assert "--data is given twice; several folders are named by the key data.folders" in error
