from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from ssd.model import vgg
from ssd.model.vgg import VGG
from ssd.weights.imagenet.vgg import vgg16_backbone_state


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "count"),  # table 2 of the VGG paper in millions: 133, 133, 134, 138, 144
    [
        ("vgg11", 132_863_336),
        ("vgg13", 133_047_848),
        ("vgg16c", 133_638_952),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
    ],
)
def test_the_whole_network_has_the_papers_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert parameters(vgg.classifier(name)) == count


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
@pytest.mark.parametrize("norm", ["", "_bn"])
def test_the_whole_network_has_as_many_parameters_as_torchvision_publishes(name: str, norm: str) -> None:
    with torch.device("meta"):
        ours = parameters(vgg.classifier(name, batch_norm=bool(norm)))
    weights = torchvision.models.get_model_weights(name + norm)
    assert ours == weights.IMAGENET1K_V1.meta["num_params"]


def test_configuration_c_looks_at_one_pixel_in_the_last_convolution_of_stages_3_to_5() -> None:
    pointwise = [name for name, layer in VGG("vgg16c").named_children() if getattr(layer, "kernel_size", 0) == (1, 1)]
    assert pointwise == ["conv3_3", "conv4_3", "conv5_3", "conv7"]


@pytest.fixture(scope="module")
def whole() -> tuple[nn.Sequential, nn.Module]:
    """Ours and torchvision's VGG16 on the same memory: 553 MB need not lie there twice."""
    baseline = torchvision.models.vgg16(weights=None, init_weights=False).eval()
    with torch.device("meta"):
        ours = vgg.classifier("vgg16").eval()
    state = dict(zip(ours.state_dict(), baseline.state_dict().values(), strict=True))
    ours.load_state_dict(state, assign=True)
    return ours, baseline


def test_the_whole_network_equals_torchvisions_to_the_last_bit(whole: tuple[nn.Sequential, nn.Module]) -> None:
    ours, baseline = whole
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), baseline(images))


@pytest.fixture
def backbones(whole: tuple[nn.Sequential, nn.Module], tmp_path: Path) -> tuple[VGG, VGG]:
    """SSD's backbone of the whole network's weights: with `atrous`, and without."""
    path = tmp_path / "vgg16.pth"
    torch.save(whole[1].state_dict(), path)
    made = VGG(), VGG(atrous=False)
    for atrous, backbone in zip((True, False), made, strict=True):
        state = vgg16_backbone_state(path, atrous=atrous).state
        backbone.load_state_dict({name.removeprefix("backbone."): tensor for name, tensor in state.items()})
    return made


@pytest.mark.slow
def test_a_backbone_keeps_the_whole_networks_convolutions_and_thins_out_fc6_and_fc7(
    whole: tuple[nn.Sequential, nn.Module], backbones: tuple[VGG, VGG]
) -> None:
    backbone, _ = backbones
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        conv4_3, _ = backbone(images)
        assert torch.equal(conv4_3, whole[1].features[:23](images))
    fc6, fc7 = whole[0].get_submodule("fc6"), whole[0].get_submodule("fc7")
    # Unit 5 of conv6 was unit 20 of fc6; its tap (1, 2) of channel 9 was tap (3, 6).
    assert backbone.conv6.weight[5, 9, 1, 2] == fc6.weight[20, 9 * 49 + 3 * 7 + 6]
    assert backbone.conv6.bias[5] == fc6.bias[20]
    assert backbone.conv7.weight[5, 7, 0, 0] == fc7.weight[20, 28]


@pytest.mark.slow
def test_without_atrous_the_middle_cell_is_the_whole_networks_fc7(
    whole: tuple[nn.Sequential, nn.Module], backbones: tuple[VGG, VGG]
) -> None:
    # 224 pixels leave 7x7 cells behind pool5: the window of the middle one is all that fc6 sees.
    _, backbone = backbones
    images = torch.randn(1, 3, 224, 224)
    layers = list(whole[0].named_children())
    until_fc7 = nn.Sequential(*(layer for _, layer in layers[: [name for name, _ in layers].index("relu7") + 1]))
    with torch.no_grad():
        conv4_3, conv5_3, conv7 = backbone(images)
        assert (conv4_3.shape[-1], conv5_3.shape[-1], conv7.shape[-1]) == (28, 14, 7)
        torch.testing.assert_close(conv7[:, :, 3, 3], until_fc7(images), atol=1e-5, rtol=1e-4)
