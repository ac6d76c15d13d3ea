"""What a run keeps: the best weights by figures that count, its history, how it was made, and no more."""

import json
import signal
from pathlib import Path

import pytest

from ssd.experiment import config_file as configs
from ssd.report.run_log import read_rows
from ssd.training.checkpoints import load_state
from ssd.weights.native import load_weights
from tests.reliability.nursery import Nursery
from tests.training.runs import TINY

# Replaces the headline figure of each evaluation by the next of a list.
FIGURES = """
import dataclasses
from ssd.training import validation as training
real, figures = training.evaluate, iter({})
def evaluate(*args, **keywords):
    answer = real(*args, **keywords)
    changed = {{**answer.metrics, "AP": next(figures)}}
    return dataclasses.replace(answer, metrics=changed, loss={{"total": float("inf")}})
training.evaluate = evaluate
"""
EACH = ("train.eval_every=1", "train.epochs=4")


def words(folder: Path, *more: str) -> tuple[str, ...]:
    return (*TINY, f"output={folder}", "name=tiny", "--quiet", *more)


def best_step(folder: Path) -> int:
    step: int = load_weights(folder / "tiny" / "best.safetensors")[2]["validation"]["step"]
    return step


def newest(folder: Path) -> dict[str, object]:
    return load_state(max((folder / "tiny").glob("state-*.pt")))


def test_a_figure_that_is_no_number_never_makes_the_best_weights(nursery: Nursery, tmp_path: Path) -> None:
    first = FIGURES.format("[float('nan'), 0.3, float('nan'), None]")
    (ended,) = nursery.run("train", *words(tmp_path, *EACH), first=first)
    assert ended.code == 0, ended.err
    assert best_step(tmp_path) == 6
    assert newest(tmp_path)["best"] == 0.3
    rows = read_rows(tmp_path / "tiny" / "val.jsonl")
    assert [row.get("AP") for row in rows] == [None, 0.3, None, None]
    assert all("loss_total" not in row for row in rows)  # infinite, which JSON cannot hold


def test_the_best_figure_survives_a_resume(nursery: Nursery, tmp_path: Path) -> None:
    half = ("train.eval_every=1", "train.epochs=2", "optim.schedule=[]")
    assert nursery.run("train", *words(tmp_path, *half), first=FIGURES.format("[0.1, 0.4]"))[0].code == 0
    again = (*half, "train.epochs=4", "--resume", "auto")
    (ended,) = nursery.run("train", *words(tmp_path, *again), first=FIGURES.format("[0.2, 0.3]"))
    assert ended.code == 0
    assert best_step(tmp_path) == 6
    assert newest(tmp_path)["best"] == 0.4
    assert [row["AP"] for row in read_rows(tmp_path / "tiny" / "val.jsonl")] == [0.1, 0.4, 0.2, 0.3]


def test_without_an_evaluation_there_are_no_best_weights(nursery: Nursery, tmp_path: Path) -> None:
    first = "import os, signal\nfrom ssd.training import step\n"
    first += "real = step.TrainStep.match\ndef match(self, *rest):\n"
    first += "    os.kill(os.getpid(), signal.SIGTERM); return real(self, *rest)\nstep.TrainStep.match = match\n"
    (ended,) = nursery.run("train", *words(tmp_path), first=first)
    assert ended.code == 143
    assert not list((tmp_path / "tiny").glob("*.safetensors"))
    assert newest(tmp_path)["best"] is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_before_the_first_step_ends_the_run_at_once_and_leaves_no_folder(
    nursery: Nursery, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    first = "import os, time\nfrom ssd.experiment import data\n"
    first += f"def check(*sets):\n    os.kill(os.getpid(), {int(number)}); time.sleep(60)\ndata.check_images = check\n"
    (ended,) = nursery.run("train", *words(tmp_path), first=first, timeout=30)
    assert (ended.code, ended.hung) == (code, False), ended.err
    assert not (tmp_path / "tiny").exists()


def test_a_run_says_how_it_was_made(nursery: Nursery, tmp_path: Path) -> None:
    assert nursery.run("train", *words(tmp_path, "train.epochs=1", "seed=5"))[0].code == 0
    run = tmp_path / "tiny"
    facts = json.loads((run / "environment.json").read_text())
    assert facts["seed"] == 5
    assert facts["class_names"] == list(load_weights(run / "best.safetensors")[1].class_names)
    assert {"torch", "torchvision", "numpy", "albumentations", "opencv-python"} <= facts["versions"].keys()
    assert facts["git_commit"] is None or len(facts["git_commit"]) == 40
    assert facts["python"]
    assert facts["command"]
    config = configs.load(run / "config.yaml")
    assert (config.seed, config.mode) == (5, "default")
    assert config.optim.lr
    assert load_weights(run / "best.safetensors")[2]["config"]["seed"] == 5


@pytest.mark.slow
def test_a_long_run_takes_no_more_room_than_a_short_one(nursery: Nursery, tmp_path: Path) -> None:
    sizes = []
    for epochs in (3, 9):
        more = (f"train.epochs={epochs}", "train.eval_every=1")
        assert nursery.run("train", *words(tmp_path / str(epochs), *more))[0].code == 0
        run = tmp_path / str(epochs) / "tiny"
        assert len(list(run.glob("state-*.pt"))) == 2
        sizes.append(sum(path.stat().st_size for path in run.glob("*.[ps]*t*")))
    assert sizes[1] < 1.01 * sizes[0]
