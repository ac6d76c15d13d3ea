"""Networks of the paper's design study: without the dilation, and with fewer levels."""

import pytest
import torch
from torch import nn

from ssd.errors import ConfigError
from ssd.model import factory, vgg
from ssd.model.vgg import VGG
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import Settings

THIN = {"width": 0.05, "backbone": "vgg11"}


def settings_of(size: int = 300, **numbers: object) -> Settings:
    return factory.settings_for(("a", "b"), input_size=size, **(THIN | numbers))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [64, 75, 127, 130, 300])
def test_without_atrous_there_are_three_grids_and_the_network_gives_them(size: int) -> None:
    backbone = VGG("vgg11", width=0.05, atrous=False)
    with torch.no_grad():
        outputs = backbone(torch.zeros(1, 3, size, size))
    assert tuple(output.shape[-1] for output in outputs) == vgg.grids(size, atrous=False)
    assert tuple(output.shape[1] for output in outputs) == vgg.out_channels(0.05, atrous=False)


def test_without_atrous_the_layers_are_the_full_vggs() -> None:
    with torch.device("meta"):
        backbone = VGG(atrous=False)
    pool5, conv6, conv7 = backbone.pool5, backbone.conv6, backbone.conv7
    assert (pool5.kernel_size, pool5.stride, pool5.padding, pool5.ceil_mode) == (2, 2, 0, True)
    assert (conv6.kernel_size, conv6.dilation, conv6.padding, conv6.out_channels) == ((7, 7), (1, 1), (3, 3), 4096)
    assert (conv7.kernel_size, conv7.out_channels) == ((1, 1), 4096)
    assert backbone.taps == ("relu4_3", "relu5_3")


def test_without_atrous_the_grids_and_the_boxes_stay_and_the_first_pair_of_extra_layers_goes() -> None:
    with_it, without = settings_of(), settings_of(atrous=False)
    assert without.boxes == with_it.boxes
    assert without.boxes.grids == (38, 19, 10, 5, 3, 1)
    extra = [name for name, layer in factory.from_settings(without).extras.named_children() if "conv" in name]
    assert extra == ["conv9_1", "conv9_2", "conv10_1", "conv10_2", "conv11_1", "conv11_2"]
    assert settings_of(512, atrous=False).boxes == settings_of(512).boxes


FEWER = [(38, 19, 10, 5, 3), (38, 19, 10, 5), (38, 19, 10), (38, 19), (19,), (19, 10, 5, 3, 1), (38, 10, 1)]


@pytest.mark.parametrize("levels", FEWER)
def test_fewer_levels_say_something_of_each_of_their_boxes_and_nothing_is_built_in_vain(
    levels: tuple[int, ...],
) -> None:
    settings = settings_of(levels=levels)
    network = factory.from_settings(settings)
    predictions = network(torch.randn(1, 3, 300, 300))
    assert settings.boxes.grids == levels
    assert predictions.offsets.shape[1] == len(default_boxes(settings.boxes))
    (predictions.logits.sum() + predictions.offsets.sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_levels_that_stay_keep_their_steps_and_ratios_and_share_the_sizes() -> None:
    boxes = settings_of(levels=(38, 19, 10, 5)).boxes
    assert boxes.steps == (8, 16, 32, 64)
    assert boxes.aspect_ratios == ((2,), (2, 3), (2, 3), (2, 3))
    assert boxes.min_sizes == (30, 60, 165, 270)  # 10 %, then from 20 % to 90 % in equal steps
    assert boxes.max_sizes == (60, 165, 270, 375)
    alone = settings_of(levels=(19,)).boxes
    assert (alone.steps, alone.min_sizes, alone.max_sizes) == ((16,), (60,), (270,))
    coarse = settings_of(levels=(19, 10, 5, 3, 1)).boxes
    assert coarse.steps == (16, 32, 64, 100, 300)


def test_the_same_level_says_the_same_whether_or_not_others_are_seen() -> None:
    everything, two = settings_of(64), settings_of(64, levels=(8, 4))
    torch.manual_seed(0)
    whole, part = factory.from_settings(everything).eval(), factory.from_settings(two).eval()
    part.load_state_dict({name: whole.state_dict()[name] for name in part.state_dict()})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        told, of = part(images), whole(images)
    count = told.logits.shape[1]
    assert count == 8 * 8 * 4 + 4 * 4 * 6
    assert torch.equal(told.logits, of.logits[:, :count])
    assert torch.equal(told.offsets, of.offsets[:, :count])


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"levels": (38, 20)}, r"model.levels: \[38, 20\]: the network's grids are \[38, 19, 10, 5, 3, 1\]"),
        ({"levels": (19, 38)}, "fine first"),
        ({"levels": (38, 19, 19)}, "fine first"),
        ({"levels": ()}, "Name some of these"),
        ({"levels": (38,)}, "Name 19 or a smaller one too"),
        ({"levels": (38, 19), "atrous": False}, "Name 10 or a smaller one too"),
        ({"atrous": False, "backbone": "resnet18", "width": 1.0}, "model.atrous: false: resnet18 has no fc6 and fc7"),
    ],
)
def test_networks_that_cannot_be_are_refused_with_what_can(numbers: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(**numbers)


def test_sizes_and_ratios_are_one_for_each_level_that_is_seen() -> None:
    ours = settings_of(levels=(38, 19), min_sizes=(0.1, 0.3), max_sizes=(0.3, 0.9), ratios=((2.0,), ())).boxes
    assert (ours.min_sizes, ours.max_sizes, ours.aspect_ratios) == ((30, 90), (90, 270), ((2,), ()))
    for key in ("min_sizes", "max_sizes", "ratios"):
        values = ((2.0,),) if key == "ratios" else (0.5,)
        with pytest.raises(ConfigError, match=r"1 for 2 levels. Write one for each grid: 38, 19"):
            settings_of(levels=(38, 19), **{key: values})


def test_settings_of_files_from_before_these_keys_are_read_and_new_ones_come_back_equal() -> None:
    old = settings_of(64).to_dict()
    for key in ("fc_norm", "atrous"):
        del old["network"][key]
    assert Settings.from_dict(old) == settings_of(64)
    new = settings_of(64, atrous=False, fc_norm="group", extras_norm="group", levels=(8, 2))
    assert Settings.from_dict(new.to_dict()) == new
    assert isinstance(factory.from_settings(new).backbone.norm7, nn.GroupNorm)


def test_boxes_of_a_file_that_are_not_the_networks_are_refused() -> None:
    wrong = settings_of(64).to_dict()
    wrong["boxes"]["grids"] = [9, 4, 2, 1]
    with pytest.raises(ConfigError, match=r"default boxes: \[9, 4, 2, 1\]"):
        factory.from_settings(Settings.from_dict(wrong))
