"""Tiles as samples: where their objects are, which are cut, and that a cut one is never background."""

import dataclasses
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.boxes import area, intersection, iou
from ssd.data.augment.transforms import TrainTransform
from ssd.data.dataset import Dataset, read_image
from ssd.data.loading.batches import collate, load_checked
from ssd.data.loading.loader import TrainLoader
from ssd.data.tiled import TiledDataset, TiledRecords, record_in, tiled
from ssd.errors import DatasetError
from ssd.model.factory import settings_for
from ssd.multibox.default_boxes import default_boxes
from ssd.multibox.matcher import match
from ssd.settings import LossRules
from ssd.structures import Record, Sample
from ssd.tiles import OVERLAP, Tiles, Window, windows
from tests.data.made import write_image

DEFAULT_BOXES = default_boxes(settings_for(("cat",), input_size=96, backbone="vgg16").boxes)
TILES = st.one_of(st.integers(2, 4), st.tuples(st.integers(1, 4), st.integers(1, 4)), st.just("auto"))


def record_of(width: int, height: int, *boxes: tuple[float, float, float, float], path: str = "a.png") -> Record:
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    none = np.zeros(len(rows), bool)
    labels, areas = np.zeros(len(rows), np.int64), (rows[:, 2:] - rows[:, :2]).prod(axis=1)
    return Record(path, path, width, height, rows, labels, none, none, areas)


def dataset_of(*records: Record) -> Dataset:
    return Dataset(records, ("cat",), (1,), "folder", "train")


@st.composite
def images(draw: st.DrawFn) -> tuple[Record, Tiles]:
    width, height = draw(st.integers(100, 900)), draw(st.integers(100, 900))
    boxes = []
    for _ in range(draw(st.integers(1, 6))):
        w, h = draw(st.floats(2, width)), draw(st.floats(2, height))
        x, y = draw(st.floats(0, width - w)), draw(st.floats(0, height - h))
        boxes.append((x, y, min(x + w, width), min(y + h, height)))
    return record_of(width, height, *boxes), draw(TILES)


@settings(max_examples=60, deadline=None)
@given(images())
def test_every_object_is_whole_in_a_window_and_ignored_wherever_it_is_cut(drawn: tuple[Record, Tiles]) -> None:
    record, tiles = drawn
    whole = np.zeros(len(record.boxes), int)
    plan = windows(record.height, record.width, tiles, OVERLAP, 96)
    for row, window in enumerate(plan):
        seen = record_in(record, window)
        boxes = iter(zip(seen.boxes.tolist(), seen.crowd.tolist(), strict=True))
        for number, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
            if min(x2, window.right) <= max(x1, window.left) or min(y2, window.bottom) <= max(y1, window.top):
                continue  # not in this window
            box, ignored = next(boxes)
            inside = x1 >= window.left and y1 >= window.top and x2 <= window.right and y2 <= window.bottom
            assert ignored != inside
            whole[number] += inside
            shown = (max(x1, window.left), max(y1, window.top), min(x2, window.right), min(y2, window.bottom))
            assert box == pytest.approx(np.array(shown) - np.array(window[:2] * 2), abs=1e-3)
        assert next(boxes, None) is None
        assert row > 0 or not seen.crowd.any()  # the whole image cuts nothing
    assert (whole >= 1).all()


@settings(max_examples=40, deadline=None)
@given(images())
def test_an_object_smaller_than_the_overlap_is_whole_in_a_tile(drawn: tuple[Record, Tiles]) -> None:
    record, tiles = drawn
    plan = windows(record.height, record.width, tiles, OVERLAP, 96)[1:]
    for x1, y1, x2, y2 in record.boxes.tolist():
        if plan and all(
            side <= OVERLAP * (high - low) - 2  # tiles begin at whole pixels
            for side, low, high in ((x2 - x1, plan[0].left, plan[0].right), (y2 - y1, plan[0].top, plan[0].bottom))
        ):
            assert any(w.left <= x1 and w.top <= y1 and x2 <= w.right and y2 <= w.bottom for w in plan)


@settings(max_examples=40, deadline=None)
@given(images(), st.sampled_from([0.4, 1.0]))
def test_no_default_box_on_a_cut_object_is_a_negative(drawn: tuple[Record, Tiles], negative_iou: float) -> None:
    """On it is half of its visible area, or an IoU from which it would be no negative beside a whole object."""
    record, tiles = drawn
    rules = LossRules(negative_iou=negative_iou)
    seen = TiledRecords([record], tiles, 96)
    samples = [_without_pixels(part) for part in seen]
    targets = collate(torch.zeros(len(samples), 3, 1, 1), samples).targets
    matches = match(DEFAULT_BOXES, targets, rules)
    negative = (matches.object_index < 0) & ~matches.ignored
    visible = DEFAULT_BOXES.clamp(0, 1)
    for image, part in enumerate(seen):
        size = torch.tensor([part.width, part.height] * 2)
        pieces = torch.from_numpy(part.boxes[part.crowd]) / size
        shared = intersection(pieces, visible)
        on = (shared > 0.5001 * area(visible)) | (iou(pieces, visible) > min(0.5, negative_iou) + 1e-4)
        assert not (on.any(dim=0) & negative[image]).any()


def _without_pixels(record: Record) -> Sample:
    pixels = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (record.height, record.width, 3))
    return Sample(pixels, record.boxes, record.labels, record.difficult, record.crowd, record.path, record.image_id)


def test_a_box_beyond_the_image_s_own_border_is_not_cut() -> None:
    record = record_of(100, 100, (-5, 10, 20, 30))
    seen = record_in(record, Window(0, 0, 60, 60))
    assert seen.boxes.tolist() == [[0, 10, 20, 30]]
    assert not seen.crowd.any()


def test_the_samples_are_the_windows_of_each_image_once_and_neighbours_differ() -> None:
    sizes = [(200, 100), (100, 200), (90, 90)]
    records = [record_of(*size, (1, 2, 30, 40), path=f"{n}.png") for n, size in enumerate(sizes)]
    for tiles in (2, (1, 3), "auto"):
        seen = TiledRecords(records, tiles, 30)
        found = sorted((image, window) for image, window in map(seen.place, range(len(seen))))
        assert found == sorted(
            (n, window)
            for n, (width, height) in enumerate(sizes)
            for window in windows(height, width, tiles, OVERLAP, 30)
        )
        assert [record.path for record in seen[:3]] == ["0.png", "1.png", "2.png"]
        assert all(record.width == w.right - w.left for record, (_, w) in zip(seen, found_in(seen), strict=True))


def found_in(seen: TiledRecords) -> list[tuple[int, Window]]:
    return [seen.place(row) for row in range(len(seen))]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two JPEGs of 640x480, with smooth colours, so that a reduced one looks alike."""
    folder, records = tmp_path_factory.mktemp("large"), []
    for number in range(2):
        small = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
        path = folder / f"{number}.jpg"
        path.write_bytes(
            cv2.imencode(".jpg", cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC))[1].tobytes()
        )
        records.append(record_of(640, 480, (10, 10, 60, 60), (300, 200, 400, 260), path=str(path)))
    return dataset_of(*records)


def test_a_tile_is_the_image_s_own_pixels(large: Dataset) -> None:
    dataset = tiled(large, 3, 96)
    assert isinstance(dataset, TiledDataset)
    assert len(dataset) == 2 * 10
    for row in range(len(dataset)):
        image, window = dataset.records.place(row)
        sample = load_checked(dataset, row)
        expected = read_image(large.records[image])[window.top : window.bottom, window.left : window.right]
        assert np.array_equal(sample.image, expected)
        assert np.array_equal(sample.boxes, dataset.records[row].boxes)
        assert np.array_equal(sample.crowd, dataset.records[row].crowd)


@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_a_tile_decoded_at_a_reduced_size_shows_the_same(large: Dataset, shrink: int) -> None:
    dataset = tiled(large, 2, 96)
    reduced = 0
    for row in range(len(dataset)):
        full, small = dataset.load(row), dataset.load(row, shrink)
        assert np.array_equal(small.boxes, full.boxes)
        reduced += small.shrink > 1
        height, width = small.image.shape[:2]
        assert (height, width) == tuple(-(-side // small.shrink) for side in full.image.shape[:2])
        rows, columns = (side // small.shrink for side in full.image.shape[:2])  # the last ones are of fewer pixels
        whole = full.image[: rows * small.shrink, : columns * small.shrink]
        expected = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
        assert np.abs(small.image[:rows, :columns].astype(int) - expected.astype(int)).mean() < 2
    assert reduced >= 2  # the whole images begin at 0


def test_one_tile_is_the_data_set_itself(large: Dataset) -> None:
    assert tiled(large, 1, 96) is large
    assert tiled(large, (1, 1), 96) is large


def test_batches_of_tiles_depend_on_seed_epoch_and_step_alone(large: Dataset) -> None:
    transform = TrainTransform(48, fill=(0, 0, 0))
    first, again = (TrainLoader(tiled(large, 2, 96), transform, batch_size=3, seed=5, images=2) for _ in range(2))
    whole, late = list(first.epoch(1)), list(again.epoch(1, start_step=2))
    assert len(whole) == 4
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[2:], late, strict=True))
    assert all(torch.equal(a.targets.boxes, b.targets.boxes) for a, b in zip(whole[2:], late, strict=True))
    assert not torch.equal(whole[0].images, next(iter(first.epoch(2))).images)


def test_it_travels_to_another_process(large: Dataset) -> None:
    dataset = tiled(large, 2, 96)
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again.load(3).image, dataset.load(3).image)


def test_another_image_stands_in_for_the_tiles_of_a_bad_one_and_files_are_counted(tmp_path: Path) -> None:
    good, bad = write_image(tmp_path / "good.png"), write_image(tmp_path / "bad.png")
    bad.write_bytes(bad.read_bytes()[:60])
    records = [record_of(40, 20, (2, 2, 12, 12), path=str(path)) for path in (good, bad)]
    dataset = tiled(dataset_of(*records), 3, 20)
    transform = TrainTransform(16, fill=(0, 0, 0))
    loader = TrainLoader(dataset, transform, batch_size=4, seed=0, bad_images="skip", images=2)
    shown = {path for batch in loader.epoch(0) for path in batch.paths}
    assert shown == {str(good)}
    assert loader.bad_paths == {str(bad)}
    two = [dataclasses.replace(records[1], path=str(path)) for path in (bad, tmp_path / "missing.png")]
    dataset = tiled(dataset_of(*two, *[records[0]] * 120), (1, 2), 20)
    loader = TrainLoader(dataset, transform, batch_size=4, seed=0, bad_images="skip", images=122)
    with pytest.raises(DatasetError, match="2 of 122 images cannot be decoded"):
        list(loader.epoch(0))
