"""The layers after conv7 that make ever coarser levels, down to a single cell."""

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

from ssd.model.vgg import scaled


def grids(conv7_grid: int) -> tuple[int, ...]:
    """Sides of the extra levels: halved while above 5, then 5 -> 3 -> 1 unpadded, or 4 -> 2 -> 1.

    300: 10 5 3 1. 512: 16 8 4 2 1.
    """
    out = []
    grid = conv7_grid
    while grid > 1:
        kernel, stride, padding = _shrink(grid)
        grid = (grid + 2 * padding - kernel) // stride + 1
        out.append(grid)
    return tuple(out)


def _shrink(grid: int) -> tuple[int, int, int]:
    """Kernel, stride and padding of the convolution that shrinks a level of this side."""
    if grid in (3, 5):
        return 3, 1, 0
    if grid == 2:
        return 4, 1, 1  # conv12 of SSD512
    return 3, 2, 1


class Extras(nn.Module):
    """Pairs of convolutions `conv8_1`, `conv8_2`, `conv9_1` ...: 1x1 to fewer channels, then one that shrinks.

    The original calls them conv6_1 ... conv9_2; the numbers here follow on from conv7, as in the paper's figure 2.
    """

    def __init__(self, in_channels: int, conv7_grid: int, *, norm: str = "none", width: float = 1.0) -> None:
        super().__init__()
        self.out_channels: list[int] = []
        self.count = 0
        grid, channels = conv7_grid, in_channels
        for number, after in enumerate(grids(conv7_grid), start=8):
            narrow, wide = (scaled(c, width) for c in ((256, 512) if number == 8 else (128, 256)))
            kernel, stride, padding = _shrink(grid)
            self._add(f"{number}_1", nn.Conv2d(channels, narrow, 1, bias=norm == "none"), norm)
            shrink = nn.Conv2d(narrow, wide, kernel, stride=stride, padding=padding, bias=norm == "none")
            self._add(f"{number}_2", shrink, norm)
            self.out_channels.append(wide)
            grid, channels = after, wide

    def _add(self, name: str, conv: nn.Conv2d, norm: str) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict([(f"conv{name}", conv)])
        if norm == "batch":
            layers[f"norm{name}"] = nn.BatchNorm2d(conv.out_channels)
        layers[f"relu{name}"] = nn.ReLU(inplace=True)
        for key, layer in layers.items():
            self.add_module(key, layer)

    def forward(self, features: Float[Tensor, "B c h w"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Every extra level, fine first."""
        levels = []
        for name, layer in self.named_children():
            features = layer(features)
            if name.startswith("relu") and name.endswith("_2"):
                levels.append(features)
        return levels
