"""Default boxes (also called anchors or priors): scales by the paper's rule and tables, and the tiling of the image.

The order inside a cell is Caffe's: the small square, the square of the geometric mean, then for each aspect ratio the
wide box and the tall one. Cells go row by row, levels from fine to coarse.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ssd.boxes import from_cxcywh
from ssd.errors import ConfigError
from ssd.settings import BoxSettings

Table = Literal["voc", "coco", "fine"]

# Percent of the input side: (size at the first level, size at the second). ssd_pascal.py and ssd_coco.py of the
# original for 300; the 512 rows are those of the networks its authors published (REFERENCE: chainercv, mmdetection).
_RATIOS: dict[tuple[Literal["voc", "coco"], int], tuple[int, int]] = {
    ("voc", 300): (10, 20),
    ("coco", 300): (7, 15),
    ("voc", 512): (7, 15),
    ("coco", 512): (4, 10),
}
_HIGHEST = 90


def scales(levels: int, table: Table = "voc", input_size: int = 300) -> tuple[float, ...]:
    """Box sizes as fractions of the image, one more than there are levels: level i goes from scale i to scale i + 1.

    Equation 4 of the paper as its scripts compute it, in whole percent, the first level apart. Inputs nearer to 512
    than to 300 take the 512 row of the table. A single level has the whole range. `fine` is VOC's rule with the first
    size of COCO's.
    """
    row = 300 if input_size < 406 else 512
    first, low = _RATIOS["voc" if table == "fine" else table, row]
    if table == "fine":
        first = _RATIOS["coco", row][0]
    if levels == 1:
        return low / 100, _HIGHEST / 100
    step = (_HIGHEST - low) // max(levels - 2, 1)
    return tuple(percent / 100 for percent in (first, *(low + step * i for i in range(levels))))


def aspect_ratios(levels: int) -> tuple[tuple[float, ...], ...]:
    """Aspect ratio 2 on the first level and the last two, 2 and 3 on those between (section 3.1)."""
    return tuple((2.0,) if i == 0 or i >= levels - 2 else (2.0, 3.0) for i in range(levels))


def steps(input_size: int, grids: tuple[int, ...], first: int = 8) -> tuple[float, ...]:
    """Pixels between neighbouring cells.

    A level that halves its predecessor doubles the step, whatever the rounding (Caffe's 8 16 32 64, although 64 x 5 is
    320); one reached from 5, 3 or 2 cells by an unpadded convolution divides the image evenly (100 = 300 / 3).
    """
    out = [float(first)]
    for before, here in pairwise(grids):
        out.append(input_size / here if before in (5, 3, 2) else out[-1] * 2)
    return tuple(out)


def box_settings(
    input_size: int,
    grids: tuple[int, ...],
    *,
    first_step: int = 8,
    levels: tuple[int, ...] | None = None,
    table: Table = "voc",
    truncate: bool = False,
    clip: Literal["none", "centre", "sides"] = "none",
    min_sizes: tuple[float, ...] | None = None,
    max_sizes: tuple[float, ...] | None = None,
    ratios: tuple[tuple[float, ...], ...] | None = None,
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2),
) -> BoxSettings:
    """Settings by the paper's rule; `min_sizes` and `max_sizes` (fractions of the image) and `ratios` replace it.

    `grids` are all levels of the network, the first with steps of `first_step` pixels; `levels` are those with boxes,
    if not all. Each keeps its step and its ratios, and the sizes are spread over them. `truncate` cuts sizes to whole
    pixels as Caffe's integer fields do: 35, 76, 153 and so on for SSD512.

    Raises:
        ConfigError: sizes or ratios for another number of levels.
    """
    places = [place for place, grid in enumerate(grids) if levels is None or grid in levels]
    all_steps, all_ratios = steps(input_size, grids, first_step), aspect_ratios(len(grids))
    rule = scales(len(places), table, input_size)
    largest = rule[1:]
    if table == "fine" and len(places) > 1:
        # The second square of the first level has twice the side of the first, about as for VOC.
        largest = (4 * rule[0], *rule[2:])
    small, large, ratios = min_sizes or rule[:-1], max_sizes or largest, ratios or tuple(all_ratios[p] for p in places)
    tiled = tuple(grids[p] for p in places)
    for key, values in {"min_sizes": small, "max_sizes": large, "aspect_ratios": ratios}.items():
        if len(values) != len(tiled):
            remedy = f"Write one for each grid: {', '.join(map(str, tiled))}."
            raise ConfigError(f"{len(values)} for {len(tiled)} levels", place=f"model.{key}", remedy=remedy)
    return BoxSettings(
        input_size=input_size,
        grids=tiled,
        steps=tuple(all_steps[p] for p in places),
        min_sizes=_in_pixels(small, input_size, truncate),
        max_sizes=_in_pixels(large, input_size, truncate),
        aspect_ratios=ratios,
        clip=clip,
        variances=variances,
    )


def _in_pixels(fractions: tuple[float, ...], input_size: int, truncate: bool) -> tuple[float, ...]:
    # Rounding first keeps 0.21 * 300 = 62.99999 from becoming 62.
    pixels = (round(input_size * fraction, 6) for fraction in fractions)
    return tuple(float(int(size)) if truncate else size for size in pixels)


def boxes_per_cell(settings: BoxSettings) -> tuple[int, ...]:
    """How many default boxes each cell of each level has: two squares, and two boxes for each aspect ratio."""
    return tuple(2 + 2 * len(ratios) for ratios in settings.aspect_ratios)


def default_boxes(settings: BoxSettings) -> Float[Tensor, "K 4"]:
    """Tile every level; `xyxy` as fractions of the image, float32."""
    tiled = [_level(settings, i) for i in range(len(settings.grids))]
    cxcywh = torch.cat(tiled) / settings.input_size
    if settings.clip == "centre":
        cxcywh = cxcywh.clamp(0, 1)
    elif settings.clip == "sides":
        cxcywh[:, 2:] = cxcywh[:, 2:].clamp(0, 1)
    return from_cxcywh(cxcywh).float()


def _level(settings: BoxSettings, index: int) -> Float[Tensor, "K 4"]:
    """Default boxes of one level, `cxcywh` in pixels, double precision."""
    small, large = settings.min_sizes[index], settings.max_sizes[index]
    shapes = [(small, small), (math.sqrt(small * large),) * 2]
    for ratio in settings.aspect_ratios[index]:
        wide, narrow = small * math.sqrt(ratio), small / math.sqrt(ratio)
        shapes += [(wide, narrow), (narrow, wide)]
    centres = (torch.arange(settings.grids[index], dtype=torch.float64) + 0.5) * settings.steps[index]
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    cells = torch.stack([x, y], dim=-1).reshape(-1, 1, 2).expand(-1, len(shapes), 2)
    sides = torch.tensor(shapes, dtype=torch.float64).expand(cells.shape[0], -1, 2)
    return torch.cat([cells, sides], dim=-1).reshape(-1, 4)
