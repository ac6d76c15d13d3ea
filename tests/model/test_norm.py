"""Normalised layers: which, in how many groups, and that everything around them takes them."""

import pytest
import torch
from torch import nn

from ssd.errors import ConfigError
from ssd.model import factory
from ssd.model.initialise import fit_to_data_
from ssd.model.norm import groups
from ssd.model.ssd import SSD
from ssd.training.dead_units import watching
from ssd.training.optim import AveragedNetwork, parameter_groups


def small(size: int = 128, **numbers: object) -> SSD:
    torch.manual_seed(0)
    settings = factory.settings_for(("a", "b"), input_size=size, **({"backbone": "vgg11", "width": 0.125} | numbers))  # type: ignore[arg-type]
    return factory.from_settings(settings)


def convolutions(network: nn.Module) -> list[str]:
    return [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]


def test_a_group_has_four_channels_at_least_and_there_are_32_groups_at_most() -> None:
    assert [groups(channels) for channels in (8, 16, 24, 128, 256, 1024, 4096)] == [2, 4, 2, 32, 32, 32, 32]


@pytest.mark.parametrize(("norm", "kind"), [("none", None), ("batch", nn.BatchNorm2d), ("group", nn.GroupNorm)])
def test_each_key_normalises_its_layers_and_no_others(norm: str, kind: type | None) -> None:
    for key, layers in (("fc_norm", {"6", "7"}), ("extras_norm", {"8_1", "8_2", "9_1", "9_2", "10_1", "10_2"})):
        normed = {name: layer for name, layer in small(**{key: norm}).named_modules() if "norm" in name}
        normed.pop("first_norm")
        assert {name.partition(".norm")[2] for name in normed} == (layers if kind else set())
        assert {type(layer) for layer in normed.values()} == ({kind} if kind else set())


def test_a_bias_goes_only_where_each_channels_mean_is_taken_away() -> None:
    assert small(extras_norm="batch").extras.conv8_1.bias is None
    assert small(extras_norm="group").extras.conv8_1.bias is not None


@pytest.mark.parametrize(("backbone", "why"), [("vgg11_bn", "already"), ("resnet18", "has no conv6 and conv7")])
def test_conv6_and_conv7_that_are_not_there_or_are_normalised_are_refused(backbone: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"model.fc_norm: group: {backbone} .*{why}"):
        factory.settings_for(("a",), input_size=128, backbone=backbone, fc_norm="group")


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_scales_and_shifts_of_norms_are_not_decayed(norm: str) -> None:
    network = small(fc_norm=norm, extras_norm=norm)
    decayed = [
        p for group in parameter_groups(network, weight_decay=0.1) if group["weight_decay"] for p in group["params"]
    ]
    assert {id(p) for p in decayed} == {id(network.get_parameter(f"{name}.weight")) for name in convolutions(network)}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_average_follows_norms_and_every_parameter_learns(norm: str) -> None:
    network = small(fc_norm=norm, extras_norm=norm)
    average = AveragedNetwork(network, decay=0.9)
    predictions = network(torch.randn(2, 3, 128, 128))
    (predictions.logits.square().sum() + predictions.offsets.square().sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        network.backbone.norm7.weight.fill_(3.0)
    average.update(network, steps=1)
    assert 1 < float(average.network.backbone.norm7.weight[0]) < 3


@pytest.mark.parametrize("fc_norm", ["none", "batch", "group"])
@pytest.mark.parametrize("extras_norm", ["none", "batch", "group"])
@pytest.mark.parametrize("pretrained_fc", [False, True])
def test_fitted_layers_are_alive_and_quiet_in_training(fc_norm: str, extras_norm: str, pretrained_fc: bool) -> None:
    network = small(fc_norm=fc_norm, extras_norm=extras_norm)
    with torch.no_grad():
        network.backbone.conv5_2.weight.mul_(1e3)  # pretrained features are hundreds, not ones
    names = convolutions(network)
    fresh = names[names.index("extras.conv8_1" if pretrained_fc else "backbone.conv6") :]
    images = torch.randn(8, 3, 128, 128)
    fit_to_data_(network, images, fresh)
    seen = {}
    network.extras.conv8_1.register_forward_hook(lambda _, __, out: seen.update(conv8_1=out.detach().clone()))
    with torch.no_grad(), watching(network, fresh) as units:
        predictions = network.train()(images)
    spread = seen["conv8_1"].transpose(0, 1).flatten(1).std(1)  # of each channel; what normalised before it is known
    assert float(spread.mean()) == pytest.approx(1, abs=0.1)
    assert units.share is not None
    assert units.share < 0.1
    assert float(predictions.logits.std()) < 0.5
    assert float(predictions.offsets.std()) < 0.5


def test_a_new_batch_norm_behind_pretrained_weights_starts_with_the_images_statistics() -> None:
    network = small(fc_norm="batch")
    names = convolutions(network)
    images = torch.randn(8, 3, 128, 128)
    fit_to_data_(network, images, names[names.index("extras.conv8_1") :])
    with torch.no_grad():
        evaluated, trained = (network.train(mode).backbone(images)[-1] for mode in (False, True))
    torch.testing.assert_close(evaluated, trained, atol=1e-3, rtol=1e-3)
