import cv2
import numpy as np

from ssd.benchmark.fixtures import draw_jpeg
from ssd.boxes import iou


def test_the_made_up_weights_give_a_plausible_number_of_detections(small):
    assert 20 <= len(small.detector("fp32").detect(small.jpeg)) <= 200


def test_every_made_up_object_has_one_best_default_box_of_its_own(small):
    targets = small.targets(8)
    for boxes, valid in zip(targets.boxes, targets.valid, strict=True):
        first, second = iou(boxes[valid], small.default_boxes).topk(2).values.unbind(1)
        assert (first > second).all()
        favourites = iou(boxes[valid], small.default_boxes).argmax(dim=1).tolist()
        assert len(set(favourites)) == len(favourites)


def test_the_drawn_image_is_always_the_same_photograph_sized_jpeg():
    data = draw_jpeg()
    assert data == draw_jpeg()
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (480, 640, 3)
    assert 50_000 < len(data) < 200_000
