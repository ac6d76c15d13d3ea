import math

import pytest
import torch

from ssd.multibox.teacher_loss import TEMPERATURE, sees_object, teacher_loss
from ssd.settings import LossRules
from ssd.structures import Predictions
from tests.multibox.made import pretended_device, random_predictions

RULES = LossRules(negative_ratio=2, negatives_per_empty_image=3)


def softmax(row, temperature=1.0):
    powers = [math.exp(value / temperature) for value in row]
    return [value / sum(powers) for value in powers]


def chosen_boxes(predictions, answers, rules):
    """The boxes of each image with an object for the teacher, and the negatives that the student is least sure of."""
    for student, teacher in zip(predictions.logits.tolist(), answers.logits.tolist(), strict=True):
        seen = [k for k, row in enumerate(teacher) if softmax(row)[0] < 0.5]
        free = [k for k in range(len(teacher)) if k not in seen]
        wanted = max(rules.negative_ratio * len(seen), rules.negatives_per_empty_image)
        yield seen, sorted(free, key=lambda k: softmax(student[k])[0])[:wanted]


def slow_loss(predictions, answers, rules):
    """The loss one number at a time, in Python's double precision."""
    total, count = 0.0, 0
    for image, (seen, negatives) in enumerate(chosen_boxes(predictions, answers, rules)):
        for k in seen + negatives:
            theirs = softmax(answers.logits[image, k].tolist(), TEMPERATURE)
            mine = softmax(predictions.logits[image, k].tolist(), TEMPERATURE)
            total += TEMPERATURE**2 * sum(p * math.log(p / q) for p, q in zip(theirs, mine, strict=True))
        for k in seen:
            for is_, should in zip(
                predictions.offsets[image, k].tolist(), answers.offsets[image, k].tolist(), strict=True
            ):
                far = abs(is_ - should)
                total += far - 0.5 if far >= 1 else 0.5 * far * far
        count += len(seen)
    return total / max(1, count)


def made(seed, boxes=12, background=1.0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (random_predictions(3, boxes, 4, generator, spread=1.5) for _ in range(2))
    teacher.logits[..., 0] += background
    return student, teacher


@pytest.fixture(params=[True, False], ids=["cpu", "other"])
def on_either_device(request):
    with pretended_device(request.param):
        yield


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_its_slow_twin_computes(seed, on_either_device):
    student, teacher = made(seed)
    assert sees_object(teacher).any()
    assert float(teacher_loss(student, teacher, RULES)) == pytest.approx(slow_loss(student, teacher, RULES), rel=1e-5)


def test_only_chosen_boxes_get_a_gradient(on_either_device):
    student, teacher = made(7)
    student.offsets.requires_grad_()
    student.logits.requires_grad_()
    teacher_loss(student, teacher, RULES).backward()
    for image, (seen, negatives) in enumerate(chosen_boxes(student, teacher, RULES)):
        for k in range(12):
            assert bool(student.offsets.grad[image, k].any()) == (k in seen)
            assert bool(student.logits.grad[image, k].any()) == (k in seen + negatives)


def test_a_student_that_answers_like_its_teacher_has_nothing_to_learn(on_either_device):
    _, teacher = made(3)
    student = Predictions(teacher.offsets.clone().requires_grad_(), teacher.logits.clone().requires_grad_())
    loss = teacher_loss(student, teacher, RULES)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert float(student.offsets.grad.abs().max()) == 0
    assert float(student.logits.grad.abs().max()) < 1e-6


def test_where_the_teacher_sees_nothing_negatives_alone_are_learned(on_either_device):
    student, teacher = made(1, background=50.0)
    student.offsets.requires_grad_()
    student.logits.requires_grad_()
    teacher_loss(student, teacher, RULES).backward()
    assert not student.offsets.grad.any()
    assert (student.logits.grad.any(-1).sum(1) == 3).all()  # negatives_per_empty_image


def test_the_sum_may_be_divided_by_another_number_of_boxes():
    student, teacher = made(2)
    once = teacher_loss(student, teacher, RULES)
    twice = teacher_loss(student, teacher, RULES, positives=2.0 * sees_object(teacher).sum())
    assert float(once) == pytest.approx(2 * float(twice))
