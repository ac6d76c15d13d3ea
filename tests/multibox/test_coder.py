import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from ssd.multibox.coder import LARGEST_LOG_SIDE, decode, encode
from tests.multibox.made import VARIANCES, random_boxes


def test_a_worked_example_of_equation_2():
    default_box = torch.tensor([[0.2, 0.2, 0.4, 0.6]])  # centre .3 .4, sides .2 .4
    box = torch.tensor([[0.3, 0.2, 0.7, 0.4]])  # centre .5 .3, sides .4 .2
    expected = torch.tensor([[0.2 / 0.2 / 0.1, -0.1 / 0.4 / 0.1, math.log(2) / 0.2, -math.log(2) / 0.2]])
    torch.testing.assert_close(encode(box, default_box, VARIANCES), expected)


def test_a_default_box_has_offsets_of_zero():
    boxes = torch.tensor([[0.25, 0.25, 0.5, 0.75]])
    assert encode(boxes, boxes, VARIANCES).tolist() == [[0, 0, 0, 0]]
    assert decode(torch.zeros(1, 4), boxes, VARIANCES).tolist() == boxes.tolist()


def test_each_variance_divides_its_own_number():
    default_box, box = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[0.1, 0.2, 0.5, 0.9]])
    plain = encode(box, default_box, (1.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(
        encode(box, default_box, (0.1, 0.2, 0.4, 0.8)), plain / torch.tensor([0.1, 0.2, 0.4, 0.8])
    )


@pytest.mark.parametrize("variances", [VARIANCES, (0.3, 0.1, 0.5, 1.0)])
def test_decode_undoes_encode(variances):
    generator = torch.Generator().manual_seed(0)
    default_boxes, boxes = random_boxes(500, generator), random_boxes(500, generator)
    near = (torch.log((boxes[:, 2:] - boxes[:, :2]) / (default_boxes[:, 2:] - default_boxes[:, :2])) < 4).all(1)
    default_boxes, boxes = default_boxes[near], boxes[near]
    again = decode(encode(boxes, default_boxes, variances), default_boxes, variances)
    torch.testing.assert_close(again, boxes, atol=1e-5, rtol=1e-5)


def test_it_agrees_with_torchvision_inverse_weights():
    generator = torch.Generator().manual_seed(1)
    default_boxes, boxes = random_boxes(300, generator), random_boxes(300, generator)
    theirs = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    offsets = encode(boxes, default_boxes, VARIANCES)
    torch.testing.assert_close(offsets, theirs.encode_single(boxes, default_boxes), atol=1e-4, rtol=1e-4)
    wild = torch.randn(300, 4, generator=generator) * 20  # beyond the limit, too
    torch.testing.assert_close(
        decode(wild, default_boxes, VARIANCES), theirs.decode_single(wild, default_boxes), atol=1e-4, rtol=1e-4
    )


def test_a_wild_offset_stays_finite():
    default_box = torch.tensor([[0.4, 0.4, 0.5, 0.5]])
    left, top, right, bottom = decode(torch.tensor([[0.0, 0.0, 1e6, 1e6]]), default_box, VARIANCES)[0].tolist()
    assert right - left == pytest.approx(0.1 * math.exp(LARGEST_LOG_SIDE), rel=1e-4)
    assert bottom - top == pytest.approx(0.1 * 62.5, rel=1e-4)


def test_a_batch_shares_its_default_boxes():
    generator = torch.Generator().manual_seed(2)
    default_boxes = random_boxes(6, generator)
    boxes = torch.stack([random_boxes(6, generator) for _ in range(3)])
    together = encode(boxes, default_boxes, VARIANCES)
    for image in range(3):
        assert together[image].tolist() == encode(boxes[image], default_boxes, VARIANCES).tolist()


def test_a_box_without_width_gives_an_offset_that_is_not_finite():
    default_box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert encode(torch.tensor([[0.5, 0.2, 0.5, 0.4]]), default_box, VARIANCES)[0, 2] == -math.inf
