"""Runs on tiles: they resume, validate on tiles, and write the number of tiles into the weights."""

import dataclasses
import logging
from pathlib import Path
from unittest import mock

import pytest
import torch

import ssd
from ssd.data.shapes.dataset import shapes
from ssd.experiment import config_file as configs
from ssd.report.run_log import read_rows
from ssd.training import run_folder, trainer, validation
from ssd.training.checkpoints import load_state
from tests.training.runs import TINY, assert_same

TILED = ("data.tiles=2", "data.shapes=[6, 2, 120]", "train.epochs=2", "train.eval_every=2", "data.balance=0.9")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that kept all its states."""
    torch.set_num_threads(1)  # like every test
    output = tmp_path_factory.mktemp("whole")
    config = configs.load(None, [*TINY, *TILED, f"output={output}", "name=tiny"])
    with mock.patch.object(run_folder, "STATES_KEPT", 99):
        trainer.train(config, progress=False)
    return output / "tiny"


def test_a_tiled_run_resumes_bit_for_bit_and_an_epoch_has_every_tile(whole: Path, tmp_path: Path) -> None:
    states = sorted(whole.glob("state-*.pt"))
    reference = load_state(states[-1])
    assert reference["step"] >= 2 * -(-6 * 5 // 4)  # five windows of each image, in batches of four
    part = tmp_path / "tiny"
    part.mkdir()
    for name in ("train.jsonl", states[0].name):
        (part / name).write_bytes((whole / name).read_bytes())
    resumed = configs.load(None, [*TINY, *TILED, f"output={tmp_path}", "name=tiny"])
    trainer.train(resumed, resume="auto", progress=False)
    unused = {"config": None, "torch_rng": None}  # the network has no dropout
    assert_same(load_state(sorted(part.glob("state-*.pt"))[-1]) | unused, reference | unused)


def test_the_weights_have_the_number_and_their_figures_are_those_of_an_evaluation(whole: Path) -> None:
    detector = ssd.load(whole / "last.safetensors", precision="fp32", device="cpu")
    assert detector.settings.tiles == 2
    (row,) = read_rows(whole / "val.jsonl")
    data = shapes("val", count=2, size=120)
    assert ssd.evaluate(detector, data).metrics["AP"] == pytest.approx(row["AP"], abs=1e-6)
    assert row["loss_total"] > 0


def test_the_log_says_how_many_samples_an_epoch_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = configs.load(None, [*TINY, *TILED, "data.balance=0", f"output={tmp_path}", "name=tiny"])
    short = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=1, eval_every=1))
    with caplog.at_level(logging.INFO), mock.patch.object(validation, "plan_of", return_value=None) as plan_of:
        trainer.train(short, progress=False)
    assert "6 images to train on (30 samples an epoch, by data.tiles), 2 to evaluate on" in caplog.text
    plan_of.assert_called_with(2, 80)
