"""Boxes around masks, against pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as mask_tools

from ssd.data.formats.coco_rle import box_of_mask


@pytest.mark.parametrize("compressed", [False, True])
def test_the_box_around_a_mask_equals_that_of_pycocotools(compressed: bool) -> None:
    draw = np.random.default_rng(0)
    for _ in range(300):
        height, width = draw.integers(1, 30, 2).tolist()
        pixels = draw.random((height, width)) < draw.choice([0.02, 0.2, 0.9])
        encoded = mask_tools.encode(np.asfortranarray(pixels.astype(np.uint8)))
        flat = pixels.flatten(order="F")
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int))).tolist()
        runs = np.diff([0, *edges, flat.size]).tolist()
        counts = encoded["counts"].decode() if compressed else runs
        box = box_of_mask({"size": [height, width], "counts": counts})
        assert box == (mask_tools.toBbox(encoded).tolist() if pixels.any() else None)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [20, 40], "counts": [1]},  # no ones
        {"size": [20, 40], "counts": [790, 11]},  # more than the image has
        {"size": [0, 40], "counts": [0, 1]},
        {"size": [20], "counts": [1, 2]},
        {"size": [20, 40], "counts": [1, -2]},
        {"size": [20, 40], "counts": [1.5, 2]},
        {"size": [20, 40], "counts": "\x7f"},
        {"size": [20, 40], "counts": "o" * 40},  # a number without end
        {"size": [20, 40], "counts": "\ud800"},
        {"size": [20, 40]},
        {"counts": [1, 2]},
        [1, 2],
    ],
)
def test_what_is_no_mask_has_no_box(segmentation: object) -> None:
    assert box_of_mask(segmentation) is None


def test_a_large_size_takes_no_memory() -> None:
    assert box_of_mask({"size": [10**8, 10**8], "counts": [5, 3]}) == [0, 5, 1, 3]
