import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.multibox import postprocess as module
from ssd.multibox.coder import encode
from ssd.multibox.voting import vote
from ssd.settings import Postprocessing
from ssd.structures import Predictions
from tests.multibox.made import VARIANCES, postprocessed, pretended_device, random_boxes, random_predictions
from tests.multibox.test_postprocess import overlap, sure


def predicted(boxes, scores):
    """Predictions whose boxes and scores are these, for one image, with their default boxes."""
    default_boxes = torch.tensor(boxes)
    return Predictions(encode(default_boxes, default_boxes, VARIANCES)[None], sure(scores)), default_boxes


def slow_votes(box, score, label, voters, sigma, iou_threshold):
    """Of one detection; `voters` are (box, score, label)."""
    total, sides = 0.0, [0.0] * 4
    for its_box, its_score, its_label in voters:
        shared = overlap(box, its_box)
        if its_label == label and shared > iou_threshold and its_score >= 0.25 * score:
            weight = its_score * math.exp(-((1 - shared) ** 2) / sigma)
            total += weight
            sides = [side + weight * theirs for side, theirs in zip(sides, its_box, strict=True)]
    missing = max(0.0, score - total)
    whole = total + missing
    return [(side + missing * own) / whole for side, own in zip(sides, box, strict=True)] if whole else list(box)


def test_a_worked_example():
    boxes = [[0.2, 0.2, 0.6, 0.6], [0.2, 0.2, 0.6, 0.5], [0.2, 0.2, 0.6, 0.4], [0.7, 0.7, 0.9, 0.9]]
    predictions, default_boxes = predicted(boxes, [[0.8], [0.4], [0.7], [0.3]])
    plain = postprocessed(predictions, default_boxes)
    found = postprocessed(predictions, default_boxes, box_voting=0.05)
    assert found.counts.tolist() == [2]
    assert torch.equal(found.scores, plain.scores)
    assert torch.equal(found.labels, plain.labels)
    # The second overlaps the first by 3/4, the third by 1/2; the last has nobody around it.
    weights = [0.8, 0.4 * math.exp(-(0.25**2) / 0.05), 0.7 * math.exp(-(0.5**2) / 0.05)]
    bottom = (0.6 * weights[0] + 0.5 * weights[1] + 0.4 * weights[2]) / sum(weights)
    assert found.boxes[0, 0].tolist() == pytest.approx([0.2, 0.2, 0.6, bottom], abs=1e-6)
    assert torch.equal(found.boxes[0, 1:], plain.boxes[0, 1:])


@pytest.mark.parametrize(
    ("box", "score", "moves"),
    [
        ([0.2, 0.2, 0.6, 0.5], 0.21, True),
        ([0.2, 0.2, 0.6, 0.5], 0.19, False),  # less than a quarter of 0.8
        ([0.2, 0.2, 0.6, 0.39], 0.7, True),
        ([0.2, 0.2, 0.6, 0.37], 0.7, False),  # overlaps by 0.425: another detection
    ],
)
def test_who_has_a_vote(box, score, moves):
    predictions, default_boxes = predicted([[0.2, 0.2, 0.6, 0.6], box], [[0.8], [score]])
    plain, found = (postprocessed(predictions, default_boxes, box_voting=sigma) for sigma in (0.0, 0.05))
    assert (found.boxes[0, 0] != plain.boxes[0, 0]).any() == moves


@pytest.mark.parametrize("least", [0.01, 0.6])
def test_a_box_below_the_score_threshold_has_a_vote(least):
    predictions, default_boxes = predicted([[0.2, 0.2, 0.6, 0.6], [0.2, 0.2, 0.6, 0.5]], [[0.8], [0.4]])
    found = postprocessed(predictions, default_boxes, box_voting=0.05, score_threshold=least)
    weight = 0.4 * math.exp(-(0.25**2) / 0.05)
    assert found.boxes[0, 0, 3].item() == pytest.approx((0.8 * 0.6 + weight * 0.5) / (0.8 + weight), abs=1e-6)


def test_other_classes_have_no_vote():
    predictions, default_boxes = predicted([[0.2, 0.2, 0.6, 0.6], [0.2, 0.2, 0.6, 0.5]], [[0.8, 0.0], [0.0, 0.8]])
    plain, found = (postprocessed(predictions, default_boxes, box_voting=sigma) for sigma in (0.0, 0.05))
    assert found.counts.tolist() == [2]
    assert torch.equal(found.boxes, plain.boxes)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    detections=st.integers(0, 5),
    voters=st.integers(1, 20),
    sigma=st.sampled_from([0.01, 0.05, 1.0]),
    iou_threshold=st.sampled_from([0.0, 0.3, 0.45]),
)
def test_it_equals_plain_loops(seed, detections, voters, sigma, iou_threshold):
    generator = torch.Generator().manual_seed(seed)
    places = random_boxes(3, generator)
    boxes, theirs = (
        torch.stack([places[torch.arange(n) % 3] + 0.1 * random_boxes(n, generator) for _ in range(2)])
        for n in (detections, voters)
    )
    scores, their_scores = (torch.rand(2, n, generator=generator) for n in (detections, voters))
    labels, their_labels = (torch.randint(0, 2, (2, n), generator=generator) for n in (detections, voters))
    rules = Postprocessing(iou_threshold=iou_threshold, box_voting=sigma)
    moved = vote(boxes, scores, labels, theirs, their_scores, their_labels, rules)
    assert moved.shape == boxes.shape
    for image in range(2):
        rows = zip(*(part[image].tolist() for part in (theirs, their_scores, their_labels)), strict=True)
        around = list(rows)
        for place in range(detections):
            mine = (part[image, place].tolist() for part in (boxes, scores, labels))
            assert moved[image, place].tolist() == pytest.approx(
                slow_votes(*mine, around, sigma, iou_threshold), abs=1e-4
            )


def crowd(seed=0, images=3):
    """Many guesses at a dozen places each."""
    generator = torch.Generator().manual_seed(seed)
    places = random_boxes(12, generator)
    default_boxes = places[torch.arange(600) % 12] + torch.rand(600, 4, generator=generator) * 0.03
    return random_predictions(images, 600, 4, generator, spread=0.5), default_boxes


def test_a_detection_that_is_not_among_the_voters_is_not_carried_off_by_another(monkeypatch):
    boxes = [[0.0, 0.2, 0.3, 0.6], [0.1, 0.2, 0.4, 0.6], [0.2, 0.2, 0.5, 0.6]]  # neighbours overlap by half
    predictions, default_boxes = predicted(boxes, [[0.9], [0.8], [0.3]])
    monkeypatch.setattr(module, "VOTERS", 2)
    found = postprocessed(predictions, default_boxes, box_voting=0.05)
    assert found.counts.tolist() == [2]
    vote_of_the_second = 0.8 * math.exp(-(0.5**2) / 0.05)
    assert found.boxes[0, 1, 0].item() == pytest.approx(0.2 - 0.1 * vote_of_the_second / 0.3, abs=1e-6)


@pytest.mark.parametrize("is_cpu", [True, False])
def test_a_threshold_on_scores_or_numbers_leaves_the_boxes_where_they_are(is_cpu):
    predictions, default_boxes = crowd()
    with pretended_device(is_cpu):
        plain = postprocessed(predictions, default_boxes)
        every = postprocessed(predictions, default_boxes, box_voting=0.05)
        assert (plain.boxes != every.boxes).any(dim=2).sum() > 20
        for options in ({"score_threshold": 0.4}, {"max_detections": 5}, {"score_threshold": 0.0}):
            found = postprocessed(predictions, default_boxes, box_voting=0.05, **options)
            for image, count in enumerate(found.counts.tolist()):
                shared = min(count, int(every.counts[image]))
                assert shared > 0
                assert torch.equal(found.boxes[image, :shared], every.boxes[image, :shared])


def test_the_path_for_cuda_gives_the_same():
    predictions, default_boxes = crowd(1)
    here = postprocessed(predictions, default_boxes, box_voting=0.05, score_threshold=0.3)
    with pretended_device(False):
        there = postprocessed(predictions, default_boxes, box_voting=0.05, score_threshold=0.3)
    assert torch.equal(here.boxes, there.boxes)
    assert torch.equal(here.counts, there.counts)


def test_looking_further_gives_nobody_else_a_vote(monkeypatch):
    predictions, default_boxes = crowd(2, images=1)
    options = {"max_detections": 40, "box_voting": 0.05, "iou_threshold": 0.3}
    monkeypatch.setattr(module, "VOTERS", 80)
    expected = postprocessed(predictions, default_boxes, **options)
    looked_at = []
    original = module.best_candidates
    monkeypatch.setattr(module, "best_candidates", lambda *a: looked_at.append(a[-1]) or original(*a))
    found = postprocessed(predictions, default_boxes, **options)
    assert len(looked_at) > 1, "nothing was looked at again"
    once = postprocessed(predictions, default_boxes, **options | {"max_detections": 300})  # all of them at once
    shared = int(found.counts[0])
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.boxes[0, :shared], once.boxes[0, :shared])


def test_images_without_a_detection_and_boxes_that_are_not_numbers():
    empty = Predictions(torch.zeros(2, 3, 4), torch.tensor([20.0, 0.0]).expand(2, 3, 2))
    found = postprocessed(empty, random_boxes(3, torch.Generator().manual_seed(0)), box_voting=0.05)
    assert found.counts.tolist() == [0, 0]
    assert not found.boxes.any()
    predictions, default_boxes = predicted(
        [[0.2, 0.2, 0.6, 0.6], [0.2, 0.2, 0.6, 0.5], [0.7, 0.7, 0.9, 0.9]], [[0.8]] * 3
    )
    predictions.offsets[0, 1] = math.nan
    plain, found = (postprocessed(predictions, default_boxes, box_voting=sigma) for sigma in (0.0, 0.05))
    assert torch.equal(found.boxes.nan_to_num(-1), plain.boxes.nan_to_num(-1)), "a box that is no number had a vote"
