"""The other side of the comparison, at the smallest size at which every part takes part."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import vgg16

from ssd.benchmark.torchvision_training import Recipe, new_model, train
from ssd.benchmark.train_torchvision import TorchvisionDetector, main
from ssd.data.dataset import open_dataset
from ssd.errors import CheckpointError
from ssd.system.device import cpu_has_bf16
from tests.audit.made import sound


def test_two_steps_train_score_and_are_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = sound(tmp_path / "cells"), tmp_path / "figures.json"
    words = ["--data", str(folder), "--steps", "2", "--batch-size", "2", "--backbone", "none"]
    assert main([*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "step 2 loss " in printed
    assert "COCO  AP " in printed
    report = json.loads(out.read_text())
    assert (report["recipe"]["steps"], report["recipe"]["autocast"]) == (2, cpu_has_bf16())
    assert set(report["coco"]["per_class"]) == set(open_dataset(folder, "train").class_names)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--steps", "0"], "steps: 0 is too small"),
        (["--steps", "1", "--batch-size", "50"], "2 images with objects are fewer than a batch of 50"),
        (["--steps", "1", "--split", "tset"], "tset"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list, problem: str) -> None:
    assert main(["--data", str(sound(tmp_path / "cells")), "--backbone", "none", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert problem in error


def test_the_learning_rate_warms_up_and_falls_twice() -> None:
    recipe = Recipe(steps=900)
    factors = [recipe.lr_factor(step) for step in (0, 89, 90, 599, 600, 799, 800, 899)]
    assert factors == pytest.approx([1 / 90, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_imagenet_convolutions_land_where_torchvision_puts_them(tmp_path: Path) -> None:
    state = {name: value for name, value in vgg16(weights=None).state_dict().items() if name.startswith("features.")}
    torch.save(state, tmp_path / "vgg.pth")
    backbone = new_model(3, str(tmp_path / "vgg.pth")).backbone
    assert torch.equal(backbone.features[21].weight, state["features.21.weight"])
    assert torch.equal(backbone.extra[0][5].bias, state["features.28.bias"])
    del state["features.0.bias"]
    torch.save(state, tmp_path / "vgg.pth")
    with pytest.raises(CheckpointError, match=r"does not hold VGG16's features"):
        new_model(3, str(tmp_path / "vgg.pth"))


def test_detections_become_fractions_and_labels_from_0() -> None:
    detector = TorchvisionDetector(torch.nn.Identity(), ("cat", "dog"), torch.device("cpu"))
    one = {"boxes": torch.tensor([[10.0, 5, 20, 10]]), "scores": torch.tensor([0.5]), "labels": torch.tensor([2])}
    none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    found = detector.postprocess([(none, (9, 9)), (one, (50, 100))])
    assert found.counts.tolist() == [0, 1]
    np.testing.assert_allclose(found.boxes[1, 0], [0.1, 0.1, 0.2, 0.2], rtol=1e-6)
    assert found.labels[1, 0] == 1


class _Fitted(torch.nn.Module):
    """A network of one layer whose loss depends on the augmented images and their boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 2, 1)

    def forward(self, images: list, targets: list) -> dict:
        boxes = sum(target["boxes"].sum() for target in targets)
        return {"loss": sum(self.layer(image[None]).square().mean() for image in images) + 0 * boxes}


def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    data = open_dataset(sound(tmp_path / "cells"), "train")
    recipe, state = Recipe(steps=7, batch_size=1), tmp_path / "state.pt"

    def trained(log, path: Path | None) -> torch.nn.Module:
        torch.manual_seed(0)
        model = _Fitted()
        train(model, data, recipe, torch.device("cpu"), log, path)
        return model

    def stop_at_five(step: int, loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    steps: list[int] = []
    whole = trained(lambda step, loss: None, None)
    with pytest.raises(KeyboardInterrupt):
        trained(stop_at_five, state)
    resumed = trained(lambda step, loss: steps.append(step), state)
    assert steps == [5, 6, 7]
    assert torch.equal(whole.layer.weight, resumed.layer.weight)
    assert train(resumed, data, recipe, torch.device("cpu"), lambda step, loss: steps.append(step), state) > 0
    assert steps == [5, 6, 7]  # a finished training has nothing to do
