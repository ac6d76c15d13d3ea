"""SSDLite: depthwise heads and extra layers on torchvision's MobileNets."""

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_small
from torchvision.models.detection.ssdlite import _extra_block, _prediction_block

from ssd.model import backbones, extras, factory, levels
from ssd.model.initialise import fit_to_data_
from ssd.model.lite import LiteExtras, predictors
from ssd.multibox.default_boxes import default_boxes
from ssd.settings import Settings

MOBILENETS = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mobilenet_v3_large_reduced")


def lite(backbone: str = "mobilenet_v3_small", size: int = 96, **options: object) -> Settings:
    return factory.settings_for(
        ("a", "b"), input_size=size, backbone=backbone, head="lite", extras_norm="batch", **options
    )


def test_every_level_is_halved_and_rounded_up_to_a_single_cell():
    assert extras.grids(10, halving=True) == (5, 3, 2, 1)
    assert extras.grids(16, halving=True) == (8, 4, 2, 1)
    assert lite(size=320).boxes.grids == (20, 10, 5, 3, 2, 1)
    assert lite(size=300).boxes.grids == (19, 10, 5, 3, 2, 1)
    assert lite("vgg16", size=300, fc_norm="none").boxes.grids == (38, 19, 10, 5, 3, 2, 1)


def test_steps_begin_where_the_backbone_does():
    assert lite(size=320).boxes.steps == (16, 32, 64, 320 / 3, 160, 320)
    assert lite("vgg16", size=300, fc_norm="none").boxes.steps[:2] == (8, 16)


@pytest.mark.parametrize(("name", "channels"), list(zip(MOBILENETS, (576, 288, 672, 672), strict=True)))
def test_the_first_level_is_inside_the_block_that_halves_it(name, channels):
    given = levels.levels(name, 96, expansion=True)
    assert (given.grids, given.strides, given.channels[0]) == ((6, 3), (16, 32), channels)
    assert given.normalised


def test_tapping_inside_a_block_changes_nothing_behind_it():
    torch.manual_seed(0)
    images = torch.randn(1, 3, 96, 96)
    for name, whole in (("mobilenet_v2", mobilenet_v2()), ("mobilenet_v3_small", mobilenet_v3_small())):
        ours = backbones.backbone(name, 96, expansion=True).eval()
        ours.load_state_dict({key.removeprefix("features."): x for key, x in whole.state_dict().items()}, strict=False)
        with torch.no_grad():
            inside, last = ours(images)
            torch.testing.assert_close(last, whole.eval().features(images))
        assert inside.shape[-1] == 6


def test_a_backbone_without_such_a_block_keeps_its_levels():
    assert lite("resnet18").boxes.grids == (12, 6, 3, 2, 1)
    assert levels.levels("resnet18", 96, expansion=True) == levels.levels("resnet18", 96)


def test_layers_have_torchvisions_shapes():
    norm = lambda channels: nn.BatchNorm2d(channels, eps=1e-3)  # noqa: E731
    ours, theirs = LiteExtras(48, 10), [_extra_block(48, 512, norm), _extra_block(512, 256, norm)]
    shapes = [tuple(x.shape) for x in ours.state_dict().values()]
    assert shapes[: 2 * 18] == [tuple(x.shape) for block in theirs for x in block.state_dict().values()]
    (head,) = predictors([48], [24])
    block = _prediction_block(48, 24, 3, norm)
    assert [tuple(x.shape) for x in head.state_dict().values()] == [tuple(x.shape) for x in block.state_dict().values()]
    assert ours.out_channels == [512, 256, 256, 128]
    assert LiteExtras(48, 40).out_channels == [512, 256, 256, 128, 128, 128]


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_predictions_fit_the_default_boxes_with_any_norm(norm):
    settings = factory.settings_for(
        ("a",), input_size=96, backbone="mobilenet_v3_small", head="lite", extras_norm=norm, levels=(6, 3, 2)
    )
    network = factory.from_settings(settings).eval()
    with torch.no_grad():
        found = network(torch.zeros(2, 3, 96, 96))
    assert found.offsets.shape == (2, len(default_boxes(settings.boxes)), 4)
    assert found.logits.shape[2] == 2


def test_new_layers_fitted_to_data_say_something_of_sensible_size():
    torch.manual_seed(0)
    network = factory.from_settings(lite())
    fresh = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    images = torch.randn(4, 3, 96, 96)
    fit_to_data_(network, images, fresh)
    with torch.no_grad():
        found = network(images)
    assert 0.02 < found.logits.std() < 0.5
    assert 0.02 < found.offsets.std() < 0.5


def test_parameters_of_the_published_network():
    """torchvision's meta: 3,440,060 parameters with 91 classes."""
    settings = factory.settings_for(
        tuple(map(str, range(90))),
        input_size=320,
        backbone="mobilenet_v3_large_reduced",
        head="lite",
        extras_norm="batch",
        ratios=((2.0, 3.0),) * 6,
    )
    with torch.device("meta"):
        network = factory.from_settings(settings)
    assert sum(x.numel() for x in network.parameters()) == 3_440_060
