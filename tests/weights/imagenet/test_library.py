"""Starts of torchvision's and timm's backbones: from files, and from what their libraries publish."""

import re

import pytest
import safetensors.torch
import torch
import torchvision

from ssd.errors import CheckpointError, ConfigError, DownloadError
from ssd.experiment import config_file as configs
from ssd.experiment import start as starting
from ssd.model.factory import from_settings, settings_for
from ssd.settings import Preprocessing
from ssd.weights.imagenet import library
from ssd.weights.imagenet.library import library_backbone_state
from ssd.weights.imagenet.vgg import TORCHVISION


def network_of(name: str, size: int = 96):
    return from_settings(settings_for(("a",), input_size=size, backbone=name))


def config_of(*words: str):
    return configs.load(None, ["model.input_size=96", "data.format=shapes", *words])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", pytest.param("alexnet", marks=pytest.mark.slow)])
def test_a_file_of_torchvisions_starts_every_layer_of_the_backbone(name: str, tmp_path) -> None:
    whole = torchvision.models.get_model(name).state_dict()
    torch.save(whole, tmp_path / "whole.pth")
    network = network_of(name)
    start = library_backbone_state(tmp_path / "whole.pth", network.state_dict(), name=name, library="torchvision")
    assert start.missing == ()
    assert start.preprocessing == TORCHVISION
    assert set(start.state) == {key for key in network.state_dict() if key.startswith("backbone.")}
    for key, tensor in start.state.items():
        plain = key.removeprefix("backbone.")
        assert torch.equal(tensor, whole[plain if plain in whole else f"features.{plain}"])


def test_googlenets_images_go_from_minus_1_to_1_and_its_new_heads_are_named(tmp_path) -> None:
    whole = torchvision.models.googlenet(init_weights=False).state_dict()  # with ImageNet's auxiliary heads
    torch.save(whole, tmp_path / "whole.pth")
    network = from_settings(settings_for(("a",), input_size=96, backbone="googlenet"), auxiliary=True)
    start = library_backbone_state(
        tmp_path / "whole.pth", network.state_dict(), name="googlenet", library="torchvision"
    )
    assert start.preprocessing.mean == start.preprocessing.std == (127.5, 127.5, 127.5)
    assert start.missing
    assert all("auxiliary" in layer for layer in start.missing)


def test_scaling_from_minus_1_to_1_is_what_torchvision_does_to_its_images() -> None:
    """`transform_input`, on images that were divided by ImageNet's spread before."""
    pixels = torch.rand(1, 3, 8, 8) * 255
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (TORCHVISION.mean, TORCHVISION.std))
    baseline = torchvision.models.googlenet(init_weights=False, aux_logits=False, transform_input=True)
    theirs = baseline._transform_input((pixels - mean) / std)
    torch.testing.assert_close((pixels - 127.5) / 127.5, theirs, atol=1e-5, rtol=0)


def test_first_densenets_of_torchvision_have_other_names() -> None:
    ours = "backbone.denseblock1.denselayer2.norm1.weight"
    assert library._key("features.denseblock1.denselayer2.norm.1.weight") == library._key(ours)
    assert library._key("stages.0.1.conv.weight") == library._key("backbone.network.stages_0.1.conv.weight")


def test_a_file_of_another_network_is_refused(tmp_path) -> None:
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other.pth: lacks conv1.weight; .* It is not a resnet18"):
        library_backbone_state(
            tmp_path / "other.pth", network_of("resnet18").state_dict(), name="resnet18", library="torchvision"
        )
    state = torchvision.models.resnet18().state_dict() | {"layer2.0.conv1.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(CheckpointError, match=r"layer2.0.conv1.weight has shape \(1,\)"):
        library_backbone_state(
            tmp_path / "shape.pth", network_of("resnet18").state_dict(), name="resnet18", library="torchvision"
        )


def test_training_starts_from_a_file_and_says_how_images_are_scaled(tmp_path) -> None:
    path = tmp_path / "resnet18.safetensors"
    whole = torchvision.models.resnet18().state_dict()
    stated = {"input": "RGB, 0..255, minus (1, 2, 3), divided by (4, 5, 6)"}
    safetensors.torch.save_file(whole, path, stated)
    start = starting.start(config_of("model.backbone=resnet18", f"model.backbone_weights={path}"), ("a", "b"))
    assert start.settings.preprocessing == Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), resize="area")
    assert torch.equal(start.network.backbone.layer3[0].conv1.weight, whole["layer3.0.conv1.weight"])
    assert start.fresh
    assert not any(name.startswith("backbone.") for name in start.fresh)
    assert "backbone.layer3.0.conv1.weight" in start.pretrained


def test_imagenet_is_torchvisions_file_and_offline_the_error_says_where_to_put_it(monkeypatch) -> None:
    asked = []

    def offline(url: str):
        asked.append(url)
        raise DownloadError("cannot be fetched (no network)", place=url, remedy="Put it there.")

    monkeypatch.setattr(library, "fetch", offline)
    with pytest.raises(DownloadError, match="resnet18"):
        starting.start(config_of("model.backbone=resnet18"), ("a",))
    assert re.search(r"resnet18-[0-9a-f]{8}\.pth$", asked[0])


def test_timm_offline_says_what_to_do(monkeypatch) -> None:
    timm = pytest.importorskip("timm", reason="timm (extra `backbones`) is not installed")

    def offline(*args: object, **options: object):
        raise FileNotFoundError("An error happened\nwhile trying to locate the file")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(DownloadError, match=r"test_resnet: timm's weights cannot be fetched .*backbone_weights=FILE"):
        library_backbone_state("imagenet", {}, name="test_resnet", library="timm")


def test_a_file_of_timms_starts_its_backbone_and_brings_its_scaling(tmp_path) -> None:
    timm = pytest.importorskip("timm", reason="timm (extra `backbones`) is not installed")
    for name in ("test_resnet", "test_convnext"):
        whole = timm.create_model(name).state_dict()
        safetensors.torch.save_file(whole, tmp_path / "whole.safetensors")
        network = network_of(name)
        start = library_backbone_state(tmp_path / "whole.safetensors", network.state_dict(), name=name, library="timm")
        assert start.missing == ()
        published = timm.get_pretrained_cfg(name)
        assert start.preprocessing.mean == pytest.approx([255 * part for part in published.mean], abs=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.backbone=vgg16c"], "no weights of vgg16c are published"),
        (["model.backbone=resnet18", "model.backbone_weights=imagenet_features"], "'imagenet_features' is VGG16's"),
        (["model.backbone=vgg16_bn", "model.backbone_weights=none", "loss.auxiliary_weight=0.3"], "no auxiliary heads"),
    ],
)
def test_what_does_not_exist_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        starting.start(config_of(*words), ("a",))


def test_only_vggs_stages_can_be_frozen() -> None:
    with pytest.raises(ConfigError, match=r"model.freeze_stages: 2: stages are VGG's"):
        starting.freeze(network_of("resnet18"), 2)
