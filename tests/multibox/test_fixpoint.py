"""Suppression by fixpoint keeps what the plain loop keeps, or says that it did not settle."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.boxes import iou
from ssd.multibox.candidates import Candidates
from ssd.multibox.fixpoint import ROUNDS, suppress_by_fixpoint
from ssd.multibox.postprocess import postprocess, postprocess_without_waiting
from ssd.structures import BatchDetections
from tests.multibox.made import RULES, VARIANCES, pretended_device, random_boxes, random_predictions

NEVER = 26  # rounds enough for every chain of these tests


def candidates_of(boxes, labels, accepted=None):
    """Candidates as given, best first, for one image or several."""
    boxes = boxes if boxes.dim() == 3 else boxes[None]
    labels = labels.reshape(boxes.shape[:2])
    scores = torch.linspace(1, 0.1, boxes.shape[1]).expand(boxes.shape[:2])
    accepted = torch.ones_like(labels, dtype=torch.bool) if accepted is None else accepted.reshape(boxes.shape[:2])
    return Candidates(boxes, scores, labels, accepted, torch.zeros(len(boxes), dtype=torch.bool))


def plain_loop(candidates, threshold):
    """Greedy suppression as anyone would write it."""
    kept = torch.zeros_like(candidates.accepted)
    for image in range(len(kept)):
        overlaps = iou(candidates.boxes[image].double(), candidates.boxes[image].double())
        for place in range(kept.shape[1]):
            if not candidates.accepted[image, place]:
                continue
            same = candidates.labels[image, :place] == candidates.labels[image, place]
            better = kept[image, :place] & same
            kept[image, place] = not bool((overlaps[place, :place][better] > threshold).any())
    return kept


def random_candidates(generator, images, places):
    """Crowded boxes, on a grid half of the time, so that many overlaps are equal and some are the threshold itself."""
    grid = 4 if torch.rand((), generator=generator) < 0.5 else None
    boxes = torch.stack([random_boxes(places, generator, grid) for _ in range(images)])
    labels = torch.randint(0, 3, (images, places), generator=generator)
    return candidates_of(boxes, labels, torch.rand(images, places, generator=generator) < 0.9)


def check_random_batches(count):
    generator = torch.Generator().manual_seed(count)
    for _ in range(count):
        images, places = (int(torch.randint(1, most, (), generator=generator)) for most in (5, 25))
        candidates = random_candidates(generator, images, places)
        threshold = float(torch.rand((), generator=generator))
        kept, settled = suppress_by_fixpoint(candidates, threshold, rounds=NEVER)
        assert settled.all()
        assert torch.equal(kept, plain_loop(candidates, threshold))


def test_random_batches_keep_what_the_plain_loop_keeps():
    check_random_batches(300)


@pytest.mark.slow
def test_ten_thousand_random_batches_keep_what_the_plain_loop_keeps():
    check_random_batches(10_000)


def chain(length, step=0.3):
    """Boxes of which each overlaps the one before and the one after it too much, and no other."""
    left = torch.arange(length) * step
    return torch.stack([left, torch.zeros(length), left + 1, torch.ones(length)], dim=1) / (length * step + 1)


def test_a_chain_keeps_every_second_box():
    kept, settled = suppress_by_fixpoint(candidates_of(chain(9), torch.zeros(9, dtype=torch.long)), 0.5)
    assert settled.all()
    assert kept[0].tolist() == [True, False] * 4 + [True]


def test_a_chain_longer_than_the_rounds_is_marked():
    long = candidates_of(chain(ROUNDS + 3), torch.zeros(ROUNDS + 3, dtype=torch.long))
    assert not suppress_by_fixpoint(long, 0.5)[1].any()
    kept, settled = suppress_by_fixpoint(long, 0.5, rounds=ROUNDS + 4)
    assert settled.all()
    assert torch.equal(kept, plain_loop(long, 0.5))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_has_settled_is_what_the_plain_loop_keeps(data):
    """Chains of any length, shuffled, of several classes, with any number of rounds."""
    length, rounds = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 20))
    order = torch.tensor(data.draw(st.permutations(range(length))))
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=length, max_size=length)))
    accepted = torch.tensor(data.draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    candidates = candidates_of(chain(length, data.draw(st.sampled_from([0.1, 0.3, 0.6])))[order], labels, accepted)
    kept, settled = suppress_by_fixpoint(candidates, 0.5, rounds)
    assert not settled.any() or torch.equal(kept, plain_loop(candidates, 0.5))


def test_images_of_one_batch_do_not_meet():
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5]]).expand(3, 2, 4)
    kept, settled = suppress_by_fixpoint(candidates_of(boxes, torch.zeros(3, 2, dtype=torch.long)), 0.5)
    assert settled.tolist() == [True] * 3
    assert kept.tolist() == [[True, False]] * 3


def test_nothing_accepted_keeps_nothing():
    nothing = candidates_of(chain(4), torch.zeros(4, dtype=torch.long), torch.zeros(4, dtype=torch.bool))
    kept, settled = suppress_by_fixpoint(nothing, 0.5)
    assert not kept.any()
    assert settled.all()


def test_unsettled_images_are_finished_by_the_other_way(monkeypatch):
    """With one round nearly nothing settles, and the detections are the same."""
    generator = torch.Generator().manual_seed(3)
    default_boxes, predictions = random_boxes(300, generator), random_predictions(4, 300, 4, generator)
    wanted = postprocess(predictions, default_boxes, RULES, VARIANCES)
    monkeypatch.setattr("ssd.multibox.postprocess.suppress_by_fixpoint", partial(suppress_by_fixpoint, rounds=1))
    with pretended_device(is_cpu=False):
        assert postprocess_without_waiting(predictions, default_boxes, RULES, VARIANCES)[1].any()
        found = postprocess(predictions, default_boxes, RULES, VARIANCES)
    assert_same(found, wanted)


def assert_same(found: BatchDetections, wanted: BatchDetections):
    assert found.counts.tolist() == wanted.counts.tolist()
    assert torch.equal(found.labels, wanted.labels)
    torch.testing.assert_close(found.scores, wanted.scores)
    torch.testing.assert_close(found.boxes, wanted.boxes)
