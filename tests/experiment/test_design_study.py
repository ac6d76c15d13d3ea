"""The paper's design study, as docs/recipes.md tells to repeat it: every row builds the network that it speaks of."""

import re
import shlex
from pathlib import Path

import pytest
import torch

import ssd
from ssd.experiment import config_file as configs
from ssd.experiment import start as starting
from ssd.experiment.config import resolve
from ssd.experiment.starting_settings import build_settings
from ssd.model.factory import from_settings
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import Preprocessing
from ssd.training import trainer
from ssd.training.optim import Schedule
from ssd.weights.native import load_weights, save_weights

RECIPES = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
SECTION = RECIPES.read_text(encoding="utf-8").partition("## Repeat the paper's design study\n")[2].partition("\n## ")[0]
CLASSES = tuple(f"class_{index}" for index in range(20))
# Row of the paper -> its keys, its grids, how many boxes.
ROWS = {
    name.strip(): (re.findall(r"`([^`]*)`", keys), tuple(map(int, grids.split())), int(boxes.replace(",", "")))
    for name, _, keys, grids, boxes in (
        line.strip("| ").split("|") for line in SECTION.splitlines() if re.match(r"\| (table|without|section)", line)
    )
}


def config(words: list[str]) -> configs.Config:
    (command,) = re.findall(r"ssd train configs/(\w+)\.yaml (.*)", SECTION.replace("\\\n", " "))
    usual = [word for word in shlex.split(command[1]) if "=" in word]
    overrides = [unquoted for keys in words for unquoted in shlex.split(keys)]
    return resolve(configs.load(configs.builtin(command[0]), [*usual, *overrides]))


def test_the_recipe_has_the_papers_tables_2_and_3() -> None:
    assert sum(name.startswith("table 2") for name in ROWS) == 5
    assert sum(name.startswith("table 3") for name in ROWS) == 5


def test_the_schedule_of_the_study_is_60_000_steps_with_drops_after_40_000_and_50_000() -> None:
    made = config([])
    steps = 16_551 // made.train.batch_size * made.train.epochs
    assert steps == pytest.approx(60_000, rel=0.01)
    optim = made.optim
    assert optim.lr is not None
    schedule = Schedule(optim.lr, steps, optim.warmup, optim.schedule)
    assert schedule.at(0) == pytest.approx(1e-3)
    drops = [step for step in range(1, steps) if schedule.at(step) != schedule.at(step - 1)]
    assert drops == pytest.approx([40_000, 50_000], rel=0.01)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_builds_its_grids_and_its_boxes(row: str) -> None:
    words, grids, boxes = ROWS[row]
    made = config(words)
    assert made.mode == "paper"
    assert made != config([]) or not words
    settings = build_settings(made, CLASSES, Preprocessing())
    with torch.device("meta"):
        predictions = from_settings(settings).to("meta")(torch.zeros(1, 3, 300, 300))
    assert settings.boxes.grids == grids
    assert len(default_boxes(settings.boxes)) == predictions.offsets.shape[1] == boxes


def test_such_a_network_is_trained_resumed_evaluated_and_loaded(tmp_path: Path) -> None:
    words = [
        *("data.format=shapes", "data.shapes=[3, 1, 80]", "data.workers=0"),
        *("model.backbone=vgg11", "model.width=0.125", "model.input_size=80", "model.backbone_weights=none"),
        *("model.atrous=false", "model.fc_norm=group", "model.extras_norm=group", "model.levels=[10,5,3,1]"),
        *("train.batch_size=1", "train.device=cpu", "train.precision=fp32", "optim.lr=1e-4", f"output={tmp_path}"),
    ]
    trainer.train(configs.load(None, [*words, "train.epochs=1"]), progress=False)
    outcome = trainer.train(configs.load(None, [*words, "train.epochs=2"]), resume="auto", progress=False)
    assert outcome.exit_code == 0
    _, settings, _ = load_weights(outcome.folder.last)
    network = settings.network
    assert (network.atrous, network.fc_norm, network.extras_norm) == (False, "group", "group")
    assert ssd.load(outcome.folder.last, device="cpu", backend="torch").settings == settings


def test_a_network_of_the_study_starts_from_a_detector_where_they_agree(tmp_path: Path) -> None:
    small = ["model.backbone=vgg11", "model.width=0.125", "model.input_size=80", "model.backbone_weights=none"]
    usual = starting.start(resolve(configs.load(None, small)), ("cat",))
    save_weights(tmp_path / "usual.safetensors", usual.network.state_dict(), usual.settings)
    words = [*small, "model.atrous=false", f"model.weights={tmp_path / 'usual.safetensors'}"]
    begun = starting.start(resolve(configs.load(None, words)), ("cat",))
    assert torch.equal(begun.network.backbone.conv5_2.weight, usual.network.backbone.conv5_2.weight)
    assert {"backbone.conv6", "backbone.conv7", "extras.conv9_1"} <= set(begun.fresh)
    assert "extras.conv9_2" not in begun.fresh
