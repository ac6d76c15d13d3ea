"""What amdegroot/ssd.pytorch and lufficc/SSD compute, written down plainly from their documented layout."""

from itertools import product
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

POOLS = (4, 9, 16, 23, 30)


def forward(state: dict[str, Tensor], images: Tensor, outputs: int, size: int) -> tuple[Tensor, Tensor]:
    """Offsets (B, K, 4) and logits (B, K, outputs), from a state dict with amdegroot's names."""

    def conv(name: str, x: Tensor, **how: int) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    x = images
    sources = []
    for place in range(34):
        if place == 23:
            length = x.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10
            sources.append(x / length * state["L2Norm.weight"].view(1, -1, 1, 1))
        if place in POOLS:
            if place == 30:
                x = F.max_pool2d(x, 3, stride=1, padding=1)
            else:
                x = F.max_pool2d(x, 2, stride=2, ceil_mode=place == 16)
        elif f"vgg.{place}.weight" in state:
            how = {31: {"padding": 6, "dilation": 6}, 33: {}}.get(place, {"padding": 1})
            x = F.relu(conv(f"vgg.{place}", x, **how))
    sources.append(x)
    halved, unpadded = {"stride": 2, "padding": 1}, {}
    second = [halved, halved, unpadded, unpadded] if size == 300 else [halved] * 4 + [{"padding": 1}]
    for index, how in enumerate(second):
        x = F.relu(conv(f"extras.{2 * index}", x))
        x = F.relu(conv(f"extras.{2 * index + 1}", x, **how))
        sources.append(x)
    parts = []
    for name, columns in (("loc", 4), ("conf", outputs)):
        maps = [conv(f"{name}.{level}", source, padding=1) for level, source in enumerate(sources)]
        flat = torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1) for m in maps], dim=1)
        parts.append(flat.view(flat.shape[0], -1, columns))
    return parts[0], parts[1]


def decoded(offsets: Tensor, priors: Tensor) -> Tensor:
    """Corners as fractions, from centre-form priors and variances 0.1 and 0.2."""
    centre = priors[:, :2] + offsets[..., :2] * 0.1 * priors[:, 2:]
    sides = priors[:, 2:] * torch.exp(offsets[..., 2:] * 0.2)
    return torch.cat([centre - sides / 2, centre + sides / 2], dim=-1)


def priors(size: int, grids: list[int], steps: list[float], small: list[float], large: list[float]) -> Tensor:
    """Centre-form priors, every number cut to 0..1."""
    out = []
    for level, grid in enumerate(grids):
        ratios = [2] if level == 0 or level >= len(grids) - 2 else [2, 3]
        for i, j in product(range(grid), repeat=2):
            cx, cy = (j + 0.5) * steps[level] / size, (i + 0.5) * steps[level] / size
            s = small[level] / size
            out.append([cx, cy, s, s])
            out.append([cx, cy, sqrt(s * large[level] / size), sqrt(s * large[level] / size)])
            for r in ratios:
                out.append([cx, cy, s * sqrt(r), s / sqrt(r)])
                out.append([cx, cy, s / sqrt(r), s * sqrt(r)])
    return torch.tensor(out).clamp(0, 1)


GRIDS = {300: [38, 19, 10, 5, 3, 1], 512: [64, 32, 16, 8, 4, 2, 1]}
STEPS = {300: [8, 16, 32, 64, 100, 300], 512: [8, 16, 32, 64, 128, 256, 512]}
SIZES = {
    ("voc", 300): [30, 60, 111, 162, 213, 264, 315],
    ("coco", 300): [21, 45, 99, 153, 207, 261, 315],
    ("voc", 512): [35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.65],
    ("coco", 512): [20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72],
}


def priors_of(table: str, size: int) -> Tensor:
    sizes = SIZES[table, size]
    return priors(size, GRIDS[size], STEPS[size], sizes[:-1], sizes[1:])
