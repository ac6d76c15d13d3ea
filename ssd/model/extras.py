"""The layers after conv7, which make coarser and coarser levels, down to a single cell."""

from jaxtyping import Float
from torch import Tensor, nn

from ssd.model.norm import Norm, with_relu
from ssd.model.vgg import scaled


def grids(conv7_grid: int, *, halving: bool = False) -> tuple[int, ...]:
    """Sides of the extra levels: halved while above 5, then 5 -> 3 -> 1 unpadded, or 4 -> 2 -> 1.

    300: 10 5 3 1. 512: 16 8 4 2 1. `halving` halves them all, rounding up: 10 5 3 2 1.
    """
    out = []
    grid = conv7_grid
    while grid > 1:
        kernel, stride, padding = _shrink(grid, halving)
        grid = (grid + 2 * padding - kernel) // stride + 1
        out.append(grid)
    return tuple(out)


def _shrink(grid: int, halving: bool) -> tuple[int, int, int]:
    """Kernel, stride and padding of the convolution that shrinks a level of this side."""
    if halving:
        return 3, 2, 1
    if grid in (3, 5):
        return 3, 1, 0
    if grid == 2:
        return 4, 1, 1  # conv12 of SSD512
    return 3, 2, 1


class Extras(nn.Module):
    """Pairs of convolutions `conv8_1`, `conv8_2`, `conv9_1` ...: 1x1 to fewer channels, then one that shrinks.

    The original calls them conv6_1 ... conv9_2; the numbers here follow on from conv7, as in the paper's figure 2.
    `count` limits the number of pairs, which by default end at a single cell; `first` is the number of the first;
    `halving` is that of `grids`.
    """

    def __init__(
        self,
        in_channels: int,
        conv7_grid: int,
        *,
        norm: Norm = "none",
        width: float = 1.0,
        first: int = 8,
        count: int | None = None,
        halving: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels: list[int] = []
        bias = norm != "batch"  # BatchNorm subtracts the mean of each channel; GroupNorm subtracts that of a group
        grid, channels = conv7_grid, in_channels
        for number, after in enumerate(grids(conv7_grid, halving=halving)[:count], start=first):
            narrow, wide = (scaled(c, width) for c in ((256, 512) if number == 8 else (128, 256)))
            kernel, stride, padding = _shrink(grid, halving)
            fewer = nn.Conv2d(channels, narrow, 1, bias=bias)
            shrink = nn.Conv2d(narrow, wide, kernel, stride=stride, padding=padding, bias=bias)
            for name, layer in (*with_relu(f"{number}_1", fewer, norm), *with_relu(f"{number}_2", shrink, norm)):
                self.add_module(name, layer)
            self.out_channels.append(wide)
            grid, channels = after, wide

    def forward(self, features: Float[Tensor, "B c h w"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Every extra level, fine first."""
        levels = []
        for name, layer in self.named_children():
            features = layer(features)
            if name.startswith("relu") and name.endswith("_2"):
                levels.append(features)
        return levels
