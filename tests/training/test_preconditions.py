"""What is refused before a run: values of the config first, then the data folder, then its images."""

import pytest

from ssd.commands import train
from tests.training.runs import TINY

IMPOSSIBLE = {
    "model.backbone": ["model.backbone=resnet19", "model.width=1"],
    "model.input_size": ["model.input_size=40"],
    "model.freeze_stages": ["model.backbone=resnet18", "model.width=1", "model.freeze_stages=3"],
    "loss.auxiliary_weight": ["model.backbone=resnet18", "model.width=1", "loss.auxiliary_weight=0.3"],
    "model.min_sizes": ["model.min_sizes=[0.1]"],
    "model.levels": ["model.levels=[10, 7]"],
    "model.backbone_weights": ["model.backbone_weights=imagnet"],
    "precision": ["train.precision=fp16"],
    "train.batch_size": ["train.batch_size=1"],
}


@pytest.mark.parametrize(("place", "words"), IMPOSSIBLE.items())
def test_a_network_that_cannot_be_trained_is_refused_before_data_is_read(place, words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ssd.experiment.data.open_sets", lambda _: pytest.fail("data was read"))
    assert train.main([*TINY, f"output={tmp_path / 'runs'}", "--quiet", *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {place}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "word", ["loss.class_weights={cat: 2}", "train.batch_size=13", "train.batch_size=100000", "optim.accumulate=4"]
)
def test_what_the_number_of_images_and_the_classes_decide_is_refused_before_images_are_decoded(
    word, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("ssd.experiment.data.check_images", lambda *_: pytest.fail("images were decoded"))
    assert train.main([*TINY, f"output={tmp_path / 'runs'}", "--quiet", word]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {word.partition('=')[0]}: ")
    assert list(tmp_path.iterdir()) == []


def test_few_images_fill_up_a_batch_of_the_default_size(tmp_path):
    small = ["data.shapes=[3, 2, 80]", "train.batch_size=8", "train.epochs=1"]
    assert train.main([*TINY, f"output={tmp_path}", "--quiet", *small]) == 0
