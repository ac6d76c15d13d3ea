from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.errors import ArgumentError
from ssd.tiles import OVERLAP, Window, check_tiles, plan_of, windows


def test_tiles_lie_row_by_row_after_the_whole_image():
    plan = windows(100, 200, (2, 3), 0.0, 300)
    assert plan[0] == Window(0, 0, 200, 100)
    assert plan[1] == Window(0, 0, 67, 50)
    assert plan[-1] == Window(133, 50, 200, 100)
    assert len(plan) == 7


def test_a_plan_takes_the_height_first():
    plan = plan_of((1, 2), 300)
    assert plan(100, 180) == windows(100, 180, (1, 2), OVERLAP, 300)
    assert plan(100, 180)[0] == Window(0, 0, 180, 100)


def test_one_tile_is_the_whole_image():
    assert windows(100, 200, 1, 0.2, 300) == [Window(0, 0, 200, 100)]
    assert windows(100, 200, (1, 1), 0.2, 300) == [Window(0, 0, 200, 100)]


@pytest.mark.parametrize(
    ("height", "width", "tiles"),
    [(480, 640, 1), (750, 750, 1), (751, 750, 2), (1080, 1920, 2 * 3), (3000, 4000, 5 * 7), (6000, 8000, 10 * 14)],
)
def test_auto_takes_as_few_tiles_as_keep_each_within_two_and_a_half_inputs(height, width, tiles):
    plan = windows(height, width, "auto", 0.2, 300)
    assert len(plan) == (1 if tiles == 1 else 1 + tiles)
    assert all(w.right - w.left <= 750 and w.bottom - w.top <= 750 for w in plan[1:])


@settings(max_examples=100)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 9), st.integers(1, 9), st.floats(0, 0.9))
def test_tiles_cover_every_pixel_and_share_what_was_asked_for(height, width, rows, columns, overlap):
    plan = windows(height, width, (rows, columns), overlap, 300)
    seen = np.zeros((height, width), bool)
    for left, top, right, bottom in plan[1:] or plan:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        seen[top:bottom, left:right] = True
    assert seen.all()
    spans = sorted({(w.left, w.right) for w in plan[1:]})
    for (_, end), (start, last) in pairwise(spans):
        assert end - start >= overlap * (last - start) - 2  # whole pixels


@pytest.mark.parametrize("tiles", [0, -1, 33, 2.0, (2,), (2, 0), (1, 2, 3), "many", True, None])
def test_what_is_no_number_of_tiles_is_named(tiles):
    with pytest.raises(ArgumentError, match=r"tiles: .* is not a number of tiles"):
        check_tiles(tiles)


@pytest.mark.parametrize("overlap", [-0.1, 0.95])
def test_an_overlap_out_of_range_is_named(overlap):
    with pytest.raises(ArgumentError, match="tile_overlap"):
        windows(10, 10, 2, overlap, 300)
