import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.boxes import iou
from ssd.multibox.best_overlaps import best_overlaps
from ssd.multibox.default_boxes import default_boxes
from tests.audit.made import boxes as default_settings


def slow(boxes: torch.Tensor, settings) -> torch.Tensor:
    return iou(boxes, default_boxes(settings)).amax(dim=1)


def drawn(count: int, seed: int) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=1).values
    return torch.cat([corners[:, 0], corners[:, 1] + 1e-3], dim=1)


@pytest.mark.parametrize("size", [300, 512, 96])
@pytest.mark.parametrize("table", ["voc", "coco"])
@pytest.mark.parametrize("clip", ["none", "centre", "sides"])
def test_it_is_the_greatest_of_all_overlaps(size, table, clip):
    given = default_settings(size, table, clip=clip)
    boxes = drawn(50, seed=size)
    torch.testing.assert_close(best_overlaps(boxes, given), slow(boxes, given), rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 0.9), min_size=2, max_size=2), st.floats(0.003, 1), st.floats(0.003, 1))
def test_boxes_of_any_shape_agree_with_the_slow_way(corner, width, height):
    box = torch.tensor([[*corner, min(1.0, corner[0] + width), min(1.0, corner[1] + height)]])
    given = default_settings(96)
    torch.testing.assert_close(best_overlaps(box, given), slow(box, given), rtol=1e-4, atol=1e-5)


def test_a_default_box_overlaps_itself_wholly():
    given = default_settings(96)
    tiled = default_boxes(given)
    torch.testing.assert_close(best_overlaps(tiled, given), torch.ones(len(tiled)), rtol=0, atol=1e-4)


def test_many_boxes_are_taken_in_parts(monkeypatch):
    monkeypatch.setattr("ssd.multibox.best_overlaps._AT_ONCE", 7)
    given = default_settings(96)
    boxes = drawn(20, seed=1)
    torch.testing.assert_close(best_overlaps(boxes, given), slow(boxes, given), rtol=1e-4, atol=1e-5)


def test_no_boxes_have_no_overlaps():
    assert best_overlaps(torch.zeros(0, 4), default_settings()).shape == (0,)
