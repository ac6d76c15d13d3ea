import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from ssd.errors import ConfigError, MissingExtraError
from ssd.model import extras, factory, vgg
from ssd.model.initialise import caffe_, fit_to_data_
from ssd.model.ssd import SSD
from ssd.model.vgg import VGG, L2Norm


def small(size: int = 64, **numbers: object) -> SSD:
    return factory.from_settings(factory.settings_for(("a", "b"), input_size=size, width=0.1, **numbers))  # type: ignore[arg-type]


def test_ssd300_has_as_many_parameters_as_torchvisions() -> None:
    network = factory.from_settings(factory.settings_for(tuple("c" + str(i) for i in range(90)), input_size=300))
    assert sum(p.numel() for p in network.parameters()) == 35_641_826


def test_levels_are_those_of_the_paper() -> None:
    assert vgg.grids(300) == (38, 19)
    assert extras.grids(19) == (10, 5, 3, 1)
    assert vgg.grids(512) == (64, 32)
    assert extras.grids(32) == (16, 8, 4, 2, 1)


@pytest.mark.parametrize("size", [64, 75, 127, 130, 300])
def test_grids_are_what_the_network_gives(size: int) -> None:
    backbone = VGG(width=0.05)
    with torch.no_grad():
        first, last = backbone(torch.zeros(1, 3, size, size))
    assert (first.shape[-1], last.shape[-1]) == vgg.grids(size)


def test_the_surgery_is_the_papers() -> None:
    backbone = VGG()
    layers = dict(backbone.named_children())
    assert layers["pool3"].ceil_mode
    assert (layers["pool5"].kernel_size, layers["pool5"].stride, layers["pool5"].padding) == (3, 1, 1)
    conv6, conv7 = layers["conv6"], layers["conv7"]
    assert (conv6.kernel_size, conv6.dilation, conv6.padding, conv6.out_channels) == ((3, 3), (6, 6), (6, 6), 1024)
    assert (conv7.kernel_size, conv7.out_channels) == ((1, 1), 1024)
    assert not any(isinstance(layer, nn.Dropout | nn.Linear) for layer in backbone.modules())


def test_convolutions_equal_torchvisions_vgg16_with_the_same_weights() -> None:
    baseline = torchvision.models.vgg16(weights=None).features.eval()
    ours = VGG()
    theirs = [layer for layer in baseline if isinstance(layer, nn.Conv2d)]
    mine = [layer for name, layer in ours.named_children() if name.startswith("conv")][:13]
    for to, source in zip(mine, theirs, strict=True):
        to.load_state_dict(source.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        conv4_3, _ = ours(images)
        assert torch.equal(conv4_3, baseline[:23](images))


def test_the_norm_touches_the_heads_branch_alone() -> None:
    network = small()
    seen = {}
    network.extras.register_forward_hook(lambda _, inputs, __: seen.update(last=inputs[0].clone()))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = network(images)
        first = seen["last"]
        network.first_norm.scale.mul_(3)
        after = network(images)
    assert torch.equal(first, seen["last"])
    level0 = 8 * 8 * 4
    assert not torch.equal(before.logits[:, :level0], after.logits[:, :level0])
    assert torch.equal(before.logits[:, level0:], after.logits[:, level0:])


def test_l2_norm_gives_every_cell_length_20_and_keeps_a_zero_cell_zero() -> None:
    features = torch.randn(2, 16, 3, 3) * 50
    features[0, :, 1, 1] = 0
    normed = L2Norm(16)(features)
    lengths = normed.norm(dim=1)
    assert lengths[0, 1, 1] == 0
    torch.testing.assert_close(lengths[1], torch.full((3, 3), 20.0))
    assert torch.isfinite(normed).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_l2_norm_in_any_format_is_the_formula_in_double_up_to_its_last_digits(dtype: torch.dtype) -> None:
    features = torch.randn(2, 32, 5, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    features[0, :, 0, 0] = 0
    layer = L2Norm(32, scale=19.37)
    exact = 19.37 * F.normalize(features.double(), dim=1)
    normed = layer(features)
    assert normed.dtype == dtype
    torch.testing.assert_close(normed.double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=1e-4)
    normed.float().square().sum().backward()
    assert layer.scale.grad is not None
    assert layer.scale.grad.isfinite().all()


def test_training_and_evaluation_give_the_same_kind_of_output() -> None:
    network = small()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        training = network.train()(images)
        evaluating = network.eval()(images)
    assert torch.equal(training.logits, evaluating.logits)
    assert torch.equal(training.offsets, evaluating.offsets)


def test_fan_in_xavier_is_caffes() -> None:
    conv = nn.Conv2d(512, 100, 3)
    caffe_(conv)
    bound = (3 / (512 * 9)) ** 0.5
    assert conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert conv.bias is not None
    assert (conv.bias == 0).all()


def test_fresh_layers_fitted_to_data_say_something_of_sensible_size() -> None:
    network = small(128)
    caffe_(network)
    with torch.no_grad():
        network.backbone.conv5_3.weight.mul_(1e4)  # pretrained features are hundreds, not ones
    convolutions = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    fresh = convolutions[convolutions.index("backbone.conv6") :]
    images = torch.randn(8, 3, 128, 128)
    fit_to_data_(network, images, fresh)
    seen = {}
    network.backbone.conv6.register_forward_hook(lambda _, __, out: seen.update(conv6=out.clone()))
    with torch.no_grad():
        predictions = network(images)
    spread = seen["conv6"].transpose(0, 1).flatten(1)
    torch.testing.assert_close(spread.mean(1), torch.zeros(len(spread)), atol=1e-3, rtol=0)
    torch.testing.assert_close(spread.std(1), torch.ones(len(spread)), atol=1e-3, rtol=0)
    assert float(predictions.logits.std()) < 0.3
    assert float(predictions.offsets.std()) < 0.3


def test_batchnorm_and_width_make_a_small_network() -> None:
    network = small(96, backbone="vgg16_bn", extras_norm="batch")
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    assert norms == 15 + 4  # 13 + conv6 + conv7, and two pairs of extra layers
    assert sum(p.numel() for p in network.parameters()) < 1_000_000


def test_every_parameter_gets_a_gradient() -> None:
    network = small()
    predictions = network(torch.randn(2, 3, 64, 64))
    (predictions.logits.sum() + predictions.offsets.sum()).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_an_unknown_backbone_and_a_tiny_input_are_named() -> None:
    with pytest.raises((ConfigError, MissingExtraError), match="vgg61"):  # without timm nobody can tell
        factory.settings_for(("a",), input_size=300, backbone="vgg61")
    with pytest.raises(ConfigError, match="63 pixels"):
        factory.settings_for(("a",), input_size=63)
