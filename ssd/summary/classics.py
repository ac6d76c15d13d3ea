"""Classic networks for the summary that are not backbones of SSD.

Each is built from plain layers in the order in which they run, with the sizes of its paper.
"""

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

from ssd.model import vgg


def lenet(num_classes: int = 10, channels: int = 1) -> nn.Sequential:
    """LeNet-5 for 28 x 28 digits, with every map of C3 connected to all of S2 (LeCun et al. 1998 connect some)."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=2),
            sigmoid1=nn.Sigmoid(),
            pool2=nn.AvgPool2d(2),
            conv3=nn.Conv2d(6, 16, 5),
            sigmoid3=nn.Sigmoid(),
            pool4=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            fc5=nn.Linear(16 * 5 * 5, 120),
            sigmoid5=nn.Sigmoid(),
            fc6=nn.Linear(120, 84),
            sigmoid6=nn.Sigmoid(),
            fc7=nn.Linear(84, num_classes),
        )
    )


def network_in_network(num_classes: int = 1000, channels: int = 3) -> nn.Sequential:
    """Network in Network (Lin, Chen, Yan 2013): each convolution is followed by two of 1x1, without dense layers.

    It has the ImageNet sizes that its authors published; the score of a class is the mean of its last feature map.
    """
    blocks = ((96, 11, 4, 0), (256, 5, 1, 2), (384, 3, 1, 1), (1024, 3, 1, 1))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (width, kernel, stride, padding) in enumerate(blocks, start=1):
        last = num_classes if number == len(blocks) else width
        if number == len(blocks):
            layers["dropout"] = nn.Dropout(0.5)
        layers[f"conv{number}"] = nn.Conv2d(channels, width, kernel, stride, padding)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        for step, outputs in (("a", width), ("b", last)):
            layers[f"pointwise{number}{step}"] = nn.Conv2d(width, outputs, 1)
            layers[f"relu{number}{step}"] = nn.ReLU(inplace=True)
        if number < len(blocks):
            layers[f"pool{number}"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        channels = last
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers)


def vgg11_lrn(num_classes: int = 1000, channels: int = 3) -> nn.Sequential:
    """VGG's configuration A-LRN: A with local response normalisation after its first layer (table 1 of its paper).

    It did not help, so the deeper configurations do without it (section 4.1).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in vgg.classifier("vgg11", num_classes=num_classes, channels=channels).named_children():
        layers[name] = layer
        if name == "relu1_1":
            layers["lrn1_1"] = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    return nn.Sequential(layers)


class YOLOv1(nn.Module):
    """You Only Look Once (Redmon et al. 2016), figure 3: 24 convolutions, two dense layers, 7 x 7 cells at 448 pixels.

    Each cell predicts `boxes_per_cell` boxes (x, y, w, h, confidence) and one distribution over classes: 98 boxes,
    where SSD300 has 8732. The dense layers depend on the input size, which determines the grid.
    """

    # Kernel, channels and, if not 1, stride of each convolution; M is a max pooling.
    LAYERS: tuple[str | tuple[int, ...], ...] = (
        *((7, 64, 2), "M", (3, 192), "M"),
        *((1, 128), (3, 256), (1, 256), (3, 512), "M"),
        *((1, 256), (3, 512)) * 4,
        *((1, 512), (3, 1024), "M"),
        *((1, 512), (3, 1024)) * 2,
        *((3, 1024), (3, 1024, 2), (3, 1024), (3, 1024)),
    )

    def __init__(
        self, num_classes: int = 20, channels: int = 3, *, input_size: int = 448, boxes_per_cell: int = 2
    ) -> None:
        super().__init__()
        number, side = 0, input_size
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for layer in self.LAYERS:
            if isinstance(layer, str):
                layers[f"pool{number}"] = nn.MaxPool2d(2)
                side //= 2
                continue
            kernel, outputs, stride = (*layer, 1)[:3]
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(channels, outputs, kernel, stride, kernel // 2)
            layers[f"leaky{number}"] = nn.LeakyReLU(0.1, inplace=True)
            channels, side = outputs, -(-side // stride)
        self.grid = side
        self.boxes = boxes_per_cell * side**2
        outputs = side**2 * (5 * boxes_per_cell + num_classes)
        layers["flatten"] = nn.Flatten()
        layers["fc25"] = nn.Linear(channels * side**2, 4096)
        layers["leaky25"] = nn.LeakyReLU(0.1, inplace=True)
        layers["dropout25"] = nn.Dropout(0.5)
        layers["fc26"] = nn.Linear(4096, outputs)
        self.layers = nn.Sequential(layers)

    def forward(self, images: Float[Tensor, "B _ S S"]) -> Float[Tensor, "B _ _ _"]:
        """The predictions of each cell: its boxes one after the other, then its classes."""
        flat: Tensor = self.layers(images)
        return flat.view(len(images), self.grid, self.grid, -1)
