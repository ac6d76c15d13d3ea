import pytest
import torch

from ssd.model import factory
from ssd.multibox.default_boxes import box_settings, default_boxes, scales, steps
from ssd.settings import Settings

GRIDS_300 = (38, 19, 10, 5, 3, 1)
GRIDS_512 = (64, 32, 16, 8, 4, 2, 1)

# REFERENCE: ssd_pascal.py, ssd_coco.py, and the published 512 networks.
TABLES = {
    ("voc", 300): ([30, 60, 111, 162, 213, 264], 315),
    ("coco", 300): ([21, 45, 99, 153, 207, 261], 315),
    ("voc", 512): ([35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8], 537.6),
    ("coco", 512): ([20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8], 542.72),
}


@pytest.mark.parametrize(("table", "size"), list(TABLES))
def test_sizes_are_those_of_the_papers_scripts(table: str, size: int) -> None:
    small, last = TABLES[table, size]
    settings = box_settings(size, GRIDS_300 if size == 300 else GRIDS_512, table=table)
    assert settings.min_sizes == pytest.approx(small)
    assert settings.max_sizes == pytest.approx([*small[1:], last])


@pytest.mark.parametrize(("size", "grids", "first"), [(300, GRIDS_300, 21), (512, GRIDS_512, 20.48)])
def test_the_fine_table_is_vocs_with_cocos_smallest_square_and_its_double(
    size: int, grids: tuple[int, ...], first: float
) -> None:
    fine, voc = (box_settings(size, grids, table=table) for table in ("fine", "voc"))
    assert fine.min_sizes == pytest.approx([first, *voc.min_sizes[1:]])
    assert fine.max_sizes[1:] == voc.max_sizes[1:]
    sides = (default_boxes(fine)[:2, 2:] - default_boxes(fine)[:2, :2]) * size
    assert sides.tolist() == [pytest.approx([first, first]), pytest.approx([2 * first, 2 * first])]
    assert box_settings(300, (38,), table="fine") == box_settings(300, (38,), table="voc")


def test_paper_mode_cuts_sizes_to_whole_pixels() -> None:
    voc = box_settings(512, GRIDS_512, table="voc", truncate=True)
    coco = box_settings(512, GRIDS_512, table="coco", truncate=True)
    assert voc.min_sizes == (35, 76, 153, 230, 307, 384, 460)
    assert voc.max_sizes[-1] == 537
    assert coco.min_sizes == (20, 51, 133, 215, 296, 378, 460)
    assert coco.max_sizes[-1] == 542
    for table in ("voc", "coco"):
        whole = box_settings(300, GRIDS_300, table=table)
        assert box_settings(300, GRIDS_300, table=table, truncate=True) == whole


def test_ssd300_has_8732_and_ssd512_24564_default_boxes() -> None:
    assert len(default_boxes(box_settings(300, GRIDS_300))) == 8732
    assert len(default_boxes(box_settings(512, GRIDS_512))) == 24564


def test_steps_double_except_where_a_level_is_reached_without_padding() -> None:
    assert steps(300, GRIDS_300) == (8, 16, 32, 64, 100, 300)
    assert steps(512, GRIDS_512) == (8, 16, 32, 64, 128, 256, 512)


def test_boxes_of_one_cell_come_in_caffes_order() -> None:
    boxes = default_boxes(box_settings(300, GRIDS_300))
    sides = (boxes[:, 2:] - boxes[:, :2]) * 300
    root2 = 2**0.5
    expected = [(30, 30), ((30 * 60) ** 0.5,) * 2, (30 * root2, 30 / root2), (30 / root2, 30 * root2)]
    torch.testing.assert_close(sides[:4], torch.tensor(expected), atol=1e-3, rtol=0)
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2 * 300
    torch.testing.assert_close(centres[:4], torch.full((4, 2), 4.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(centres[4], torch.tensor([12.0, 4.0]), atol=1e-3, rtol=0)  # x goes first


def test_114_centres_of_ssd300_lie_outside_the_image_until_clipped() -> None:
    """REFERENCE 2a: step 32 x 10 cells = 320 > 300."""
    plain = default_boxes(box_settings(300, GRIDS_300))
    centres = (plain[:, 2:] + plain[:, :2]) / 2
    assert int((centres > 1).any(dim=1).sum()) == 114
    clipped = default_boxes(box_settings(300, GRIDS_300, clip="centre"))
    moved = ((clipped[:, 2:] + clipped[:, :2]) / 2 - centres).abs().amax(dim=1) > 1e-6
    assert int(moved.sum()) == 114


def test_clipping_sides_leaves_centres_alone() -> None:
    plain = default_boxes(box_settings(300, GRIDS_300, table="coco"))
    clipped = default_boxes(box_settings(300, GRIDS_300, table="coco", clip="sides"))
    assert int(((plain - clipped).abs() > 1e-6).any(dim=1).sum()) == 2  # REFERENCE 2a: COCO300
    torch.testing.assert_close(plain[:, 2:] + plain[:, :2], clipped[:, 2:] + clipped[:, :2])


@pytest.mark.parametrize(("table", "count"), [("voc", 2869), ("coco", 2223)])
def test_boxes_that_cross_the_border_of_ssd300_are_as_counted(table: str, count: int) -> None:
    boxes = default_boxes(box_settings(300, GRIDS_300, table=table))
    crossing = (boxes.double() < -1e-7).any(dim=1) | (boxes.double() > 1 + 1e-7).any(dim=1)
    assert int(crossing.sum()) == count


def test_scales_follow_equation_4_for_any_number_of_levels() -> None:
    for levels in range(2, 10):
        rule = scales(levels)
        assert len(rule) == levels + 1
        assert rule[0] == 0.1
        assert list(rule) == sorted(rule)


@pytest.mark.parametrize(("size", "first"), [(300, 0.1), (405, 0.1), (406, 0.07), (448, 0.07), (512, 0.07)])
def test_an_input_takes_the_row_of_the_table_that_is_nearer(size: int, first: float) -> None:
    assert scales(6, "voc", size)[0] == first


@pytest.mark.parametrize("size", [64, 96, 160, 300, 301, 333, 512, 600, 800])
def test_any_input_size_tiles_as_many_boxes_as_the_network_predicts(size: int) -> None:
    settings = factory.settings_for(("thing",), input_size=size, width=0.05)
    with torch.no_grad():
        predictions = factory.from_settings(settings)(torch.zeros(1, 3, size, size))
    boxes = default_boxes(settings.boxes)
    assert predictions.offsets.shape == (1, len(boxes), 4)
    assert predictions.logits.shape == (1, len(boxes), 2)
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_settings_survive_the_trip_through_plain_types() -> None:
    settings = factory.settings_for(("cat", "dog"), input_size=512, table="coco", truncate=True, clip="centre")
    assert Settings.from_dict(settings.to_dict()) == settings
