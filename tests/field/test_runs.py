"""Runs in strangers' hands: resumed, started twice, with damaged logs, from scripts, under odd names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import ssd
from ssd.commands import train as train_command
from ssd.commands.eval import main as evaluate
from ssd.errors import ArgumentError, CheckpointError, ConfigError
from ssd.experiment import config_file as configs
from ssd.report.run_log import read_rows
from ssd.training import announcements
from ssd.training.run_folder import new_run, newest_run, resumed_run
from ssd.training.run_lock import lock_folder
from ssd.weights.resolve import find_weights
from tests.reliability.nursery import Nursery
from tests.training.runs import TINY, environment

ROW = '{"step": %d, "epoch": %d, "loss": 1.5}\n'


def words(folder: Path, *more: str) -> list[str]:
    return [*TINY, f"output={folder}", "name=tiny", "train.epochs=1", "--quiet", *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run of one epoch."""
    folder = tmp_path_factory.mktemp("runs")
    assert train_command.main(words(folder)) == 0
    return folder


def copy_of(run: Path, folder: Path) -> Path:
    copy = folder / run.name
    copy.mkdir(parents=True)
    for path in run.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    return copy


# Going on


def test_a_run_is_resumed_by_its_path_alone_with_its_own_config(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(finished / "tiny", tmp_path)
    assert train_command.main(["--resume", str(run), "train.epochs=2", "--quiet"]) == 0
    assert [row["step"] for row in read_rows(run / "train.jsonl")] == [1, 2, 3, 4, 5, 6]
    config = configs.load(run / "config.yaml")
    assert (config.train.epochs, config.model.width, config.data.format) == (2, 0.05, "shapes")
    printed = capsys.readouterr().out
    assert f"weights: {run / 'best.safetensors'}" in printed
    state = max(run.glob("state-*.pt"))
    assert train_command.main(["--resume", str(state), "--quiet"]) == 0  # a state of it does as well


def test_a_config_that_is_named_wins_over_that_of_the_run(finished: Path, tmp_path: Path) -> None:
    run = finished / "tiny"
    other = tmp_path / "other.yaml"
    other.write_text("name: other\n")
    assert train_command.load_config([str(other)], None, None, str(run)).name == "other"
    assert train_command.load_config([], None, None, str(run)).name == "tiny"
    assert train_command.load_config(["data.format=auto"], "elsewhere", None, str(run)).data.folder == "elsewhere"
    assert train_command.load_config([], None, None, "auto").name != "tiny"


def test_a_path_that_is_no_run_is_named_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: no such run or state"):
        ssd.train(resume=tmp_path / "nowhere", output=tmp_path)
    assert list(tmp_path.iterdir()) == []


# One owner of a folder


def test_runs_of_one_name_that_start_together_get_two_folders(nursery: Nursery, tmp_path: Path) -> None:
    pids = [pid for _ in range(3) for pid in nursery.start("train", *words(tmp_path))]
    ended = nursery.wait(pids, 120)
    assert [run.code for run in ended] == [0, 0, 0], ended
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny", "tiny-2", "tiny-3"]
    for path in tmp_path.iterdir():
        assert [row["step"] for row in read_rows(path / "train.jsonl")] == [1, 2, 3]


def test_a_run_that_is_still_going_is_not_resumed(finished: Path, tmp_path: Path) -> None:
    run = copy_of(finished / "tiny", tmp_path)
    lock = lock_folder(run)
    assert lock is not None
    for resume in ("auto", str(run), str(max(run.glob("state-*.pt")))):
        with (
            pytest.raises(ArgumentError, match=rf"tiny: process {os.getpid()} is training in this folder"),
            resumed_run(tmp_path, "tiny", resume),
        ):
            pass
    lock.close()
    with resumed_run(tmp_path, "tiny", "auto") as folder:
        assert folder is not None
        assert folder.path == run
    assert not (run / ".lock").exists()


def test_a_new_run_takes_no_folder_that_anybody_uses(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with new_run(tmp_path, "empty") as first, new_run(tmp_path, "empty") as second:
        assert (first.path.name, second.path.name) == ("empty", "empty-2")
    for name in ("file", "full"):
        with new_run(tmp_path, name) as run:
            assert run.path.name == f"{name}-2"
    (tmp_path / "a[1]-2").mkdir()
    (tmp_path / "a[1]").mkdir()
    (tmp_path / "a[1]-2" / "config.yaml").write_text("name: a[1]\n")
    with resumed_run(tmp_path, "a[1]", "auto") as resumed:
        assert resumed is not None
        assert resumed.path.name == "a[1]-2"


# Damaged logs


@pytest.mark.parametrize(
    ("damage", "dropped"),
    [
        (b'\xff\xfe{"step": 2}\n', "line 2"),
        (b'{"step": 2, "epoch": 1, "loss": NaN}\n', "line 2"),
        (b'{"step": 2, "epoch": 1, "loss": 1e999}\n', "line 2"),
        (b'{"epoch": 1, "loss": 2.0}\n', "line 2"),
        (b'{"step": "2", "epoch": 1}\n', "line 2"),
        (b"[1, 2]\n\x00\x00\n" + b"[" * 100_000 + b"\n", "3 lines (2, 3, 4)"),
    ],
)
@pytest.mark.parametrize("table", ["train", "val"])
def test_a_damaged_line_is_left_out_and_the_rows_behind_it_are_kept(
    finished: Path, tmp_path: Path, damage: bytes, dropped: str, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = copy_of(finished / "tiny", tmp_path)
    log = run / f"{table}.jsonl"
    good = log.read_bytes()
    log.write_bytes((ROW % (1, 1)).encode() + damage + good)
    assert train_command.main(words(tmp_path, "train.epochs=2", "--resume", "auto")) == 0
    assert f"{table}.jsonl: left out what cannot be read: {dropped}" in caplog.text
    steps = [row["step"] for row in read_rows(log)]
    assert steps == ([1, 2, 3, 4, 5, 6] if table == "train" else [1, 3, 6])
    assert [line.split(",")[0] for line in (run / f"{table}.csv").read_text().splitlines()[1:]] == list(map(str, steps))


@pytest.mark.parametrize("name", ["train.jsonl", "val.jsonl", "train.csv", "val.csv"])
def test_a_folder_in_place_of_a_log_is_moved_aside(
    finished: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = copy_of(finished / "tiny", tmp_path)
    (run / name).unlink()
    (run / name).mkdir()
    (run / name / "mine.txt").write_text("kept")
    assert train_command.main(words(tmp_path, "train.epochs=2", "--resume", "auto")) == 0
    assert "is not a file: moved to" in caplog.text
    assert (run / f"{name}.aside" / "mine.txt").read_text() == "kept"
    assert (run / name).is_file()
    assert (run / "report.html").is_file()


# Weights


def test_a_run_without_best_weights_is_used_with_its_last(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(finished / "tiny", tmp_path / "runs")
    (run / "best.safetensors").unlink()
    assert find_weights(run) == run / "last.safetensors"
    assert "taking last.safetensors" in caplog.text
    assert evaluate([str(run), "--coco"]) == 0
    monkeypatch.chdir(tmp_path)
    assert evaluate(["--coco"]) == 0  # the newest run
    (run / "last.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"tiny: no weights in this folder"):
        find_weights(run)


# From Python


def test_a_training_from_python_says_what_came_of_it(tmp_path: Path) -> None:
    result = ssd.train(config="demo", overrides=TINY, output=tmp_path, name="tiny", epochs=1)
    assert (result.folder, result.steps, result.stopped) == (tmp_path / "tiny", 3, False)
    assert result.best is not None
    assert result.best.is_file()
    assert result.report is not None
    assert result.report.is_file()
    assert 0 <= result.metrics["AP"] <= 1
    assert repr(result).startswith("<TrainResult: finished after 3 steps, best AP 0.")
    again = ssd.train(resume=result.folder, overrides={"train.epochs": 2, "optim.accumulate": 3})
    assert (again.folder, again.steps) == (result.folder, 6)
    with pytest.raises(ConfigError, match=r"epoch"):
        ssd.train(output=tmp_path, overrides={"train.epoch": 2})


SCRIPT = """
import sys
sys.path.insert(0, {checkout!r})
import ssd
{call}
"""
CALL = "ssd.train(config='demo', output='runs', name='tiny', epochs=1, overrides={overrides!r})"


@pytest.mark.parametrize(
    ("guarded", "workers"),
    [(False, 1), pytest.param(False, 0, marks=pytest.mark.slow), pytest.param(True, 1, marks=pytest.mark.slow)],
)
def test_a_script_without_a_guard_is_told_so_and_leaves_no_folder(tmp_path: Path, guarded: bool, workers: int) -> None:
    overrides = [*TINY, f"data.workers={workers}"]
    call = CALL.format(overrides=overrides)
    call = f"def main():\n    {call}\nif __name__ == '__main__':\n    main()" if guarded else call
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT.format(checkout=str(Path(__file__).parents[2]), call=call))
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    if guarded or workers == 0:
        assert done.returncode == 0, done.stderr
        assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]
    else:
        assert "mine.py:5: this script starts anew in every data worker" in done.stderr
        assert 'if __name__ == "__main__":' in done.stderr
        assert "/dev/shm" not in done.stderr
        assert not (tmp_path / "runs").exists()


# Before the first step


def test_one_image_a_batch_trains_or_is_refused_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_command.main(words(tmp_path, "train.batch_size=1")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: train.batch_size: BatchNorm cannot be trained with one image")
    assert not (tmp_path / "tiny").exists()
    # What the message advises.
    few = ("data.shapes=[3, 2, 80]", "train.batch_size=1")
    assert train_command.main(words(tmp_path, *few, "model.extras_norm=group")) == 0
    assert train_command.main(words(tmp_path, "data.shapes=[3, 2, 80]", "train.batch_size=2")) == 0


@pytest.mark.parametrize(
    ("key", "text"),
    [("name", "run\udcff"), ("output", "out\udcff"), ("data.folder", "d\udcff"), ("data.train", "half \ud83d")],
)
def test_text_that_no_file_can_hold_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"{key}\b.*\\ud"):
        ssd.train(config="demo", overrides={key: text, "data.format": "auto"})
    assert list(tmp_path.iterdir()) == []


def test_a_class_name_with_half_a_surrogate_is_told_before_training(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        cv2.imwrite(str(folder / split / "a.png"), np.full((40, 40, 3), 90, np.uint8))
        boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}]
        images = [{"id": 1, "file_name": "a.png", "width": 40, "height": 40}]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "half \ud83d"}]}
        (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"class name: 'half \\ud83d' is not valid Unicode"):
        ssd.train(folder, overrides=["model.backbone_weights=none"], output=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_run_says_at_its_start_what_it_will_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "_STEPS", 1)
    monkeypatch.setattr(announcements, "_SECONDS", 0.0)
    with caplog.at_level("INFO"):
        assert train_command.main(words(tmp_path, "data.shapes=[12, 1, 80]")) == 0
    assert (
        f"{tmp_path / 'tiny'}: 12 images to train on, 1 to evaluate on, 4 classes; from scratch; "
        "1 epoch, 3 steps of 4 images; cpu, float32, 0 data workers"
    ) in caplog.messages
    assert [message for message in caplog.messages if "of training to go" in message] == [
        "about 1 second of training to go, and evaluations"
    ]


def test_the_newest_run_may_lie_in_a_folder_of_runs(tmp_path):
    for age, name in enumerate(("old", "cells/first")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "best.safetensors").touch()
        os.utime(tmp_path / name / "best.safetensors", (1000 + age, 1000 + age))
    assert newest_run(tmp_path).path == tmp_path / "cells" / "first"
