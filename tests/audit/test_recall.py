import numpy as np
import pytest
import torch

from ssd.audit.recall import bucket, count_missed_best_box, hardest, measure
from ssd.boxes import iou
from ssd.data.dataset import Dataset
from ssd.data.objects import gather
from ssd.multibox.default_boxes import default_boxes
from ssd.structures import Record
from tests.audit.made import boxes, split


def record(*pixels: tuple[float, float, float, float], crowd: int = 0, side: int = 300) -> Record:
    """A square image; its last `crowd` boxes are crowd regions."""
    array = np.array(pixels, np.float32).reshape(-1, 4)
    count = len(array)
    return Record(
        path="/data/a.jpg",
        image_id=1,
        width=side,
        height=side,
        boxes=array,
        labels=np.zeros(count, np.int64),
        difficult=np.zeros(count, bool),
        crowd=np.arange(count) >= count - crowd,
        areas=(array[:, 2:] - array[:, :2]).prod(axis=1),
    )


def dataset(*records: Record) -> Dataset:
    return Dataset(records, ("cell",), (1,), "/data", "train")


def test_objects_are_counted_by_cocos_sizes():
    reach = measure(gather(dataset(record((0, 0, 31, 32), (0, 0, 32, 32), (0, 0, 96, 96)), record())), boxes())
    counts = {name: own.objects for name, own in reach.buckets.items()}
    assert counts == {"all": 3, "small": 1, "medium": 1, "large": 1}


def test_crowd_regions_do_not_count():
    found = gather(dataset(record(), record((0, 0, 9, 9), (0, 0, 99, 99), crowd=1)))
    assert found.boxes.tolist() == [pytest.approx([0, 0, 0.03, 0.03])]
    assert found.records.tolist() == [1]


def test_what_is_reached_is_a_share():
    overlaps = torch.tensor([0.2, 0.5, 0.8, 0.9])
    assert (bucket(overlaps).recall, bucket(overlaps).mean) == pytest.approx((0.75, 0.6))
    assert bucket(torch.zeros(0)).recall is None


def test_the_farthest_objects_come_first_and_reached_ones_not_at_all():
    # A default box of the first level is centred on (20, 20) and 30 wide.
    data = dataset(record((5, 5, 35, 35), (0, 0, 3, 3), (0, 0, 300, 20)))
    objects = gather(data)
    reach = measure(objects, boxes())
    found = hardest(data, objects, reach.overlaps, input_size=300)
    assert [(hard.path, hard.name, hard.width, hard.height) for hard in found] == [
        ("a.jpg", "cell", 3, 3),
        ("a.jpg", "cell", 300, 20),
    ]
    assert found[0].overlap < found[1].overlap < 0.5
    assert reach.unreached == 2
    assert len(hardest(data, objects, reach.overlaps, input_size=300, count=1)) == 1


def test_objects_in_one_place_want_the_same_default_box():
    crowded = dataset(record((0, 0, 3, 3), (0, 0, 3, 3), (0, 0, 3, 3), (100, 100, 200, 200)), record((0, 0, 3, 3)))
    seconds = count_missed_best_box(crowded, boxes())
    assert (seconds.count, seconds.objects) == (2, 5)


def test_second_choices_are_counted_on_a_sample_of_many_images(monkeypatch):
    monkeypatch.setattr("ssd.audit.recall._MATCHED_IMAGES", 2)
    data = dataset(*(record((0, 0, 3, 3), (0, 0, 3, 3)) for _ in range(5)))
    seconds = count_missed_best_box(data, boxes())
    assert (seconds.count, seconds.objects) == (2, 4)  # images 0 and 3


def test_a_split_without_objects_has_no_shares():
    reach = measure(gather(dataset(record())), boxes())
    assert reach.recall is None
    assert reach.unreached == 0
    assert count_missed_best_box(dataset(), boxes()).objects == 0


def test_coco_photographs_hold_many_objects_that_no_default_box_reaches(tiny_coco):
    """The figures of the survey: 41.9 % below 0.5 with COCO's boxes at 300 pixels, 14 objects that lose their box."""
    train = split(tiny_coco, "train2017")
    reach = measure(gather(train), boxes(300, "coco"))
    assert reach.buckets["all"].objects == 465
    assert reach.unreached / 465 == pytest.approx(0.419, abs=5e-4)
    assert count_missed_best_box(train, boxes(300, "coco")).count == 14


def test_every_overlap_of_a_real_split_is_the_slow_one(tiny_coco):
    train = split(tiny_coco, "train2017")
    settings = boxes(300, "coco")
    slow = torch.cat([iou(part, default_boxes(settings)).amax(dim=1) for part in gather(train).boxes.split(50)])
    torch.testing.assert_close(measure(gather(train), settings).overlaps, slow, rtol=1e-4, atol=1e-5)
