"""The adapter: what is cut out of torchvision's and timm's networks, and which levels come of it."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from ssd.errors import ConfigError, MissingExtraError
from ssd.model import backbones, factory, levels, timm_backbones
from ssd.model.initialise import fit_to_data_
from ssd.model.vgg import L2Norm
from ssd.multibox.default_boxes import default_boxes

needs_timm = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("timm"), reason="timm (extra `backbones`) is not installed"
)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "alexnet"])
def test_levels_are_what_the_library_computes_there(name: str) -> None:
    torch.manual_seed(0)
    baseline = torchvision.models.get_model(name).eval()
    ours = backbones.backbone(name, 96).eval()
    state = {key.removeprefix("features."): value for key, value in baseline.state_dict().items()}
    ours.load_state_dict({key: state[key] for key in ours.state_dict()})
    nodes = create_feature_extractor(baseline, list(backbones.TORCHVISION[name].taps))
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        for level, theirs in zip(ours(images), nodes(images).values(), strict=True):
            assert torch.equal(level, theirs)


# The other ResNets are cut at the same layers.
FAST = ("alexnet", "googlenet", "inception_v3", "resnet18", "mobilenet_v3_large")


@pytest.mark.parametrize("size", [300, 320])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in backbones.TORCHVISION]
)
def test_taps_are_where_the_stride_is_8_16_and_32(name: str, size: int) -> None:
    given = levels.levels(name, size)
    for grid, stride in zip(given.grids, given.strides, strict=True):
        assert 0.8 * size / stride <= grid <= size / stride + 1
    assert given.strides == (8, 16, 32)[: len(given.grids)]


def test_extra_layers_make_up_six_levels_at_300() -> None:
    assert factory.settings_for(("a",), input_size=300, backbone="resnet18").boxes.grids == (38, 19, 10, 5, 3, 1)
    assert factory.settings_for(("a",), input_size=300, backbone="alexnet").boxes.grids == (36, 17, 9, 5, 3, 1)
    assert factory.settings_for(("a",), input_size=300, backbone="inception_v3").boxes.grids == (35, 17, 8, 4, 2, 1)


def test_default_boxes_stand_a_stride_apart_where_the_cells_cover_the_image() -> None:
    padded = factory.settings_for(("a",), input_size=300, backbone="resnet18").boxes
    assert padded.steps == (8, 16, 32, 64, 100, 300)


@pytest.mark.parametrize("name", ["inception_v3", "alexnet"])
def test_default_boxes_of_a_network_without_padding_are_spread_over_the_whole_image(name: str) -> None:
    boxes = factory.settings_for(("a",), input_size=300, backbone=name).boxes
    assert boxes.steps[:2] == (300 / boxes.grids[0], 300 / boxes.grids[1])
    tiled = default_boxes(boxes)
    centres = (tiled[:, :2] + tiled[:, 2:]) / 2
    torch.testing.assert_close(centres.mean(dim=0), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(
    ("name", "normalised"),
    [("alexnet", False), ("densenet121", False), ("resnet18", True), ("googlenet", True), ("mobilenet_v2", True)],
)
def test_the_first_level_is_l2_normalised_where_its_features_are_not(name: str, normalised: bool) -> None:
    assert levels.levels(name, 128).normalised is normalised
    settings = factory.settings_for(("a",), input_size=128, backbone=name)
    assert settings.network.first_level_norm == ("none" if normalised else "l2")
    with torch.device("meta"):
        network = factory.from_settings(settings)
    assert isinstance(network.first_norm, nn.Identity if normalised else L2Norm)


@pytest.mark.parametrize(
    ("name", "smallest"), [("resnet18", 64), pytest.param("inception_v3", 75, marks=pytest.mark.slow)]
)
def test_every_backbone_states_its_smallest_input(name: str, smallest: int) -> None:
    assert levels.smallest_input(name) == smallest
    factory.settings_for(("a",), input_size=smallest, backbone=name)
    with pytest.raises(ConfigError, match=rf"{smallest - 1} pixels are too few for {name}. Use {smallest} or more."):
        factory.settings_for(("a",), input_size=smallest - 1, backbone=name)


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize("name", backbones.TIMM)
def test_inceptions_of_timm_state_their_smallest_input(name: str) -> None:
    assert levels.smallest_input(name) == 75
    with pytest.raises(ConfigError, match=r"Use 75 or more."):
        factory.settings_for(("a",), input_size=74, backbone=name)


def test_aliases_name_what_is_kept() -> None:
    assert set(backbones.ALIASES.values()) <= set(backbones.TORCHVISION)
    assert levels.levels("inception_v2", 128) == levels.levels("googlenet", 128)


def test_looking_at_a_network_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    levels.levels.cache_clear()
    levels._on_meta.cache_clear()
    levels.levels("resnet18", 128)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_library_backbone_comes_in_its_own_width_alone() -> None:
    with pytest.raises(ConfigError, match=r"model.width: 0.5: resnet18 comes in its own width alone"):
        factory.settings_for(("a",), input_size=128, backbone="resnet18", width=0.5)


def test_auxiliary_heads_speak_in_training_and_are_silent_in_evaluation() -> None:
    settings = factory.settings_for(("a", "b", "c"), input_size=128, backbone="googlenet")
    network = factory.from_settings(settings, auxiliary=True)
    images = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        network.train()(images)
        assert [logits.shape for logits in network.backbone.presence] == [(2, 3), (2, 3)]
        network.eval()(images)
    assert network.backbone.presence == []
    network.train()(images)
    assert copy.deepcopy(network).backbone.presence == []  # what hangs on a graph is not copied
    plain = factory.from_settings(settings)
    assert plain.state_dict().keys() == {key for key in network.state_dict() if "auxiliary" not in key}


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "inception_v2"])
def test_auxiliary_heads_are_where_their_inventors_put_them(name: str) -> None:
    settings = factory.settings_for(("a",), input_size=128, backbone=name)
    if name == "inception_v2":
        heads = factory.from_settings(settings, auxiliary=True).backbone.auxiliary
        assert set(heads) == {"inception4a", "inception4d"}
        return
    with pytest.raises(ConfigError, match=r"loss.auxiliary_weight: .* has no auxiliary heads"):
        factory.from_settings(settings, auxiliary=True)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_backbone_from_scratch_fitted_to_data_says_something_of_sensible_size(name: str) -> None:
    torch.manual_seed(0)
    network = factory.from_settings(factory.settings_for(("a", "b"), input_size=96, backbone=name))
    fresh = [key for key, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    images = torch.randn(8, 3, 96, 96)
    fit_to_data_(network, images, fresh)
    with torch.no_grad():
        predictions = network.train()(images)
    assert float(predictions.logits.std()) < 0.5
    assert float(predictions.offsets.std()) < 0.5


@needs_timm
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_coatnet"])
def test_any_timm_name_with_feature_taps_works(name: str) -> None:
    settings = factory.settings_for(("a", "b"), input_size=128, backbone=name)
    network = factory.from_settings(settings)
    predictions = network(torch.randn(2, 3, 128, 128))
    assert predictions.offsets.shape[:2] == (2, len(default_boxes(settings.boxes)))


@needs_timm
@pytest.mark.slow
def test_transformers_of_timm_are_built_for_the_input_size() -> None:
    name = "swin_tiny_patch4_window7_224"
    settings = factory.settings_for(("a",), input_size=160, backbone=name)
    assert settings.boxes.grids[:3] == (20, 10, 5)
    with torch.device("meta"):
        network = factory.from_settings(settings)
    network.load_state_dict(factory.from_settings(settings).state_dict(), assign=True)
    assert torch.isfinite(network.eval()(torch.randn(1, 3, 160, 160)).logits).all()


@needs_timm
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_vit", "gives features at strides 16. SSD needs strides 8 and 16"),
        ("resnet81", "no backbone 'resnet81'. Did you mean resnet18"),
        ("qqqqqqqq", "no backbone 'qqqqqqqq'. Take a VGG"),
    ],
)
def test_a_name_that_is_no_backbone_is_explained(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        factory.settings_for(("a",), input_size=128, backbone=name)


@needs_timm
def test_a_size_that_a_network_cannot_take_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"test_coatnet cannot take 150 pixels .*Try a multiple of 32"):
        factory.settings_for(("a",), input_size=150, backbone="test_coatnet")


def test_without_timm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"ssd-vgg\[backbones\]"):
        timm_backbones.module("inception_v4")


def test_a_line_in_the_table_adds_a_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of CONTRIBUTING."""
    monkeypatch.setitem(backbones.TORCHVISION, "squeezenet1_1", backbones.FeatureTaps(("features.7", "features.12")))
    settings = factory.settings_for(("a", "b"), input_size=128, backbone="squeezenet1_1")
    assert settings.network.first_level_norm == "l2"  # SqueezeNet has no BatchNorm
    network = factory.from_settings(settings)
    predictions = network(torch.randn(1, 3, 128, 128))
    assert predictions.offsets.shape[1] == len(default_boxes(settings.boxes))
