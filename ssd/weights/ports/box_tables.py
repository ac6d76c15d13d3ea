"""The default boxes that published checkpoints were trained with, in pixels of the network's input.

They differ from what this package tiles by itself: ports clip, and keep fractions that Caffe cuts off.
"""

from typing import Literal

from ssd.errors import CheckpointError
from ssd.settings import BoxSettings

Clip = Literal["none", "centre", "sides"]
BoxTable = Literal["voc", "coco"]

# Smallest size of each level; the last entry is the largest size of the last level.
_SIZES = {
    ("voc", 300): (30.0, 60.0, 111.0, 162.0, 213.0, 264.0, 315.0),
    ("coco", 300): (21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0),
    ("voc", 512): (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6),
    ("coco", 512): (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),
}
_GRIDS = {300: (38, 19, 10, 5, 3, 1), 512: (64, 32, 16, 8, 4, 2, 1)}
_STEPS = {300: (8.0, 16.0, 32.0, 64.0, 100.0, 300.0), 512: (8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)}
MOST_LEVELS = len(_GRIDS[512])


def input_size_for(levels: int) -> int:
    """512 for as many levels as SSD512 has, else 300."""
    return 512 if levels == MOST_LEVELS else 300


def box_settings(table: BoxTable, input_size: int, clip: Clip, *, whole_pixels: bool = False) -> BoxSettings:
    """Default boxes of SSD300 or SSD512 as trained on VOC or COCO; 8732 and 24564 of them.

    `whole_pixels` cuts the fractions off, as Caffe's integer fields and mmdetection do; only 512 has any.
    """
    sizes = tuple(float(int(size)) if whole_pixels else size for size in _SIZES[table, input_size])
    levels = len(sizes) - 1
    return BoxSettings(
        input_size=input_size,
        grids=_GRIDS[input_size],
        steps=_STEPS[input_size],
        min_sizes=sizes[:-1],
        max_sizes=sizes[1:],
        aspect_ratios=((2.0,), *((2.0, 3.0),) * (levels - 3), (2.0,), (2.0,)),
        clip=clip,
        variances=(0.1, 0.1, 0.2, 0.2),
    )


def mobilenet_boxes(input_size: int, grids: tuple[int, ...]) -> BoxSettings:
    """Default boxes of the MobileNets of qfgaohao and lufficc, whatever they were trained on: made for 300 pixels."""
    sizes = (60.0, 105.0, 150.0, 195.0, 240.0, 285.0, 330.0)
    return BoxSettings(
        input_size=input_size,
        grids=grids,
        steps=(16.0, 32.0, 64.0, 100.0, 150.0, 300.0),
        min_sizes=sizes[:-1],
        max_sizes=sizes[1:],
        aspect_ratios=((2.0, 3.0),) * len(grids),
        clip="centre",
        variances=(0.1, 0.1, 0.2, 0.2),
    )


def refuse_boxes(given: BoxTable | None, place: object) -> None:
    """Raise `CheckpointError` if default boxes are named for a checkpoint that has only its own."""
    if given is not None:
        problem = f"has default boxes of its own, not those of {given}"
        raise CheckpointError(problem, place=place, remedy="Leave boxes (--boxes) out.")


def table_for(given: BoxTable | None, count: int, place: object) -> BoxTable:
    """Which table a port used for `count` classes, where it goes by a configuration file that was not saved.

    Raises:
        CheckpointError: neither VOC's 20 classes nor COCO's 80, and nothing was given.
    """
    known: dict[int, BoxTable] = {20: "voc", 80: "coco"}
    table = given or known.get(count)
    if table is None:
        raise CheckpointError(
            f"has {count} classes, and does not say which default boxes it was trained with",
            place=place,
            remedy="Convert it with `ssd convert FILE OUT --boxes voc` (or coco), as in its training configuration.",
        )
    return table
