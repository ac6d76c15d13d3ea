import pytest
import torch
import torchvision
from torch import nn

from ssd.model import vgg
from ssd.model.predictor import Predictor
from ssd.summary import classics
from ssd.summary.layers import Field, survey


def on_meta(make) -> nn.Module:
    with torch.device("meta"):
        return make()


def test_every_layer_is_counted_by_hand() -> None:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2),  # 16 -> 8
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),  # 4
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4, bias=False),
            nn.Flatten(),
            nn.Linear(8 * 16, 10),
        )

    counted = survey(on_meta(make), (1, 3, 16, 16))
    rows = [(row.shape, row.parameters, row.multiply_adds, row.field) for row in counted.rows]
    assert rows == [
        ((1, 8, 8, 8), 3 * 8 * 25 + 8, 64 * 8 * 3 * 25, Field(5, 2)),
        ((1, 8, 8, 8), 0, 0, Field(5, 2)),
        ((1, 8, 4, 4), 0, 0, Field(7, 4)),
        ((1, 8, 4, 4), 8 * 2 * 9, 16 * 8 * 2 * 9, Field(7 + 4 * 4, 4)),
        ((1, 128), 0, 0, Field(23 + 3 * 4, 16)),
        ((1, 10), 1290, 1280, Field(35, 16)),
    ]
    assert counted.parameters == sum(row.parameters for row in counted.rows)


def test_a_convolution_that_predicts_is_listed_as_a_convolution() -> None:
    (row,) = survey(on_meta(lambda: Predictor(8, 4)), (1, 8, 5, 5)).rows
    assert (row.kind, row.multiply_adds) == ("Conv2d", 25 * 9 * 8 * 4)


def test_the_receptive_field_is_where_a_gradient_comes_from() -> None:
    network = VggHead().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()  # nothing cancels, no ReLU dies
    image = torch.rand(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    out = network(image)
    out[0, :, 8, 8].sum().backward()
    columns = image.grad.abs().sum(dim=(0, 1, 2)).nonzero()
    side = int(columns.max() - columns.min()) + 1
    assert survey(on_meta(VggHead), (1, 3, 128, 128)).rows[-1].field == Field(side, 8)


class VggHead(nn.Sequential):
    """The first three stages of VGG11 with average pools, which let gradients through everywhere."""

    def __init__(self) -> None:
        stages = [(3, 4), (4, 4), (4, 4)]
        super().__init__(*(nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.AvgPool2d(2)) for i, o in stages))


def test_branches_take_the_wider_field() -> None:
    block = torchvision.models.googlenet  # its Inception blocks have 1x1, 3x3 and pool branches

    def make() -> nn.Module:
        return block(aux_logits=False, init_weights=False).inception3a

    counted = survey(on_meta(make), (1, 192, 28, 28))
    assert counted.rows[-1].shape == (1, 32, 28, 28)
    assert max(row.field.size for row in counted.rows) == 3


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v3_large", "swin_t"])
def test_counts_are_those_that_torchvision_publishes(name: str) -> None:
    published = torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta
    counted = survey(on_meta(lambda: torchvision.models.get_model(name)))
    assert counted.parameters == published["num_params"]
    assert counted.multiply_adds / 1e9 == pytest.approx(published["_ops"], abs=6e-4)


def test_a_layer_that_runs_twice_is_weighed_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(images))

    counted = survey(on_meta(Twice), (1, 3, 4, 4))
    assert [row.parameters for row in counted.rows] == [12, 0]
    assert counted.parameters == 12
    assert counted.multiply_adds == 2 * 9 * 16


def test_a_network_is_left_in_its_mode_and_without_hooks() -> None:
    network = on_meta(lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout())).train()
    survey(network, (1, 3, 4, 4))
    assert network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_shapes_of_vgg11_for_grey_images_are_the_documents() -> None:
    network = on_meta(lambda: vgg.classifier("vgg11", num_classes=10, channels=1))
    shapes = {row.name: row.shape for row in survey(network, (1, 1, 224, 224)).rows}
    assert [shapes[f"pool{stage}"] for stage in range(1, 6)] == [
        (1, 64, 112, 112),
        (1, 128, 56, 56),
        (1, 256, 28, 28),
        (1, 512, 14, 14),
        (1, 512, 7, 7),
    ]
    rest = ("flatten", "fc6", "relu6", "dropout6", "fc7", "relu7", "dropout7", "fc8")
    assert [shapes[name] for name in rest] == [(1, 25088), *[(1, 4096)] * 6, (1, 10)]


@pytest.mark.parametrize(
    ("make", "shape", "parameters"),
    [
        # C3 fully connected: 16 x 6 x 25 + 16 where the paper's table 1 has 1516.
        (classics.lenet, (1, 1, 28, 28), 61_706),
        (classics.network_in_network, (1, 3, 224, 224), 7_595_176),
        (classics.vgg11_lrn, (1, 3, 224, 224), 132_863_336),
        (classics.YOLOv1, (1, 3, 448, 448), 271_703_550),
    ],
)
def test_networks_of_history_have_their_parameters(make, shape: tuple[int, ...], parameters: int) -> None:
    assert survey(on_meta(make), shape).parameters == parameters


def test_yolo_says_98_boxes_on_7_by_7_cells() -> None:
    network = on_meta(classics.YOLOv1)
    assert network.boxes == 98
    assert network(torch.zeros(2, 3, 448, 448, device="meta")).shape == (2, 7, 7, 30)
    smaller = on_meta(lambda: classics.YOLOv1(input_size=300))
    assert smaller(torch.zeros(1, 3, 300, 300, device="meta")).shape == (1, 5, 5, 30)


def test_yolo_has_24_convolutions_and_two_dense_layers() -> None:
    kinds = [type(layer) for layer in on_meta(classics.YOLOv1).modules()]
    assert (kinds.count(nn.Conv2d), kinds.count(nn.Linear)) == (24, 2)


def test_network_in_network_has_nothing_dense_and_two_pointwise_layers_after_each_convolution() -> None:
    layers = [layer for layer in on_meta(classics.network_in_network).modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size[0] for layer in layers] == [11, 1, 1, 5, 1, 1, 3, 1, 1, 3, 1, 1]


def test_a_lrn_differs_from_a_by_one_layer_without_weights() -> None:
    plain, lrn = (on_meta(make) for make in (lambda: vgg.classifier("vgg11"), classics.vgg11_lrn))
    names = [name for name, _ in lrn.named_children()]
    assert names[:4] == ["conv1_1", "relu1_1", "lrn1_1", "pool1"]
    assert [name for name in names if name != "lrn1_1"] == [name for name, _ in plain.named_children()]
