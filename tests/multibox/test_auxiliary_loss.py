import dataclasses
import math

import pytest
import torch

from ssd.multibox.auxiliary_loss import presence_loss, present
from ssd.structures import Targets


def targets(*images: list[tuple[int, bool]]) -> Targets:
    """Labels of each image's objects, and whether each is a crowd."""
    most = max((len(objects) for objects in images), default=0)
    labels = torch.zeros(len(images), most, dtype=torch.int64)
    crowd = torch.zeros(len(images), most, dtype=torch.bool)
    valid = torch.zeros(len(images), most, dtype=torch.bool)
    for row, objects in enumerate(images):
        for column, (label, is_crowd) in enumerate(objects):
            labels[row, column], crowd[row, column], valid[row, column] = label, is_crowd, True
    return Targets(torch.zeros(len(images), most, 4), labels, crowd, valid)


def test_a_class_is_present_once_however_many_objects_it_has_and_padding_is_no_object() -> None:
    wanted = present(targets([(2, False), (2, False), (0, True)], [], [(1, False)]), 3)
    assert wanted.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_a_batch_without_any_object_wants_nothing() -> None:
    assert present(targets([], []), 2).tolist() == [[0, 0], [0, 0]]


def test_the_loss_is_the_sum_over_heads_of_the_mean_over_questions() -> None:
    first = torch.tensor([[0.0, 2.0], [-1.0, 0.0]])
    second = torch.zeros(2, 2)
    found = presence_loss([first, second], targets([(1, False)], [(0, False)]))
    answers = [math.log(2), math.log1p(math.exp(-2)), math.log1p(math.exp(1)), math.log(2)]
    assert float(found) == pytest.approx(sum(answers) / 4 + math.log(2), rel=1e-6)


def test_the_loss_is_summed_in_fp32_and_reaches_the_heads() -> None:
    logits = torch.zeros(1, 2, dtype=torch.bfloat16, requires_grad=True)
    loss = presence_loss([logits], targets([(0, False)]))
    assert loss.dtype == torch.float32
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-0.25, 0.25]]


def test_a_class_that_may_be_there_unlabelled_is_no_decision() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    said = dataclasses.replace(targets([(0, False)]), complete=torch.tensor([[True, False, False, True]]))
    loss = presence_loss([logits], said)
    assert float(loss.detach()) == pytest.approx(
        2 * math.log(2) / 3
    )  # the object there is, and class 2, of which none is
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
