import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.ssd import SSD

from ssd.multibox import candidates as selection
from ssd.multibox import postprocess as module
from ssd.multibox.candidates import best_candidates
from ssd.multibox.class_thresholds import keep_by_class
from ssd.multibox.coder import decode, encode
from ssd.structures import Predictions
from tests.multibox.made import RULES, VARIANCES, postprocessed, pretended_device, random_boxes, random_predictions


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def slow_postprocess(predictions, default_boxes, *, score_threshold, top_k, iou_threshold, max_detections, clip):
    """One image, one class, one box at a time. Returns (score, label, box) for each image."""
    results = []
    scores = predictions.logits.softmax(dim=-1)
    for image in range(len(scores)):
        boxes = decode(predictions.offsets[image], default_boxes, VARIANCES)
        clipped = boxes.clamp(0, 1).tolist()
        boxes = clipped if clip == "before" else boxes.tolist()
        kept = []
        for label in range(scores.shape[2] - 1):
            above = (scores[image, :, label + 1] > score_threshold).tolist()
            score = scores[image, :, label + 1].tolist()
            best = sorted((k for k in range(len(boxes)) if above[k]), key=lambda k: (-score[k], k))[:top_k]
            mine = []
            for k in best:
                if all(overlap(boxes[k], boxes[other]) <= iou_threshold for other in mine):
                    mine.append(k)
            kept += [(-score[k], label, k) for k in mine]
        results.append([(-s, label, clipped[k]) for s, label, k in sorted(kept)[:max_detections]])
    return results


def as_lists(found):
    rows = zip(found.counts.tolist(), found.scores.tolist(), found.labels.tolist(), found.boxes.tolist(), strict=True)
    return [list(zip(scores[:n], labels[:n], boxes[:n], strict=True)) for n, scores, labels, boxes in rows]


def assert_same(predictions, default_boxes, **options):
    options = {
        "score_threshold": 0.01,
        "top_k": 400,
        "iou_threshold": 0.45,
        "max_detections": 200,
        "clip": "after",
    } | options
    found = postprocessed(predictions, default_boxes, **options)
    expected = slow_postprocess(predictions, default_boxes, **options)
    assert as_lists(found) == expected
    images, places = len(expected), options["max_detections"]
    assert found.boxes.shape == (images, places, 4)
    assert found.scores.shape == found.labels.shape == (images, places)
    for image, count in enumerate(found.counts.tolist()):
        assert found.scores[image, count:].abs().sum() == 0
        assert found.boxes[image, count:].abs().sum() == 0


def sure(scores):
    """Logits whose softmax is `scores`, foreground columns given."""
    scores = torch.tensor(scores)
    return torch.cat([1 - scores.sum(dim=-1, keepdim=True), scores], dim=-1).clamp(min=1e-9).log()[None]


def test_a_worked_example():
    default_boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.4], [0.5, 0.5, 1.0, 1.0]])
    logits = sure([[0.6, 0.3], [0.5, 0.4], [0.005, 0.2]])
    found = postprocessed(Predictions(torch.zeros(1, 3, 4), logits), default_boxes, max_detections=5)
    # The first two overlap by 0.8: each class keeps the better one. 0.005 is below the threshold.
    assert found.counts.tolist() == [3]
    assert found.labels.tolist() == [[0, 1, 1, 0, 0]]
    assert found.scores[0].tolist() == pytest.approx([0.6, 0.4, 0.2, 0.0, 0.0])
    assert found.boxes[0, :3].tolist() == pytest.approx(default_boxes[[0, 1, 2]].numpy())


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    images=st.integers(1, 3),
    boxes=st.integers(1, 40),
    classes=st.integers(2, 6),
    spread=st.sampled_from([0.0, 0.5, 3.0]),
    ties=st.booleans(),
    score_threshold=st.sampled_from([0.0, 0.01, 0.2, 0.9]),
    top_k=st.sampled_from([1, 3, 400]),
    iou_threshold=st.sampled_from([0.1, 0.45, 0.8]),
    max_detections=st.sampled_from([1, 4, 200]),
    clip=st.sampled_from(["before", "after"]),
    is_cpu=st.booleans(),
)
def test_it_equals_plain_loops(seed, images, boxes, classes, spread, ties, is_cpu, **options):
    generator = torch.Generator().manual_seed(seed)
    predictions = random_predictions(images, boxes, classes, generator, spread)
    if ties:
        predictions = Predictions(predictions.offsets, predictions.logits.round())
    with pretended_device(is_cpu):
        assert_same(predictions, random_boxes(boxes, generator), **options)


def crowded(boxes, classes, seed=0):
    """Many default boxes on few places, so that most candidates are suppressed."""
    generator = torch.Generator().manual_seed(seed)
    places = random_boxes(12, generator)
    default_boxes = places[torch.arange(boxes) % 12] + torch.rand(boxes, 4, generator=generator) * 0.01
    return random_predictions(2, boxes, classes, generator, spread=0.3), default_boxes


@pytest.mark.parametrize("is_cpu", [True, False])
def test_where_most_candidates_fall_it_looks_further_and_still_equals_the_loops(is_cpu):
    predictions, default_boxes = crowded(600, 5)
    with pretended_device(is_cpu):
        assert_same(predictions, default_boxes, max_detections=40, top_k=400)
        assert_same(predictions, default_boxes, max_detections=40, top_k=30)


def test_a_network_that_says_the_same_everywhere_gives_the_first_boxes():
    default_boxes = torch.cat([random_boxes(50, torch.Generator().manual_seed(0))] * 2)
    predictions = Predictions(torch.zeros(1, 100, 4), torch.zeros(1, 100, 4))
    for is_cpu in (True, False):
        with pretended_device(is_cpu):
            assert_same(predictions, default_boxes, max_detections=20)


def test_the_path_for_cuda_picks_the_same_candidates():
    generator = torch.Generator().manual_seed(0)
    for tied in (False, True):
        predictions = random_predictions(4, 80, 6, generator)
        logits = predictions.logits.round() if tied else predictions.logits
        scores, default_boxes = logits.softmax(dim=-1)[..., 1:], random_boxes(80, generator)
        rest = (default_boxes, replace(RULES, score_threshold=0.1, top_k=7), VARIANCES, 50)
        together = best_candidates(scores, predictions.offsets, *rest)
        for image in range(4):
            one = slice(image, image + 1)
            alone = best_candidates(scores[one], predictions.offsets[one], *rest)
            for name in ("boxes", "scores", "labels", "accepted", "more"):
                assert getattr(alone, name).tolist() == getattr(together, name)[one].tolist()


def test_images_that_are_suppressed_together_do_not_touch(monkeypatch):
    predictions, default_boxes = crowded(60, 5)
    scores = predictions.logits.softmax(dim=-1)[..., 1:]
    candidates = best_candidates(scores, predictions.offsets, default_boxes, RULES, VARIANCES, 200)
    together = module.suppress(candidates, 0.45)
    monkeypatch.setattr(module, "_BOXES_AT_ONCE", 1)
    assert module.suppress(candidates, 0.45).tolist() == together.tolist()


@pytest.mark.parametrize("rows_at_once", [1, 50, 10_000])
def test_images_of_few_and_many_hopeful_boxes_share_a_group_of_any_size(monkeypatch, rows_at_once):
    monkeypatch.setattr(selection, "_ROWS_AT_ONCE", rows_at_once)
    generator = torch.Generator().manual_seed(0)
    default_boxes, predictions = random_boxes(60, generator), random_predictions(5, 60, 4, generator)
    predictions.logits[..., 0] += torch.tensor([40.0, 0.0, 4.0, 40.0, 6.0])[:, None]  # none, all, some, none, few
    assert_same(predictions, default_boxes, score_threshold=0.1)


def test_groups_are_neighbours_whose_padded_rows_stay_within_the_limit(monkeypatch):
    monkeypatch.setattr(selection, "_ROWS_AT_ONCE", 100)
    groups = [(part.start, part.stop, most) for part, most in selection._groups([30, 20, 50, 60, 0, 500, 0, 0])]
    assert groups == [(0, 2, 30), (2, 3, 50), (3, 4, 60), (4, 5, 1), (5, 6, 500), (6, 8, 1)]
    assert list(selection._groups([])) == []


def test_only_images_whose_candidates_do_not_suffice_are_looked_at_again(monkeypatch):
    predictions, default_boxes = crowded(600, 5)
    easy = random_boxes(600, torch.Generator().manual_seed(1))
    # The second image's boxes lie apart: its first candidates are enough.
    offsets = torch.stack([predictions.offsets[0], encode(easy, default_boxes, VARIANCES)])
    looked_at = []
    original = module.best_candidates
    monkeypatch.setattr(module, "best_candidates", lambda *a: looked_at.append((len(a[0]), a[-1])) or original(*a))
    assert_same(Predictions(offsets, predictions.logits), default_boxes, max_detections=40)
    assert looked_at[0] == (2, 80)
    assert looked_at[1:]
    assert {images for images, _ in looked_at[1:]} == {1}
    assert [limit for _, limit in looked_at] == [80 * 2**turn for turn in range(len(looked_at))]


@pytest.mark.parametrize("clip", ["before", "after"])
def test_a_box_far_outside_does_not_disturb_the_others(clip):
    generator = torch.Generator().manual_seed(0)
    default_boxes = random_boxes(30, generator)
    predictions = random_predictions(2, 30, 4, generator)
    predictions.offsets[0, 3] = torch.tensor([1e7, -1e7, 1e7, 1e7])
    calm = Predictions(predictions.offsets[1:], predictions.logits[1:])
    found = postprocessed(predictions, default_boxes, clip=clip)
    assert as_lists(found)[1] == as_lists(postprocessed(calm, default_boxes, clip=clip))[0]
    assert found.boxes.isfinite().all()
    assert found.boxes.min() >= 0
    assert found.boxes.max() <= 1


def test_it_equals_torchvision_with_boxes_cut_before():
    generator = torch.Generator().manual_seed(0)
    default_boxes = random_boxes(500, generator)
    predictions = random_predictions(3, 500, 21, generator, spread=1.5)
    stand_in = SimpleNamespace(
        box_coder=BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)),
        score_thresh=0.01,
        topk_candidates=100,
        nms_thresh=0.45,
        detections_per_img=200,
    )
    heads = {"bbox_regression": predictions.offsets, "cls_logits": predictions.logits}
    theirs = SSD.postprocess_detections(stand_in, heads, [default_boxes * 300] * 3, [(300, 300)] * 3)
    found = postprocessed(predictions, default_boxes, top_k=100, clip="before")
    for image, expected in enumerate(theirs):
        count = int(found.counts[image])
        assert found.labels[image, :count].tolist() == (expected["labels"] - 1).tolist()
        torch.testing.assert_close(found.scores[image, :count], expected["scores"])
        torch.testing.assert_close(found.boxes[image, :count], expected["boxes"] / 300, atol=1e-5, rtol=1e-5)


def test_boxes_are_cut_before_or_after_suppression():
    # Both stick out to the left; inside the image they are the same box.
    default_boxes = torch.tensor([[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.3, 0.3]])
    boxes = torch.tensor([[-0.1, 0.1, 0.3, 0.3], [-0.9, 0.1, 0.3, 0.3]])
    predictions = Predictions(encode(boxes, default_boxes, VARIANCES)[None], sure([[0.9], [0.8]]))
    assert postprocessed(predictions, default_boxes, clip="before").counts.tolist() == [1]
    after = postprocessed(predictions, default_boxes, clip="after")
    assert after.counts.tolist() == [2]
    assert after.boxes[0, :2].tolist() == pytest.approx(torch.tensor([[0.0, 0.1, 0.3, 0.3]] * 2).numpy(), abs=1e-6)


def test_nothing_above_the_threshold_gives_an_empty_result_of_the_same_shape():
    predictions = Predictions(torch.zeros(2, 3, 4), torch.tensor([20.0, 0.0]).expand(2, 3, 2))
    found = postprocessed(predictions, random_boxes(3, torch.Generator().manual_seed(0)), max_detections=7)
    assert found.counts.tolist() == [0, 0]
    assert found.boxes.shape == (2, 7, 4)
    assert found.scores.abs().sum() == 0


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, -1], ids=["x86", "CUDA", "negative"])
@pytest.mark.parametrize("is_cpu", [True, False])
def test_scores_that_are_not_numbers_hide_no_others(is_cpu, bits, monkeypatch):
    not_a_number = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    softmax = torch.Tensor.softmax

    def with_bits(logits, dim):
        scores = softmax(logits, dim)
        return torch.where(scores.isnan(), not_a_number, scores)

    monkeypatch.setattr(torch.Tensor, "softmax", with_bits)
    generator = torch.Generator().manual_seed(0)
    default_boxes, predictions = random_boxes(60, generator), random_predictions(1, 60, 4, generator)
    rest = Predictions(predictions.offsets[:, 20:], predictions.logits[:, 20:])
    expected = as_lists(postprocessed(rest, default_boxes[20:], max_detections=5))
    predictions.logits[:, :20, 2] = math.nan
    with pretended_device(is_cpu):
        assert as_lists(postprocessed(predictions, default_boxes, max_detections=5)) == expected


def test_half_precision_logits_are_softened_in_single_precision():
    generator = torch.Generator().manual_seed(0)
    default_boxes, predictions = random_boxes(40, generator), random_predictions(2, 40, 4, generator)
    half = Predictions(predictions.offsets.bfloat16(), predictions.logits.bfloat16())
    single = Predictions(half.offsets.float(), half.logits.float())
    found = postprocessed(half, default_boxes)
    assert found.scores.dtype == torch.float32
    assert as_lists(found) == as_lists(postprocessed(single, default_boxes))


@pytest.mark.parametrize("is_cpu", [True, False])
def test_classes_below_their_own_threshold_take_no_place_among_the_detections_kept(is_cpu):
    """A sure class that is not wanted, and a weak one that is: the weak one is found however few are kept."""
    generator = torch.Generator().manual_seed(3)
    predictions, default_boxes = random_predictions(2, 300, 4, generator, 2.0), random_boxes(300, generator)
    rules = {"score_threshold": 0.05, "class_thresholds": (0.99, 0.05, 0.3), "box_voting": 0.1}
    with pretended_device(is_cpu):
        everything = postprocessed(predictions, default_boxes, max_detections=900, **rules)
        few = postprocessed(predictions, default_boxes, max_detections=7, **rules)
        unbound = postprocessed(predictions, default_boxes, max_detections=900, score_threshold=0.05, box_voting=0.1)
    assert few.counts.tolist() == [7, 7]
    for column in ("boxes", "scores", "labels"):
        assert torch.equal(getattr(few, column), getattr(everything, column)[:, :7])
    afterwards = keep_by_class(unbound, rules["class_thresholds"])
    for column in ("counts", "boxes", "scores", "labels"):
        assert torch.equal(getattr(everything, column), getattr(afterwards, column))
