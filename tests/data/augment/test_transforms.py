import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from unittest import mock

import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssd.data.augment import warp as warping
from ssd.data.augment.crops import CHOICES, WHOLE, Switches, draw_geometry, visible
from ssd.data.augment.photometric import Colours, distort, draw_colours
from ssd.data.augment.transforms import TrainTransform
from ssd.data.augment.warp import Geometry, by_steps, in_one_warp, move_boxes
from ssd.images.resize import resize_8bit
from ssd.structures import Sample

FILL = (124, 116, 104)
OFF = {"photometric": False, "expand": 1.0, "crop": 1.0, "mirror": False}


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A photograph-like image: every interpolation gives nearly the same result on it."""
    coarse = np.random.default_rng(seed).integers(40, 216, (6, 6, 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def sample(boxes: list[list[float]], height: int = 120, width: int = 160, *, crowd: tuple[int, ...] = ()) -> Sample:
    count = len(boxes)
    return Sample(
        image=smooth(height, width),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.arange(count),
        difficult=np.arange(count) % 2 == 1,
        crowd=np.isin(np.arange(count), crowd),
        path="a.jpg",
        image_id=7,
    )


def rectangles(count: int) -> st.SearchStrategy[list[list[float]]]:
    part = st.floats(0, 0.9)
    side = st.floats(0.01, 1)
    box = st.tuples(part, part, side, side).map(
        lambda b: [b[0] * 160, b[1] * 120, min(b[0] + b[2], 1) * 160, min(b[1] + b[3], 1) * 120]
    )
    return st.lists(box, max_size=count)


def unchanged(image: np.ndarray) -> np.ndarray:
    return image


def check(result: Sample, size: int) -> None:
    assert result.image.shape == (size, size, 3)
    assert result.image.dtype == np.uint8
    assert result.image.flags["C_CONTIGUOUS"]
    assert len(result.boxes) == len(result.labels) == len(result.difficult) == len(result.crowd)
    assert result.boxes.dtype == np.float32
    assert (result.boxes >= 0).all()
    assert (result.boxes <= size).all()
    assert (result.boxes[:, 2:] - result.boxes[:, :2] >= 0.99).all()


# The whole transform


@settings(max_examples=150, deadline=None)
@given(rectangles(6), st.sampled_from(["paper", "warp"]), st.integers(0, 10**6), st.sets(st.integers(0, 5)))
@example([[136.0, 0.0, 160.0, 120.0]], "paper", 3598, set())  # the centre is on the border of the crop
def test_every_result_is_fit_for_training(boxes: list[list[float]], order: str, seed: int, crowd: set[int]) -> None:
    given_sample = sample(boxes, crowd=tuple(crowd))
    result = TrainTransform(60, fill=FILL, order=order)(given_sample, (seed, 0, 0))  # type: ignore[arg-type]
    check(result, 60)
    # Labels say which object a row was: its other facts came along.
    assert np.array_equal(result.difficult, given_sample.difficult[result.labels])
    assert np.array_equal(result.crowd, given_sample.crowd[result.labels])
    seen = visible(given_sample.boxes.astype(np.float64), np.array([[0, 0, 160, 120]]), 60)[0] & ~given_sample.crowd
    if seen.any():
        assert (~result.crowd).any()


@settings(max_examples=40, deadline=None)
@given(rectangles(5), st.integers(0, 10**6), st.booleans())
def test_both_orders_draw_the_same_and_show_the_same(boxes: list[list[float]], seed: int, photometric: bool) -> None:
    # The paper's order draws its interpolation, nearest neighbour among them; where things lie shows with one of them.
    with mock.patch.object(warping, "INTERPOLATIONS", (cv2.INTER_LINEAR,) * len(warping.INTERPOLATIONS)):
        paper, warp = (
            TrainTransform(64, fill=FILL, order=order, photometric=photometric, flip_vertical=True)(
                sample(boxes), (seed, 1, 2)
            )
            for order in ("paper", "warp")
        )
    assert np.array_equal(paper.boxes, warp.boxes)
    assert np.array_equal(paper.labels, warp.labels)
    difference = np.abs(paper.image.astype(int) - warp.image.astype(int))
    # The border of an expanded image may fall between pixels, and 8-bit hues are coarse.
    assert np.median(difference) <= 2
    assert difference.mean() < 3


def test_draws_follow_from_the_seed_alone() -> None:
    transform, other = TrainTransform(32, fill=FILL), TrainTransform(32, fill=FILL)
    given_sample = sample([[10, 10, 90, 90]])
    first = transform(given_sample, (0, 1, 2))
    for seed in [(1, 1, 2), (0, 2, 2), (0, 1, 3)]:
        assert not np.array_equal(transform(given_sample, seed).image, first.image)
    assert np.array_equal(other(given_sample, (0, 1, 2)).image, first.image)
    np.random.default_rng(0).random()
    again = pickle.loads(pickle.dumps(transform))(given_sample, (0, 1, 2))
    assert np.array_equal(again.image, first.image)
    assert np.array_equal(again.boxes, first.boxes)


@pytest.mark.parametrize("order", ["paper", "warp"])
def test_with_everything_off_only_the_size_changes(order: str) -> None:
    given_sample = sample([[0, 0, 160, 120], [40, 30, 80, 60]])
    result = TrainTransform(80, fill=FILL, order=order, **OFF)(given_sample, (0, 0, 0))  # type: ignore[arg-type]
    assert np.allclose(result.boxes, [[0, 0, 80, 80], [20, 20, 40, 40]], atol=1e-4)
    expected = cv2.resize(given_sample.image, (80, 80), interpolation=cv2.INTER_AREA)
    assert np.abs(result.image.astype(int) - expected.astype(int)).mean() < 2
    assert (result.path, result.image_id) == ("a.jpg", 7)


def test_the_given_sample_is_left_alone() -> None:
    given_sample = sample([[10, 10, 90, 90]])
    before = given_sample.image.copy()
    given_sample.image.flags.writeable = False
    for index in range(20):
        TrainTransform(40, fill=FILL)(given_sample, (0, 0, index))
        TrainTransform(40, fill=FILL, order="paper")(given_sample, (0, 0, index))
    assert np.array_equal(given_sample.image, before)
    assert np.array_equal(given_sample.boxes, [[10, 10, 90, 90]])


@pytest.mark.parametrize("order", ["paper", "warp"])
def test_images_without_objects_pass_through(order: str) -> None:
    transform = TrainTransform(40, fill=FILL, order=order)  # type: ignore[arg-type]
    for index in range(30):
        result = transform(sample([]), (0, 0, index))
        check(result, 40)
        assert result.boxes.shape == (0, 4)
        assert (result.image != FILL).any()  # something of the image stays in sight


def test_mirror_and_flip_happen_half_the_time() -> None:
    transform = TrainTransform(80, fill=FILL, **(OFF | {"mirror": True}), flip_vertical=True)
    corner = sample([[0, 0, 16, 12]])
    where = [tuple((transform(corner, (0, 0, index)).boxes[0, :2] > 40).tolist()) for index in range(200)]
    for turned in [(False, False), (True, False), (False, True), (True, True)]:
        assert 30 < where.count(turned) < 70


@pytest.mark.parametrize("order", ["paper", "warp"])
def test_the_fill_colour_is_not_distorted(order: str) -> None:
    transform = TrainTransform(100, fill=FILL, order=order, crop=1.0)  # type: ignore[arg-type]
    filled = 0
    for index in range(20):
        result = transform(sample([[10, 10, 150, 110]]), (3, 0, index))
        share = (result.image == FILL).all(axis=-1).mean()
        if share > 0.2:
            filled += 1
            ring = np.concatenate([result.image[0], result.image[-1], result.image[:, 0], result.image[:, -1]])
            assert (ring == FILL).all(axis=-1).mean() > 0.4
    assert filled >= 5


def test_own_albumentations_run_last_and_are_seeded_too() -> None:
    given_sample = sample([[0, 0, 80, 60], [80, 60, 160, 120]])
    cut = TrainTransform(80, fill=FILL, **OFF, extra=[A.Crop(0, 0, 40, 40)])(given_sample, (0, 0, 0))
    assert cut.image.shape == (40, 40, 3)
    assert cut.labels.tolist() == [0]
    noisy = TrainTransform(80, fill=FILL, **OFF, extra=[A.GaussNoise(p=1)])
    first, again, other = (noisy(given_sample, (0, 0, index)).image for index in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_plan_is_what_would_have_been_drawn_anyway() -> None:
    transform = TrainTransform(64, fill=FILL)
    given_sample = sample([[10, 10, 90, 90], [60, 30, 150, 110]])
    for index in range(10):
        plan = transform.plan((120, 160), given_sample.boxes, given_sample.crowd, (0, 0, index))
        planned, plain = transform(given_sample, (0, 0, index), plan), transform(given_sample, (0, 0, index))
        assert np.array_equal(planned.image, plain.image)
        assert np.array_equal(planned.boxes, plain.boxes)


def test_of_a_large_image_a_smaller_one_is_asked_for_and_the_boxes_stay_the_same() -> None:
    whole = sample([[100, 100, 900, 900], [600, 300, 1500, 1100]], height=1200, width=1600)
    smaller = {n: cv2.resize(whole.image, (1600 // n, 1200 // n), interpolation=cv2.INTER_AREA) for n in (1, 2, 4, 8)}
    transform, asked = TrainTransform(100, fill=FILL), []
    for index in range(20):
        seed = (0, 0, index)
        plan = transform.plan((1200, 1600), whole.boxes, whole.crowd, seed)
        asked.append(plan.shrink)
        given_sample = dataclasses.replace(whole, image=smaller[plan.shrink], shrink=plan.shrink)
        result, expected = transform(given_sample, seed, plan), transform(whole, seed)
        assert result.shrink == 1
        assert result.labels.tolist() == expected.labels.tolist()
        assert np.allclose(result.boxes, expected.boxes, atol=1e-3)
        assert np.abs(result.image.astype(int) - expected.image.astype(int)).mean() < 1.5
    assert set(asked) == {4, 8}


def test_small_images_and_the_papers_order_are_decoded_whole() -> None:
    nothing, seed = np.zeros((0, 4), np.float32), (0, 0, 0)
    for transform, shape in (
        (TrainTransform(30, fill=FILL), (900, 1100)),
        (TrainTransform(30, fill=FILL, order="paper"), (3000, 4000)),
    ):
        assert transform.plan(shape, nothing, np.zeros(0, bool), seed).shrink == 1


def test_importing_the_data_room_does_not_load_albumentations() -> None:
    code = "import sys, ssd.data, ssd.data.loading.loader; print('albumentations' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.strip() == "False"


# Crops


def test_a_crop_keeps_objects_whose_centre_is_inside_and_that_are_a_pixel_long() -> None:
    boxes = np.array([[0, 0, 10, 10], [4, 4, 30, 30], [9, 9, 11, 11], [2, 2, 2.5, 8]])
    crops = np.array([[0, 0, 10, 10], [10, 10, 20, 20]])
    assert visible(boxes, crops, 10).tolist() == [[True, False, True, False], [False, True, True, False]]
    assert visible(boxes, crops, 20).tolist() == [[True, False, True, True], [False, True, True, False]]


def test_of_a_crowd_region_any_part_is_kept() -> None:
    boxes = np.array([[0.0, 0, 100, 100], [0, 0, 100, 100], [50, 50, 100, 100]])
    crowd = np.array([True, False, True])
    assert visible(boxes, np.array([[0, 0, 20, 20]]), 20, crowd).tolist() == [[True, False, False]]


@pytest.mark.parametrize("least_iou", [choice for choice in CHOICES if choice > 0])
def test_some_object_has_the_iou_that_was_chosen(least_iou: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd.data.augment.crops.CHOICES", (least_iou, WHOLE))
    rng = np.random.default_rng(0)
    boxes = np.array([[20.0, 10, 130, 110], [5, 5, 20, 20]])
    cropped = 0
    for _ in range(200):
        left, top, right, bottom = draw(rng, boxes).crop
        assert 0 <= left < right <= 160
        assert 0 <= top < bottom <= 120
        if (left, top, right, bottom) == (0, 0, 160, 120):
            continue
        cropped += 1
        best = 0.0
        for x0, y0, x1, y1 in boxes:
            shared = max(0, min(x1, right) - max(x0, left)) * max(0, min(y1, bottom) - max(y0, top))
            best = max(best, shared / ((x1 - x0) * (y1 - y0) + (right - left) * (bottom - top) - shared))
        assert best >= least_iou - 1e-9
    assert cropped > 2


def test_crops_have_the_scale_and_aspect_ratio_of_the_paper() -> None:
    rng = np.random.default_rng(1)
    boxes = np.array([[0.0, 0, 160, 120]])
    scales, aspects = [], []
    for _ in range(600):
        left, top, right, bottom = draw(rng, boxes).crop
        width, height = (right - left) / 160, (bottom - top) / 120
        scales.append((width * height) ** 0.5)
        aspects.append(width / height)
    assert 0.28 < min(scales) < 0.5
    assert 0.47 < min(aspects) < 0.6
    assert 1.7 < max(aspects) < 2.1
    whole = np.mean(np.array(scales) == 1)
    assert 0.1 < whole < 0.4  # one choice in seven, more when the choice before it found no crop


def test_no_crop_is_smaller_than_the_least_one() -> None:
    rng = np.random.default_rng(1)
    areas = []
    for _ in range(600):
        left, top, right, bottom = draw(rng, np.array([[60.0, 50, 100, 80]]), crop=0.6).crop
        areas.append((right - left) * (bottom - top) / (160 * 120))
    assert 0.59 < min(areas) ** 0.5 < 0.63  # a side may lose half a pixel to rounding
    assert max(areas) == 1


def test_crowd_regions_never_satisfy_a_crop() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([[0.0, 0, 160, 120], [150, 110, 158, 118]])
    for _ in range(100):
        crop = draw(rng, boxes, crowd=[True, False]).crop
        assert crop[2] >= 154  # the centre of the only object lies inside
        assert crop[3] >= 114


def test_expansion_is_half_the_time_and_at_most_fourfold() -> None:
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(400):
        geometry = draw(rng, np.array([[0.0, 0, 160, 120]]), expand=4.0, crop=1.0)
        left, top, right, bottom = geometry.crop
        assert left <= 0 <= 160 <= right
        assert top <= 0 <= 120 <= bottom
        ratios.append((right - left) / 160)
    assert 0.4 < np.mean(np.array(ratios) > 1) < 0.6
    assert 3.8 < max(ratios) <= 4


def test_an_expansion_under_which_no_object_could_be_seen_is_not_made() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert draw(rng, np.array([[50.0, 50, 51, 51]]), size=160, expand=4.0, crop=1.0).crop == (0, 0, 160, 120)


def draw(
    rng: np.random.Generator,
    boxes: np.ndarray,
    *,
    crowd: list[bool] | None = None,
    size: int = 300,
    expand: float = 1.0,
    crop: float = 0.3,
) -> Geometry:
    rows = np.array(crowd) if crowd is not None else np.zeros(len(boxes), bool)
    return draw_geometry(rng, (120, 160), boxes, rows, size=size, switches=Switches(expand=expand, crop=crop))


# Pixels and boxes of a geometry


def dots(geometry: Geometry, shrink: int = 1) -> np.ndarray:
    """Where a white blob of the image ends up, as centre of mass."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:60, 50:80] = 255
    image = cv2.resize(image, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    moved = in_one_warp(image, geometry, (0, 0, 0), unchanged, shrink)[..., 0].astype(float)
    rows, columns = np.mgrid[0 : geometry.size, 0 : geometry.size] + 0.5
    return np.array([(columns * moved).sum(), (rows * moved).sum()]) / moved.sum()


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(-300, 40), st.integers(-300, 30), st.integers(90, 460), st.integers(70, 420)),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 2, 4]),
)
def test_pixels_move_with_the_boxes(crop: tuple[int, int, int, int], mirror: bool, flip: bool, shrink: int) -> None:
    geometry = Geometry(crop, 200, mirror, flip)
    box = move_boxes(np.array([[50.0, 40, 80, 60]]), geometry)[0]
    assert np.allclose(dots(geometry, shrink), (box[:2] + box[2:]) / 2, atol=0.35)


@pytest.mark.parametrize("crop", [(0, 0, 1300, 900), (3, 1, 1290, 871), (-700, -301, 1500, 1700), (101, 7, 805, 707)])
def test_a_image_decoded_smaller_gives_the_same_result(crop: tuple[int, int, int, int]) -> None:
    geometry = Geometry(crop, 100, mirror=True)
    image = smooth(900, 1300)
    whole = in_one_warp(image, geometry, FILL, unchanged).astype(int)
    for shrink in (2, 4):
        assert shrink <= geometry.spare
        edge = [(0, -900 % shrink), (0, -1300 % shrink), (0, 0)]  # sizes are rounded up
        padded = np.pad(image, edge, "edge")
        height, width = padded.shape[0] // shrink, padded.shape[1] // shrink
        smaller = cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA)
        moved = in_one_warp(smaller, geometry, FILL, unchanged, shrink).astype(int)
        assert np.abs(moved - whole).mean() < 0.6
        # Where the image ends, a pixel of it may be one of a quarter of the size.
        assert (np.abs(moved - whole) > 12).mean() < 0.02


def test_a_image_may_come_so_small_that_each_pixel_of_the_result_still_has_one() -> None:
    assert Geometry((0, 0, 1199, 2400), 300).spare == 2
    assert Geometry((0, 0, 1200, 2400), 300).spare == 4
    assert Geometry((0, 0, 9000, 9000), 300).spare == 8
    assert Geometry((0, 0, 599, 9000), 300).spare == 1


def test_what_shrinks_is_filtered() -> None:
    checkerboard = np.zeros((400, 400, 3), np.uint8)
    checkerboard[::2, ::2] = checkerboard[1::2, 1::2] = 255
    for crop in [(0, 0, 400, 400), (-100, -50, 500, 450), (3, 1, 390, 380)]:
        small = in_one_warp(checkerboard, Geometry(crop, 100), (127, 127, 127), unchanged)
        assert np.abs(small.astype(int) - 127).max() < 30, crop


@pytest.mark.parametrize("size", [(400, 300), (90, 700), (50, 60), (1, 1), (301, 299)])
def test_detection_resizes_a_image_as_training_does_one_that_is_not_augmented(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    whole = Geometry((0, 0, size[1], size[0]), 100)
    assert np.array_equal(resize_8bit(image, 100, "area"), in_one_warp(image, whole, FILL, unchanged))


def test_a_crop_beside_the_image_is_all_fill() -> None:
    image = smooth(20, 20)
    assert (in_one_warp(image, Geometry((30, 0, 50, 20), 8), FILL, unchanged) == FILL).all()


def test_the_step_by_step_form_copies_the_pixels_it_does_not_resize() -> None:
    image = smooth(20, 30)
    geometry = Geometry((-5, -5, 35, 35), 40, canvas=(-5, -5, 35, 35), interpolation=2)
    moved = by_steps(image, geometry, FILL, unchanged)
    assert np.array_equal(moved[5:25, 5:35], image)
    moved[5:25, 5:35] = FILL
    assert (moved == FILL).all()
    mirrored = by_steps(image, dataclasses.replace(geometry, mirror=True), FILL, unchanged)
    assert np.array_equal(mirrored[5:25, 5:35], image[:, ::-1])


# Colours


def slowly(image: np.ndarray, colours: Colours) -> np.ndarray:
    """Step by step as Caffe does, an image at a time."""

    def saturate(values: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    image = saturate(image.astype(np.float32) + np.float32(colours.brightness))
    if not colours.contrast_last:
        image = saturate(image.astype(np.float32) * np.float32(colours.contrast))
    if colours.saturation != 1 or colours.hue != 0:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = saturate(hsv[..., 1].astype(np.float32) * np.float32(colours.saturation))
        hsv[..., 0] = np.rint(hsv[..., 0].astype(np.float32) + np.float32(colours.hue)).astype(int) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if colours.contrast_last:
        image = saturate(image.astype(np.float32) * np.float32(colours.contrast))
    return image


def test_distortion_equals_its_slow_twin() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for _ in range(100):
        colours = draw_colours(rng)
        difference = distort(image, colours).astype(int) - slowly(image, colours).astype(int)
        assert np.abs(difference).max() <= 1  # factors are rounded to float32 at different places


def test_no_distortion_changes_nothing() -> None:
    image = smooth(10, 10)
    assert np.array_equal(distort(image, Colours()), image)


def test_brightness_saturates_at_8_bits() -> None:
    image = np.array([[[0, 128, 250]]], np.uint8)
    assert distort(image, Colours(brightness=20.0)).tolist() == [[[20, 148, 255]]]
    assert distort(image, Colours(brightness=-20.0)).tolist() == [[[0, 108, 230]]]
    assert distort(image, Colours(contrast=1.5)).tolist() == [[[0, 192, 255]]]


def test_hue_turns_in_a_circle() -> None:
    red, purple = np.array([[[255, 0, 0]]], np.uint8), np.array([[[255, 0, 153]]], np.uint8)
    assert np.abs(distort(red, Colours(hue=-18.0)).astype(int) - purple.astype(int)).max() <= 1


def test_colours_are_drawn_from_caffes_ranges_half_the_time() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_colours(rng) for _ in range(2000)]
    for name, low, high, neutral in [
        ("brightness", -32, 32, 0),
        ("contrast", 0.5, 1.5, 1),
        ("saturation", 0.5, 1.5, 1),
        ("hue", -18, 18, 0),
    ]:
        values = np.array([getattr(colours, name) for colours in draws])
        assert 0.45 < (values != neutral).mean() < 0.55
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
    assert 0.45 < np.mean([colours.contrast_last for colours in draws]) < 0.55
