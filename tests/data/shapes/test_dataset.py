import hashlib

import numpy as np
import pytest

from ssd.data.shapes.dataset import shapes


def digest(dataset, index):
    return hashlib.sha256(dataset.load(index).image.tobytes()).hexdigest()


def test_a_image_depends_on_seed_split_and_index_alone():
    first = shapes("train", 4, 64)
    assert digest(first, 3) == digest(shapes("train", 9, 64), 3)
    different = {
        digest(first, 3),
        digest(first, 2),
        digest(shapes("val", 4, 64), 3),
        digest(shapes("train", 4, 64, 1), 3),
    }
    assert len(different) == 4


def test_boxes_lie_inside_and_are_large_enough_to_see():
    dataset = shapes("train", 200, 160)
    boxes = np.concatenate([record.boxes for record in dataset.records])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0
    assert boxes.max() <= 160
    assert sides.min() > 160 * 0.05
    assert sides.max() <= 160 * 0.51


def test_every_class_is_there_and_some_images_are_empty():
    dataset = shapes("train", 200, 160)
    counts = np.bincount(np.concatenate([record.labels for record in dataset.records]), minlength=4)
    assert counts.min() > counts.sum() / 6
    assert 2 <= sum(len(record.boxes) == 0 for record in dataset.records) <= 30


def test_a_box_is_where_its_shape_is():
    """A lone shape stands out from its surroundings: colours change across its box's border."""
    dataset = shapes("train", 300, 160)
    moved = []
    for index, record in enumerate(dataset.records):
        if len(record.boxes) == 1 and record.labels[0] == 0 and record.boxes.min() > 2 and record.boxes.max() < 158:
            left, top, _, bottom = record.boxes[0]
            image, row = dataset.load(index).image.astype(float), int((top + bottom) / 2)
            inside = image[row - 1 : row + 2, int(left) + 1].mean(axis=0)
            outside = image[row - 1 : row + 2, int(left) - 2].mean(axis=0)
            moved.append(np.linalg.norm(inside - outside))
    assert len(moved) >= 5
    assert np.median(moved) > 50


@pytest.mark.parametrize("size", [16, 33, 160])
def test_images_have_the_asked_size(size):
    sample = shapes("val", 3, size).load(2)
    assert sample.image.shape == (size, size, 3)
    assert sample.image.dtype == np.uint8
    assert sample.path == "shapes/val/000002"
