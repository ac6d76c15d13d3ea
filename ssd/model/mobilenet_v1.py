"""MobileNet v1 (Howard et al. 2017, table 1): no library here has it with the plain ReLU that published SSDs use."""

from collections import OrderedDict
from collections.abc import Iterator

from torch import nn

# Output channels and stride of each depthwise separable block.
_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)


def classifier(num_classes: int = 1000) -> nn.Sequential:
    """The whole classifier; `features` holds the first convolution and the thirteen blocks."""
    blocks = [nn.Sequential(*_convolution(3, 32, side=3, stride=2))]
    inputs = 32
    for outputs, stride in _BLOCKS:
        depthwise = _convolution(inputs, inputs, side=3, stride=stride, groups=inputs)
        blocks.append(nn.Sequential(*depthwise, *_convolution(inputs, outputs, side=1)))
        inputs = outputs
    layers: OrderedDict[str, nn.Module] = OrderedDict(features=nn.Sequential(*blocks))
    layers |= {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(inputs, num_classes)}
    return nn.Sequential(layers)


def _convolution(inputs: int, outputs: int, *, side: int, stride: int = 1, groups: int = 1) -> Iterator[nn.Module]:
    yield nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, groups=groups, bias=False)
    yield nn.BatchNorm2d(outputs)
    yield nn.ReLU(inplace=True)
