import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.ssd import SSD

from ssd.multibox.coder import encode
from ssd.multibox.loss import hard_negatives, multibox_loss
from ssd.multibox.matcher import match
from ssd.settings import LossRules
from ssd.structures import Predictions, Targets
from tests.multibox.made import (
    ALL_NEGATIVE,
    VARIANCES,
    pretended_device,
    random_boxes,
    random_predictions,
    random_targets,
    targets_of,
)

QUARTERS = torch.tensor([[x, y, x + 0.5, y + 0.5] for y in (0.0, 0.5) for x in (0.0, 0.5)])


def slow_loss(predictions, targets, matches, default_boxes, *, negative_ratio, per_empty, positives):
    """The multibox loss one number at a time, in Python's double precision."""
    box_sum = class_sum = 0.0
    count = 0
    for image, answer in enumerate(matches.object_index.tolist()):
        logits = predictions.logits[image].tolist()
        nll = [[math.log(sum(math.exp(x) for x in row)) - value for value in row] for row in logits]
        matched = [k for k, row in enumerate(answer) if row >= 0]
        for k in matched:
            wanted = encode(targets.boxes[image, answer[k]], default_boxes[k], VARIANCES).tolist()
            for is_, should in zip(predictions.offsets[image, k].tolist(), wanted, strict=True):
                far = abs(is_ - should)
                box_sum += far - 0.5 if far >= 1 else 0.5 * far * far
            class_sum += nll[k][int(targets.labels[image, answer[k]]) + 1]
        free = [k for k in range(len(answer)) if answer[k] < 0 and not matches.ignored[image, k]]
        has_objects = bool((targets.valid[image] & ~targets.crowd[image]).any())
        wanted_negatives = negative_ratio * len(matched) if has_objects else per_empty
        background = F.log_softmax(predictions.logits[image], dim=-1)[:, 0].tolist()  # rank as float32 ranks
        worst = sorted(free, key=lambda k: (background[k], k))[:wanted_negatives]
        class_sum += sum(nll[k][0] for k in worst)
        count += len(matched)
    normaliser = max(1, count if positives is None else positives)
    return box_sum / normaliser, class_sum / normaliser, count


def slow_masked_confidence(predictions, targets, matches, rules, weights):
    """The class loss where images are complete for some classes only, one number at a time; not yet normalised."""
    total = 0.0
    for image, answer in enumerate(matches.object_index.tolist()):
        complete = targets.complete[image].tolist()
        losses = []
        for k, row in enumerate(answer):
            columns = [c for c in range(len(complete)) if row >= 0 or complete[c]]
            logits = {c: predictions.logits[image, k, c].item() for c in columns}
            log_sum = math.log(sum(math.exp(value) for value in logits.values()))
            nll = {c: log_sum - value for c, value in logits.items()}
            right = int(targets.labels[image, row]) + 1 if row >= 0 else 0
            smooth = sum(nll.values()) / len(nll)
            loss = (1 - rules.label_smoothing) * nll[right] + rules.label_smoothing * smooth
            losses.append((log_sum - logits.get(0, 0.0), float(weights[right]) * loss))
        total += sum(losses[k][1] for k, row in enumerate(answer) if row >= 0)
        free = [k for k, row in enumerate(answer) if row < 0 and not matches.ignored[image, k]]
        has_objects = bool((targets.valid[image] & ~targets.crowd[image]).any())
        wanted = rules.negative_ratio * sum(row >= 0 for row in answer)
        worst = sorted(free, key=lambda k: -losses[k][0])[: wanted if has_objects else rules.negatives_per_empty_image]
        total += sum(losses[k][1] for k in worst)
    return total


def masked_targets(targets, generator, classes):
    complete = torch.rand(len(targets.labels), classes, generator=generator) < 0.6
    complete[:, 0] = True
    return dataclasses.replace(targets, complete=complete)


def compute(predictions, targets, default_boxes, *, positives=None, **changes):
    rules = dataclasses.replace(ALL_NEGATIVE, **changes)
    matches = match(default_boxes, targets, rules)
    return multibox_loss(predictions, targets, matches, default_boxes, rules, VARIANCES, positives=positives)


def with_gradients(predictions):
    predictions.offsets.requires_grad_()
    predictions.logits.requires_grad_()
    return predictions


@pytest.fixture(params=[True, False], ids=["cpu", "other"])
def on_either_device(request):
    with pretended_device(request.param):
        yield


def test_a_worked_example(on_either_device):
    # One object fits the first of four default boxes; of the other three the network is sure of one.
    targets = targets_of([([0.0, 0.0, 0.5, 0.5], 0)])
    offsets = torch.zeros(1, 4, 4)
    offsets[0, 0] = torch.tensor([0.5, 0.0, 0.0, -3.0])
    logits = torch.zeros(1, 4, 2)
    logits[0, 1] = torch.tensor([9.0, 0.0])
    parts = compute(Predictions(offsets, logits), targets, QUARTERS, negative_ratio=2)
    assert float(parts.box) == pytest.approx(0.5 * 0.5**2 + 2.5)
    assert float(parts.confidence) == pytest.approx(3 * math.log(2))  # the positive, and the two it is unsure of
    assert int(parts.positives) == 1
    assert float(parts.total) == pytest.approx(float(parts.box) + float(parts.confidence))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    images=st.integers(1, 4),
    most=st.integers(0, 6),
    boxes=st.integers(1, 40),
    negative_ratio=st.integers(0, 4),
    per_empty=st.sampled_from([0, 1, 5, 1000]),
    positives=st.sampled_from([None, 0.5, 7.5]),
    ties=st.booleans(),
    is_cpu=st.booleans(),
)
def test_it_equals_plain_loops(seed, images, most, boxes, negative_ratio, per_empty, positives, ties, is_cpu):
    generator = torch.Generator().manual_seed(seed)
    default_boxes = random_boxes(boxes, generator)
    targets = random_targets(images, most, generator, num_classes=3)
    predictions = random_predictions(images, boxes, 4, generator, spread=2.0)
    if ties:
        predictions = Predictions(predictions.offsets, predictions.logits.round())
    matches = match(default_boxes, targets, LossRules(match_iou=0.4, negative_iou=1.0))
    box, confidence, count = slow_loss(
        predictions,
        targets,
        matches,
        default_boxes,
        negative_ratio=negative_ratio,
        per_empty=per_empty,
        positives=positives,
    )
    with pretended_device(is_cpu):
        parts = multibox_loss(
            predictions,
            targets,
            matches,
            default_boxes,
            LossRules(negative_ratio=negative_ratio, negatives_per_empty_image=per_empty),
            VARIANCES,
            positives=None if positives is None else torch.tensor(positives),
        )
    assert float(parts.box) == pytest.approx(box, rel=2e-4, abs=1e-5)
    assert float(parts.confidence) == pytest.approx(confidence, rel=2e-4, abs=1e-5)
    assert int(parts.positives) == count


@pytest.mark.parametrize("is_cpu", [True, False])
def test_it_equals_torchvision_where_their_rules_agree(is_cpu):
    generator = torch.Generator().manual_seed(0)
    default_boxes = random_boxes(300, generator)
    targets = random_targets(8, 5, generator, num_classes=6, crowds=0.0)
    matches = match(default_boxes, targets, ALL_NEGATIVE)
    ours = with_gradients(random_predictions(8, 300, 7, generator))
    theirs = with_gradients(Predictions(ours.offsets.detach().clone(), ours.logits.detach().clone()))

    stand_in = SimpleNamespace(box_coder=BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3)
    lists = [
        {"boxes": boxes[valid], "labels": labels[valid] + 1}
        for boxes, labels, valid in zip(targets.boxes, targets.labels, targets.valid, strict=True)
    ]
    heads = {"bbox_regression": theirs.offsets, "cls_logits": theirs.logits}
    expected = SSD.compute_loss(stand_in, lists, heads, [default_boxes] * 8, list(matches.object_index))

    with pretended_device(is_cpu):
        parts = multibox_loss(ours, targets, matches, default_boxes, LossRules(negatives_per_empty_image=0), VARIANCES)
    torch.testing.assert_close(parts.box, expected["bbox_regression"])
    torch.testing.assert_close(parts.confidence, expected["classification"])
    parts.total.backward()
    (expected["bbox_regression"] + expected["classification"]).backward()
    torch.testing.assert_close(ours.offsets.grad, theirs.offsets.grad)
    torch.testing.assert_close(ours.logits.grad, theirs.logits.grad)


@pytest.mark.parametrize("rows", [0, 2])
def test_a_batch_without_objects_is_a_zero_connected_to_the_network_in_the_paper(rows, on_either_device):
    empty = targets_of([], [])
    padded = targets_of([([0.0, 0.0, 1.0, 1.0], 0)] * 2, [])
    targets = (
        empty if rows == 0 else Targets(padded.boxes * 0, padded.labels, padded.crowd, torch.zeros_like(padded.valid))
    )
    predictions = with_gradients(random_predictions(2, 4, 3, torch.Generator().manual_seed(0)))
    parts = compute(predictions, targets, QUARTERS, negatives_per_empty_image=0)
    assert (parts.box.item(), parts.confidence.item(), parts.positives.item()) == (0.0, 0.0, 0)
    parts.total.backward()
    assert predictions.offsets.grad.abs().sum() == 0
    assert predictions.logits.grad.abs().sum() == 0


def test_an_image_without_objects_teaches_background():
    predictions = with_gradients(random_predictions(1, 4, 3, torch.Generator().manual_seed(0)))
    parts = compute(predictions, targets_of([]), QUARTERS, negatives_per_empty_image=2)
    worst = F.cross_entropy(predictions.logits[0], torch.zeros(4, dtype=torch.long), reduction="none").topk(2)
    assert parts.confidence.item() == pytest.approx(worst.values.sum().item())
    parts.total.backward()
    touched = predictions.logits.grad[0].abs().sum(dim=1) > 0
    assert sorted(touched.nonzero().flatten().tolist()) == sorted(worst.indices.tolist())
    assert predictions.offsets.grad.abs().sum() == 0


def test_crowds_are_neither_positive_nor_negative():
    whole = ([0.0, 0.0, 1.0, 1.0], 0, "crowd")
    predictions = with_gradients(random_predictions(1, 4, 3, torch.Generator().manual_seed(0)))
    parts = compute(predictions, targets_of([whole]), QUARTERS, negatives_per_empty_image=32)
    assert parts.total.item() == 0.0
    parts.total.backward()
    assert predictions.logits.grad.abs().sum() == 0


def test_given_positives_replace_the_count_of_the_batch():
    targets = targets_of([([0.0, 0.0, 0.5, 0.5], 0)])
    predictions = random_predictions(1, 4, 3, torch.Generator().manual_seed(0))
    alone = compute(predictions, targets, QUARTERS)
    shared = compute(predictions, targets, QUARTERS, positives=torch.tensor(2.5))
    assert float(shared.total) == pytest.approx(float(alone.total) / 2.5)
    assert int(shared.positives) == int(alone.positives) == 1
    small = compute(predictions, targets, QUARTERS, positives=torch.tensor(0.25))
    assert float(small.total) == pytest.approx(float(alone.total))


def test_half_precision_predictions_are_summed_in_single_precision(on_either_device):
    generator = torch.Generator().manual_seed(0)
    default_boxes, targets = random_boxes(50, generator), random_targets(3, 4, generator, num_classes=3)
    single = random_predictions(3, 50, 4, generator)
    half = with_gradients(Predictions(single.offsets.bfloat16(), single.logits.bfloat16()))
    back = Predictions(half.offsets.detach().float(), half.logits.detach().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = compute(half, targets, default_boxes)
    expected = compute(back, targets, default_boxes)
    assert parts.total.dtype == torch.float32
    assert parts.total.item() == expected.total.item()
    parts.total.backward()
    assert half.logits.grad.dtype == torch.bfloat16
    assert half.logits.grad.isfinite().all()


def test_label_smoothing_is_that_of_cross_entropy(on_either_device):
    targets = targets_of([([0.0, 0.0, 0.5, 0.5], 1)])
    predictions = random_predictions(1, 4, 3, torch.Generator().manual_seed(0))
    parts = compute(predictions, targets, QUARTERS, label_smoothing=0.1)
    classes = torch.tensor([2, 0, 0, 0])
    expected = F.cross_entropy(predictions.logits[0], classes, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(parts.confidence, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_multiply_the_cross_entropy_of_their_class(on_either_device, smoothing):
    """A slow twin: one default box at a time, and the divisor stays the number of matched boxes."""
    generator = torch.Generator().manual_seed(1)
    default_boxes, targets = random_boxes(40, generator), random_targets(3, 4, generator, num_classes=3)
    predictions = random_predictions(3, 40, 4, generator)
    weights = torch.tensor([1.0, 0.5, 3.0, 1.0])
    rules = dataclasses.replace(ALL_NEGATIVE, match_iou=0.1, negative_iou=0.1, label_smoothing=smoothing)
    matches = match(default_boxes, targets, rules)
    parts = multibox_loss(predictions, targets, matches, default_boxes, rules, VARIANCES, class_weights=weights)
    plain = multibox_loss(predictions, targets, matches, default_boxes, rules, VARIANCES)
    more = 0.0
    for image, answer in enumerate(matches.object_index.tolist()):
        for k, row in enumerate(answer):
            if row >= 0:
                column = targets.labels[image, row] + 1
                loss = F.cross_entropy(predictions.logits[image, k].double(), column, label_smoothing=smoothing)
                more += (float(weights[column]) - 1) * float(loss)
    assert int(parts.positives) > 5
    assert float(parts.confidence) == pytest.approx(float(plain.confidence) + more / int(parts.positives), rel=1e-5)
    assert torch.equal(parts.box, plain.box)


def test_weights_of_1_leave_the_loss_and_its_gradient_equal_to_the_last_bit(on_either_device):
    generator = torch.Generator().manual_seed(2)
    default_boxes, targets = random_boxes(40, generator), random_targets(3, 4, generator, num_classes=3)
    predictions = random_predictions(3, 40, 4, generator)
    matches = match(default_boxes, targets, ALL_NEGATIVE)
    found = []
    for weights in (None, torch.ones(4)):
        own = with_gradients(Predictions(predictions.offsets.clone(), predictions.logits.clone()))
        parts = multibox_loss(own, targets, matches, default_boxes, ALL_NEGATIVE, VARIANCES, class_weights=weights)
        parts.total.backward()
        found.append((parts.total.detach(), own.logits.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    smoothing=st.sampled_from([0.0, 0.1]),
    weighted=st.booleans(),
    per_empty=st.sampled_from([0, 3]),
    is_cpu=st.booleans(),
)
def test_classes_that_an_image_is_not_complete_for_leave_its_negatives(seed, smoothing, weighted, per_empty, is_cpu):
    generator = torch.Generator().manual_seed(seed)
    default_boxes = random_boxes(30, generator)
    targets = masked_targets(random_targets(3, 4, generator, num_classes=4), generator, 5)
    predictions = with_gradients(random_predictions(3, 30, 5, generator, spread=2.0))
    rules = dataclasses.replace(
        ALL_NEGATIVE, match_iou=0.4, label_smoothing=smoothing, negatives_per_empty_image=per_empty
    )
    weights = torch.tensor([1.0, 0.5, 3.0, 0.0, 2.0]) if weighted else None
    matches = match(default_boxes, targets, rules)
    with pretended_device(is_cpu):
        parts = multibox_loss(predictions, targets, matches, default_boxes, rules, VARIANCES, class_weights=weights)
    ones = torch.ones(5) if weights is None else weights
    slow = slow_masked_confidence(predictions, targets, matches, rules, ones) / max(1, int(parts.positives))
    assert parts.confidence.item() == pytest.approx(slow, rel=1e-4, abs=1e-5)
    parts.total.backward()
    hidden = (matches.object_index < 0)[..., None] & ~targets.complete[:, None]
    assert (predictions.logits.grad[hidden] == 0).all()
    assert predictions.logits.grad.isfinite().all()


def test_a_class_that_may_be_there_unlabelled_makes_no_hard_negative(on_either_device):
    # The network is sure of class 1 in box 1, and half sure of class 0 in box 2.
    logits = torch.zeros(1, 4, 3)
    logits[0, 1, 2], logits[0, 2, 1], logits[0, 3, 0] = 9.0, 1.0, 5.0
    targets = targets_of([([0.0, 0.0, 0.5, 0.5], 0)])
    expected = {(True, True): 1, (True, False): 2}  # complete for both classes, or for class 0 alone: the negative
    for complete, negative in expected.items():
        predictions = with_gradients(Predictions(torch.zeros(1, 4, 4), logits.clone()))
        said = dataclasses.replace(targets, complete=torch.tensor([[True, *complete]]))
        compute(predictions, said, QUARTERS, negative_ratio=1).total.backward()
        touched = predictions.logits.grad[0].abs().sum(dim=1) > 0
        assert touched.nonzero().flatten().tolist() == [0, negative]
        assert (predictions.logits.grad[0, 0] != 0).all()  # a positive keeps the full softmax


def test_complete_images_have_the_loss_of_images_of_which_nothing_is_said(on_either_device):
    generator = torch.Generator().manual_seed(3)
    default_boxes, targets = random_boxes(40, generator), random_targets(3, 4, generator, num_classes=3)
    predictions = random_predictions(3, 40, 4, generator)
    said = dataclasses.replace(targets, complete=torch.ones(3, 4, dtype=torch.bool))
    for smoothing in (0.0, 0.1):
        plain = compute(predictions, targets, default_boxes, label_smoothing=smoothing)
        masked = compute(predictions, said, default_boxes, label_smoothing=smoothing)
        torch.testing.assert_close(masked.total, plain.total)


def test_gradients_are_finite_for_wild_predictions(on_either_device):
    generator = torch.Generator().manual_seed(0)
    default_boxes, targets = random_boxes(60, generator), random_targets(4, 5, generator, num_classes=3)
    predictions = with_gradients(random_predictions(4, 60, 4, generator, spread=1e4))
    parts = compute(predictions, targets, default_boxes)
    parts.total.backward()
    assert parts.total.isfinite()
    assert predictions.offsets.grad.isfinite().all()
    assert predictions.logits.grad.isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_prediction_that_is_not_a_number_reaches_the_loss(value, on_either_device):
    # In the last, otherwise easy, negative: mining must not look past it.
    targets = targets_of([([0.0, 0.0, 0.5, 0.5], 0)])
    predictions = random_predictions(1, 4, 3, torch.Generator().manual_seed(0))
    predictions.logits[0, 3, 1] = value
    assert not compute(predictions, targets, QUARTERS, negative_ratio=1).total.isfinite()


def test_equal_negatives_are_taken_from_the_front(on_either_device):
    candidates = torch.tensor([[True, False, True, True, True], [True] * 5])
    chosen = hard_negatives(torch.zeros(2, 5, 3), candidates, torch.tensor([2, 0]))
    assert chosen.tolist() == [[True, False, True, False, False], [False] * 5]


def test_fewer_candidates_than_wanted_are_all_taken(on_either_device):
    candidates = torch.tensor([[False, True, False]])
    assert hard_negatives(torch.zeros(1, 3, 2), candidates, torch.tensor([9])).tolist() == candidates.tolist()
