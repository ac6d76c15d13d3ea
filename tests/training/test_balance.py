"""Runs that repeat images of rare classes and weight classes."""

import json
from pathlib import Path
from unittest import mock

import pytest

from ssd.api.check_data import check_data
from ssd.errors import ConfigError
from ssd.experiment import config_file as configs
from ssd.experiment.data import train_loader
from ssd.experiment.starting_settings import starting_settings
from ssd.report.run_log import read_rows
from ssd.training import run_folder, trainer
from ssd.training.checkpoints import load_state
from tests.data.made import voc_folder, xml, xml_object
from tests.training.runs import TINY, assert_same, run_training

BALANCED = ("data.balance=0.9", "loss.class_weights={star: 3}", "train.epochs=2", "train.eval_every=2")


def test_a_balanced_run_resumes_bit_for_bit_and_its_epochs_are_longer(tmp_path: Path) -> None:
    whole = configs.load(None, [*TINY, *BALANCED, f"output={tmp_path / 'whole'}", "name=tiny"])
    with mock.patch.object(run_folder, "STATES_KEPT", 9):
        trainer.train(whole, progress=False)
    states = sorted((tmp_path / "whole" / "tiny").glob("state-*.pt"))
    reference = load_state(states[-1])
    assert reference["step"] > 6  # of 12 images in batches of 4 it would be 6
    part = tmp_path / "part" / "tiny"
    part.mkdir(parents=True)
    for name in ("train.jsonl", states[0].name):
        (part / name).write_bytes((tmp_path / "whole" / "tiny" / name).read_bytes())
    resumed = configs.load(None, [*TINY, *BALANCED, f"output={tmp_path / 'part'}", "name=tiny"])
    trainer.train(resumed, resume="auto", progress=False)
    unused = {"config": None, "torch_rng": None}  # the network has no dropout
    assert_same(load_state(sorted(part.glob("state-*.pt"))[-1]) | unused, reference | unused)


@pytest.mark.slow
def test_two_processes_share_a_balanced_epoch(tmp_path: Path) -> None:
    words = (*BALANCED, "model.backbone=vgg16", "model.extras_norm=none", "optim.lr=1e-4", "loss.negative_ratio=100000")
    losses = []
    for processes in (1, 2):
        done = run_training(tmp_path / str(processes), *words, processes=processes)
        assert done.returncode == 0, done.stderr
        losses.append([row["loss"] for row in read_rows(tmp_path / str(processes) / "tiny" / "train.jsonl")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_weight_for_a_class_that_is_not_there_stops_before_a_folder_is_made(tmp_path: Path) -> None:
    config = configs.load(None, [*TINY, "loss.class_weights={sta: 3}", f"output={tmp_path}", "name=tiny"])
    with pytest.raises(ConfigError, match=r"loss.class_weights: 'sta' is no class\. There is: circle, square, star"):
        trainer.train(config, progress=False)
    assert not (tmp_path / "tiny").exists()


def cats_and_a_dog(root: Path) -> Path:
    """16 images with a cat, of which one has a dog too."""
    names = {f"im{n}": xml(xml_object("cat"), *([xml_object("dog")] if n == 3 else [])) for n in range(16)}
    return voc_folder(root, names)


def test_check_data_says_what_would_be_repeated(tmp_path: Path) -> None:
    folder = cats_and_a_dog(tmp_path)
    check = check_data(folder, split="train", overrides=["data.balance=1"])
    assert "data.balance=1 shows 19 images an epoch instead of 16, one up to 4.00 times" in check.to_text()
    assert "  dog: in 6.2% of the images, each shown 4.00 times" in check.to_text()
    assert json.loads(json.dumps(check.to_dict()))["repeats"]["classes"]["cat"] == [1.0, 1.0]
    assert check_data(folder, split="train").to_dict()["repeats"] is None


@pytest.mark.parametrize(("tiles", "said"), [
    (1, "19 images an epoch instead of 16"),
    (2, "95 samples (images and tiles of them) an epoch instead of 80"),
    ("auto", "19 images an epoch instead of 16"),
])  # fmt: skip
def test_check_data_says_as_many_samples_an_epoch_as_the_loader_has(
    tiles: int | str, said: str, tmp_path: Path
) -> None:
    words = {"data.balance": 1, "data.tiles": tiles, "data.workers": 0}
    check = check_data(cats_and_a_dog(tmp_path), split="train", overrides=words)
    dataset = check.report.opened.splits[0].dataset
    loader = train_loader(check.config, dataset, starting_settings(check.config, dataset.class_names))
    assert check.report.repeats is not None
    assert check.report.repeats.images_per_epoch == loader.images_per_epoch
    assert f"data.balance=1 shows {said}, one up to 4.00 times" in check.to_text()
    assert "  dog: in 6.2% of the images, each shown 4.00 times" in check.to_text()
    loader.close()
