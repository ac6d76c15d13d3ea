"""qfgaohao's and lufficc's MobileNet detectors, written down plainly from the layout of their modules."""

from collections.abc import Sequence
from itertools import pairwise, product
from math import sqrt

import torch
from torch import Tensor, nn

V2_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
EXTRAS = ((1280, 512, 0.2), (512, 256, 0.25), (256, 256, 0.5), (256, 64, 0.25))


class Block(nn.Module):
    """An inverted residual; `flat` puts all of its layers into one list, else each convolution has its own."""

    def __init__(self, inputs: int, outputs: int, stride: int, ratio: float, *, flat: bool) -> None:
        super().__init__()
        hidden = round(inputs * ratio)
        triples = [] if ratio == 1 else [triple(inputs, hidden, 1)]
        triples.append(triple(hidden, hidden, 3, stride, groups=hidden))
        last = [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        layers = [layer for layers in triples for layer in layers] if flat else triples
        self.conv = nn.Sequential(*layers, *last)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


def triple(inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


def mobilenet_v2(*, flat: bool) -> nn.Sequential:
    layers: list[nn.Module] = [triple(3, 32, 3, 2)]
    inputs = 32
    for ratio, outputs, count, stride in V2_BLOCKS:
        for index in range(count):
            layers.append(Block(inputs, outputs, 1 if index else stride, ratio, flat=flat))
            inputs = outputs
    return nn.Sequential(*layers, triple(inputs, 1280, 1))


def mobilenet_v1() -> nn.Sequential:
    def conv(inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
        first = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
        return [first, nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [nn.Sequential(*conv(3, 32, 3, 2))]
    channels = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for place, (inputs, outputs) in enumerate(pairwise(channels)):
        stride = 2 if place in (1, 3, 5, 11) else 1
        layers.append(nn.Sequential(*conv(inputs, inputs, 3, stride, inputs), *conv(inputs, outputs, 1)))
    return nn.Sequential(*layers)


def separable(inputs: int, outputs: int) -> nn.Sequential:
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
    return nn.Sequential(depthwise, nn.BatchNorm2d(inputs), nn.ReLU6(), nn.Conv2d(inputs, outputs, 1))


def lite_heads(channels: Sequence[int], outputs: int) -> list[nn.Module]:
    return [*(separable(c, 6 * outputs) for c in channels[:-1]), nn.Conv2d(channels[-1], 6 * outputs, 1)]


class Qfgaohao(nn.Module):
    """`mb1-ssd`, or `mb2-ssd-lite`."""

    def __init__(self, outputs: int, *, lite: bool) -> None:
        super().__init__()
        self.lite = lite
        self.base_net = mobilenet_v2(flat=True) if lite else mobilenet_v1()
        if lite:
            self.extras = nn.ModuleList(Block(i, o, 2, ratio, flat=True) for i, o, ratio in EXTRAS)
            channels = (576, 1280, 512, 256, 256, 64)
            heads = [lite_heads(channels, columns) for columns in (4, outputs)]
        else:
            widths = ((1024, 256, 512), (512, 128, 256), (256, 128, 256), (256, 128, 256))
            self.extras = nn.ModuleList(
                nn.Sequential(nn.Conv2d(i, n, 1), nn.ReLU(), nn.Conv2d(n, o, 3, 2, 1), nn.ReLU()) for i, n, o in widths
            )
            channels = (512, 1024, 512, 256, 256, 256)
            heads = [[nn.Conv2d(c, 6 * columns, 3, padding=1) for c in channels] for columns in (4, outputs)]
        self.regression_headers, self.classification_headers = map(nn.ModuleList, heads)

    def levels(self, x: Tensor) -> list[Tensor]:
        sources = []
        for place, layer in enumerate(self.base_net):
            if self.lite and place == 14:
                x = layer.conv[:3](x)
                sources.append(x)
                x = layer.conv[3:](x)
            else:
                x = layer(x)
            if not self.lite and place == 11:
                sources.append(x)
        sources.append(x)
        for layer in self.extras:
            sources.append(x := layer(x))
        return sources

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sources = self.levels(x)
        return flattened(self.regression_headers, sources, 4), flattened(self.classification_headers, sources, 0)


class Lufficc(nn.Module):
    """MobileNet v2 with separable heads."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.features = mobilenet_v2(flat=False)
        self.backbone.extras = nn.ModuleList(Block(i, o, 2, ratio, flat=False) for i, o, ratio in EXTRAS)
        self.box_head = nn.Module()
        self.box_head.predictor = nn.Module()
        for name, columns in (("reg_headers", 4), ("cls_headers", outputs)):
            *inner, last = lite_heads((96, 1280, 512, 256, 256, 64), columns)
            wrapped = [nn.Module() for _ in inner]
            for module, layers in zip(wrapped, inner, strict=True):
                module.conv = layers
                module.forward = layers.forward
            setattr(self.box_head.predictor, name, nn.ModuleList([*wrapped, last]))

    def levels(self, x: Tensor) -> list[Tensor]:
        x = self.backbone.features[:14](x)
        sources = [x]
        x = self.backbone.features[14:](x)
        sources.append(x)
        for layer in self.backbone.extras:
            sources.append(x := layer(x))
        return sources

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sources, heads = self.levels(x), self.box_head.predictor
        return flattened(heads.reg_headers, sources, 4), flattened(heads.cls_headers, sources, 0)


def flattened(heads: nn.ModuleList, sources: list[Tensor], columns: int) -> Tensor:
    """(B, K, columns); 0 columns: as many as six boxes a cell leave."""
    maps = [head(source).permute(0, 2, 3, 1) for head, source in zip(heads, sources, strict=True)]
    columns = columns or maps[0].shape[-1] // 6
    return torch.cat([m.reshape(len(m), -1, columns) for m in maps], dim=1)


@torch.no_grad()
def randomised(network: nn.Module, size: int) -> nn.Module:
    """Random BatchNorms with the statistics of noise, and biases that are not zero."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            layer.weight.uniform_(0.7, 1.3)
            layer.bias.normal_(std=0.2)
    network.train()(torch.randn(2, 3, size, size))
    return network.eval()


def priors(size: int, grids: Sequence[int]) -> Tensor:
    """Centre-form priors, every number cut to 0..1."""
    steps, small = (16, 32, 64, 100, 150, 300), (60, 105, 150, 195, 240, 285)
    found = []
    for grid, step, least in zip(grids, steps, small, strict=True):
        for row, column in product(range(grid), repeat=2):
            x, y, side = (column + 0.5) * step / size, (row + 0.5) * step / size, least / size
            middle = sqrt(least * (least + 45)) / size
            found += [[x, y, side, side], [x, y, middle, middle]]
            for root in (sqrt(2), sqrt(3)):
                found += [[x, y, side * root, side / root], [x, y, side / root, side * root]]
    return torch.tensor(found).clamp(0, 1)
