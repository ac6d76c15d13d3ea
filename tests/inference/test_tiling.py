import copy
import dataclasses

import cv2
import numpy as np
import pytest

from ssd.errors import ArgumentError
from ssd.inference import tiling
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.model import factory
from ssd.settings import Postprocessing
from ssd.structures import ImageDetections
from ssd.tiles import Window, check_tiles, windows


def found(*rows: tuple[float, float, float, float, float, int]) -> ImageDetections:
    """Rows of x1, y1, x2, y2, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return ImageDetections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def in_window(window: Window, *rows: tuple[float, float, float, float, float, int]) -> ImageDetections:
    """The same, with boxes given in pixels of the image."""
    left, top, right, bottom = window
    width, height = right - left, bottom - top
    return found(
        *(
            ((x1 - left) / width, (y1 - top) / height, (x2 - left) / width, (y2 - top) / height, score, label)
            for x1, y1, x2, y2, score, label in rows
        )
    )


def side_by_side() -> list[Window]:
    """An image of 180 x 100 pixels and two tiles that share the columns from 80 to 100."""
    plan = windows(100, 180, (1, 2), 0.2, 300)
    assert plan == [Window(0, 0, 180, 100), Window(0, 0, 100, 100), Window(80, 0, 180, 100)]
    return plan


def merged(plan: list[Window], *parts: ImageDetections, most: int = 200, voting: float = 0.0) -> list[tuple]:
    result = tiling.merge(plan, parts, Postprocessing(max_detections=most, box_voting=voting))
    pixels = result.boxes * np.array([plan[0].right, plan[0].bottom] * 2)
    return [
        (*np.rint(box).astype(int).tolist(), round(float(score), 3), int(label))
        for box, score, label in zip(pixels, result.scores, result.labels, strict=True)
    ]


def test_boxes_of_tiles_come_out_in_the_image_with_the_best_first():
    plan = side_by_side()
    whole = in_window(plan[0], (10, 10, 20, 20, 0.5, 0))
    left = in_window(plan[1], (40, 50, 50, 60, 0.7, 1))
    right = in_window(plan[2], (150, 30, 170, 60, 0.9, 0))
    assert merged(plan, whole, left, right) == [
        (150, 30, 170, 60, 0.9, 0),
        (40, 50, 50, 60, 0.7, 1),
        (10, 10, 20, 20, 0.5, 0),
    ]


def test_an_object_that_several_windows_see_is_kept_once():
    plan = side_by_side()
    seen = [(84, 40, 94, 50, score, 1) for score in (0.3, 0.6, 0.8)]
    parts = [in_window(window, row) for window, row in zip(plan, seen, strict=True)]
    assert merged(plan, *parts) == [(84, 40, 94, 50, 0.8, 1)]


@pytest.mark.parametrize(("threshold", "count"), [(0.45, 1), (0.8, 2)])  # they overlap by 0.71
def test_the_iou_threshold_decides_which_boxes_of_several_windows_stay(threshold, count):
    plan = side_by_side()
    parts = [found(), in_window(plan[1], (82, 40, 94, 52, 0.6, 0)), in_window(plan[2], (84, 40, 96, 52, 0.8, 0))]
    assert len(tiling.merge(plan, parts, Postprocessing(iou_threshold=threshold)).scores) == count


def test_the_boxes_of_several_windows_vote_after_the_merge():
    plan = side_by_side()
    parts = [found(), in_window(plan[1], (82, 40, 94, 52, 0.6, 0)), in_window(plan[2], (84, 40, 96, 52, 0.8, 0))]
    overlap = 10 * 12 / (2 * 144 - 120)
    vote = 0.6 * np.exp(-((1 - overlap) ** 2) / 0.5)
    left = 84 - 2 * vote / (0.8 + vote)
    (whole,) = tiling.merge(plan, parts, Postprocessing(box_voting=0.5)).boxes * [180, 100, 180, 100]
    np.testing.assert_allclose(whole, [left, 40, left + 12, 52], rtol=1e-5)
    assert merged(plan, *parts) == [(84, 40, 96, 52, 0.8, 0)]


def test_boxes_that_a_border_cuts_and_other_classes_have_no_vote():
    plan = side_by_side()
    whole = in_window(plan[0], (70, 20, 120, 80, 0.9, 0), (72, 20, 120, 80, 0.8, 1))
    left = in_window(plan[1], (70, 20, 100, 80, 0.7, 0))
    assert (70, 20, 120, 80, 0.9, 0) in merged(plan, whole, left, found(), voting=0.5)


def test_classes_do_not_suppress_each_other():
    plan = side_by_side()
    parts = [found(), in_window(plan[1], (10, 10, 30, 30, 0.5, 0)), found()]
    parts[0] = in_window(plan[0], (10, 10, 30, 30, 0.9, 1))
    assert len(merged(plan, *parts)) == 2


def test_a_box_cut_by_a_border_gives_way_to_the_neighbour_that_sees_the_whole_object():
    plan = side_by_side()
    # The object spans 85 to 110. The left tile sees it up to its border at 100, and is surer of what it saw.
    left, right = in_window(plan[1], (85, 40, 100, 60, 0.9, 0)), in_window(plan[2], (85, 40, 110, 60, 0.6, 0))
    assert merged(plan, found(), left, right) == [(85, 40, 110, 60, 0.6, 0)]


def test_an_object_in_the_corner_of_four_tiles_is_seen_whole_by_one():
    plan = windows(180, 180, 2, 0.2, 300)  # borders at 80 and 100
    cut = [
        in_window(w, (max(85, w.left), max(85, w.top), min(105, w.right), min(105, w.bottom), 0.9 - n / 10, 0))
        for n, w in enumerate(plan[1:])
    ]
    assert [row[:4] for row in merged(plan, found(), *cut)] == [(85, 85, 105, 105)]


def test_parts_of_an_object_larger_than_the_overlap_give_way_to_the_whole_image():
    plan = side_by_side()
    whole = in_window(plan[0], (30, 20, 150, 80, 0.6, 0))
    left, right = in_window(plan[1], (30, 20, 100, 80, 0.9, 0)), in_window(plan[2], (80, 20, 150, 80, 0.8, 0))
    assert merged(plan, whole, left, right) == [(30, 20, 150, 80, 0.6, 0)]


def test_a_cut_box_of_which_half_lies_in_another_stays():
    plan = side_by_side()
    rows = [(80, 40, 140, 60, 0.9, 0), (60, 40, 100, 60, 0.8, 0)]
    assert merged(plan, *(in_window(plan[n], row) for n, row in enumerate(rows)), found()) == rows


def test_without_a_sure_box_around_them_parts_are_better_than_nothing():
    plan = side_by_side()
    left = in_window(plan[1], (30, 20, 100, 80, 0.9, 0))
    for other in (
        found(),
        in_window(plan[0], (30, 20, 150, 80, 0.1, 0)),  # a guess
        in_window(plan[0], (30, 20, 150, 80, 0.9, 1)),  # another class
    ):
        assert (30, 20, 100, 80, 0.9, 0) in merged(plan, other, left, found())


def test_a_box_at_the_image_s_own_border_is_not_cut():
    plan = side_by_side()
    left, right = in_window(plan[1], (0, 0, 15, 100, 0.9, 0)), in_window(plan[2], (165, 0, 180, 100, 0.8, 0))
    assert merged(plan, found(), left, right) == [(0, 0, 15, 100, 0.9, 0), (165, 0, 180, 100, 0.8, 0)]


def test_no_more_than_asked_for_are_kept_and_nothing_stays_nothing():
    plan = side_by_side()
    rows = [(10 * n, 10, 10 * n + 8, 20, n / 10, 0) for n in range(1, 6)]
    assert [row[4] for row in merged(plan, in_window(plan[0], *rows), found(), found(), most=2)] == [0.5, 0.4]
    assert merged(plan, found(), found(), found()) == []


def test_windows_of_several_images_are_searched_in_batches():
    sizes = []

    def find(parts):
        sizes.append(len(parts))
        return [found((0.4, 0.4, 0.6, 0.6, part.shape[1] / 1000, 0)) for part in parts]

    images = [np.zeros((100, 180, 3), np.uint8), np.zeros((50, 60, 3), np.uint8)]
    plans = [windows(*image.shape[:2], tiles, 0.2, 300) for image, tiles in zip(images, [(1, 2), 1], strict=True)]
    first, second = tiling.search(find, images, plans, 3, Postprocessing(max_detections=10))
    assert sizes == [3, 1]
    assert len(first.scores) == 3
    assert second.scores.tolist() == pytest.approx([0.06])


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Loud random weights that find something in every image."""
    import torch

    torch.manual_seed(0)
    chosen = factory.settings_for(("cat", "dog"), input_size=64, width=0.125)
    network = factory.from_settings(chosen)
    for level in network.head.classes:
        torch.nn.init.normal_(level.weight, std=0.05)
        level.bias.data.view(-1, 3)[:, 0] = 5  # background
    return Detector(NetworkPipeline(network, chosen, device="cpu", precision="fp32"))


def picture(height: int, width: int) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 255, (6, 6, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_one_tile_finds_what_no_tiles_find(detector):
    image = picture(120, 150)
    plain = detector.detect(image)
    for tiles in (1, (1, 1), "auto"):
        tiled = detector.detect(image, tiles=tiles)
        assert (tiled.boxes == plain.boxes).all()
        assert (tiled.scores == plain.scores).all()
        assert (tiled.labels == plain.labels).all()


def test_tiles_find_smaller_boxes_and_keep_the_thresholds(detector):
    image = picture(400, 500)
    plain = detector.detect(image, score_threshold=0.1, max_detections=50)
    tiled = detector.detect(image, score_threshold=0.1, max_detections=50, tiles=3)
    area = [((d.boxes[:, 2:] - d.boxes[:, :2]).prod(axis=1)).min() for d in (plain, tiled)]
    assert area[1] < area[0] / 3
    assert len(tiled) == 50
    assert (np.diff(tiled.scores) <= 0).all()
    assert tiled.scores.min() >= 0.1
    assert (tiled.boxes >= 0).all()
    assert (tiled.boxes <= [500, 400, 500, 400]).all()


def test_images_of_several_sizes_are_tiled_in_one_batch(detector):
    images = [picture(400, 500), picture(60, 70), picture(90, 300)]
    together = detector.detect_batch(images, batch_size=3, tiles="auto")
    for image, found_in_batch in zip(images, together, strict=True):
        alone = detector.detect(image, tiles="auto")
        np.testing.assert_allclose(found_in_batch.boxes, alone.boxes, atol=1e-2)
        assert found_in_batch.image_size == image.shape[:2]


def test_the_weights_number_of_tiles_is_searched_unless_another_is_given(detector):
    image = picture(300, 400)
    pipeline = copy.copy(detector.pipeline)
    pipeline.settings = dataclasses.replace(detector.settings, tiles=(2, 3))
    tiled = Detector(pipeline)
    for own, asked in ((None, (2, 3)), (1, None), (3, 3)):
        ours, theirs = tiled.detect(image, tiles=own), detector.detect(image, tiles=asked)
        assert (ours.boxes == theirs.boxes).all()
        assert (ours.scores == theirs.scores).all()
    assert len(tiled.detect_batch([image, image])) == 2


def test_wrong_tiles_are_named_before_a_image_is_read(detector):
    with pytest.raises(ArgumentError, match="tiles"):
        detector.detect_stream(iter([b"never read"]), tiles=0)


def test_numbers_of_tiles_may_be_numpys():
    assert check_tiles(np.int64(2)) == check_tiles(2) == (2, 2)
    assert check_tiles((np.int8(2), 3)) == (2, 3)
    with pytest.raises(ArgumentError, match="is not a number of tiles"):
        check_tiles(np.array([2, 2]))
