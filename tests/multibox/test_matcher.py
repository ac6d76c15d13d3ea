import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from ssd.boxes import area, intersection, iou
from ssd.model import factory
from ssd.multibox import greedy, matcher
from ssd.multibox.default_boxes import default_boxes as tiled_boxes
from ssd.multibox.matcher import match
from ssd.settings import LossRules
from ssd.structures import Targets
from tests.multibox.made import ALL_NEGATIVE, pretended_device, random_boxes, random_targets, targets_of

DEFAULT_RULES = LossRules()
THIRDS = torch.tensor([[0.0, 0.0, 0.3, 1.0], [0.3, 0.0, 0.6, 1.0], [0.6, 0.0, 0.9, 1.0]])


def slow_match(default_boxes, targets, iou_threshold, negative_iou=1.0):
    """The rules, one loop each. Returns the object of every default box, the ignored ones and the second choices."""
    images, num_boxes = len(targets.labels), len(default_boxes)
    answers, ignored, missed_best_box = [], [], 0
    for image in range(images):
        answer = [-1] * num_boxes
        rows = [row for row, valid in enumerate(targets.valid[image].tolist()) if valid]
        objects = [row for row in rows if not targets.crowd[image, row]]
        values = iou(targets.boxes[image], default_boxes).tolist()
        overlap = {(row, k): values[row][k] for row in objects for k in range(num_boxes)}
        free_objects, free_boxes = set(objects), set(range(num_boxes))
        while free_objects and free_boxes:
            row, k = max(
                ((row, k) for row in free_objects for k in free_boxes),
                key=lambda pair: (overlap[pair], -pair[0], -pair[1]),
            )
            answer[k] = row
            favourite = max(range(num_boxes), key=lambda k: (overlap[row, k], -k))
            missed_best_box += k != favourite
            free_objects.remove(row)
            free_boxes.remove(k)
        missed_best_box += len(free_objects)
        for k in free_boxes:
            best = max(objects, key=lambda row: (overlap[row, k], -row), default=None)
            if best is not None and overlap[best, k] >= iou_threshold:
                answer[k] = best
        near = [max((overlap[row, k] for row in objects), default=0) for k in range(num_boxes)]
        inside = [near[k] >= negative_iou and near[k] > 0 and answer[k] < 0 for k in range(num_boxes)]
        seen, low = default_boxes.clamp(0, 1), min(iou_threshold, negative_iou)
        shared, half = intersection(targets.boxes[image], seen).tolist(), (area(seen) / 2).tolist()
        near = iou(targets.boxes[image], seen).tolist()
        for row in set(rows) - set(objects):
            on = [shared[row][k] > 0 and (shared[row][k] >= half[k] or near[row][k] >= low) for k in range(num_boxes)]
            inside = [inside[k] or (on[k] and answer[k] < 0) for k in range(num_boxes)]
        answers.append(answer)
        ignored.append(inside)
    return answers, ignored, missed_best_box


def assert_same(default_boxes, targets, iou_threshold=0.5, negative_iou=1.0):
    matches = match(default_boxes, targets, LossRules(match_iou=iou_threshold, negative_iou=negative_iou))
    answers, ignored, missed_best_box = slow_match(default_boxes, targets, iou_threshold, negative_iou)
    assert matches.object_index.tolist() == answers
    assert matches.ignored.tolist() == ignored
    assert int(matches.missed_best_box) == missed_best_box


def test_every_object_keeps_its_best_default_box():
    targets = targets_of([([0.35, 0.1, 0.5, 0.4], 0), ([0.65, 0.0, 0.9, 0.2], 1)])
    matches = match(THIRDS, targets, ALL_NEGATIVE)
    assert matches.object_index.tolist() == [[-1, 0, 1]]
    assert int(matches.missed_best_box) == 0


def test_two_objects_with_one_best_box_both_get_a_box():
    # Both lie in the middle third; the second covers more of it, so the first moves over.
    targets = targets_of([([0.2, 0.0, 0.5, 1.0], 0), ([0.3, 0.0, 0.59, 1.0], 1)])
    matches = match(THIRDS, targets, ALL_NEGATIVE)
    assert matches.object_index.tolist() == [[0, 1, -1]]
    assert int(matches.missed_best_box) == 1


def test_an_object_that_overlaps_nothing_still_gets_a_box():
    targets = targets_of([([0.95, 0.0, 1.0, 1.0], 0)])
    assert match(THIRDS, targets, ALL_NEGATIVE).object_index.tolist() == [[0, -1, -1]]


def test_a_second_choice_below_the_threshold_wins_over_a_match_above_it():
    # Rule 1 comes first: the default box of the first object overlaps the second more than 0.5, too.
    targets = targets_of([([0.0, 0.0, 0.3, 1.0], 0), ([0.0, 0.0, 0.3, 0.9], 1)])
    assert match(THIRDS[:1], targets, ALL_NEGATIVE).object_index.tolist() == [[0]]
    assert match(THIRDS, targets, ALL_NEGATIVE).object_index.tolist() == [[0, 1, -1]]


def test_boxes_at_the_threshold_are_matched():
    default_boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.25, 1.0]])
    targets = targets_of([([0.0, 0.0, 1.0, 1.0], 0)])
    assert match(default_boxes, targets, ALL_NEGATIVE).object_index.tolist() == [[0, 0, -1]]
    assert match(default_boxes, targets, LossRules(match_iou=0.25, negative_iou=1.0)).object_index.tolist() == [
        [0, 0, 0]
    ]
    assert match(default_boxes, targets, LossRules(negative_iou=0.25)).ignored.tolist() == [[False, False, True]]
    assert not match(default_boxes, targets, LossRules(negative_iou=0.26)).ignored.any()


def test_a_threshold_of_zero_matches_what_overlaps_and_never_padding():
    targets = targets_of([([0.2, 0.0, 0.5, 1.0], 0)], [([0.0, 0.0, 0.1, 0.1], 0), ([0.6, 0.0, 0.9, 1.0], 1)])
    assert match(THIRDS, targets, LossRules(match_iou=0.0, negative_iou=1.0)).object_index.tolist() == [
        [0, 0, -1],
        [0, -1, 1],
    ]


def test_ties_go_to_the_lower_object_and_the_lower_box():
    twins = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]])
    targets = targets_of([([0.0, 0.0, 0.5, 0.5], 0), ([0.0, 0.0, 0.5, 0.5], 1)])
    assert match(twins, targets, ALL_NEGATIVE).object_index.tolist() == [[0, 1, 0]]


def test_more_objects_than_default_boxes_leave_the_last_without():
    targets = targets_of([([0.0, 0.0, 0.3, 1.0], label) for label in range(5)])
    matches = match(THIRDS, targets, ALL_NEGATIVE)
    assert matches.object_index.tolist() == [[0, 1, 2]]
    assert int(matches.missed_best_box) == 4


def test_a_default_box_half_inside_a_crowd_is_ignored():
    crowd = ([0.15, 0.0, 0.44, 1.0], 0, "crowd")  # half of the first, not quite half of the second
    matches = match(THIRDS, targets_of([crowd]), ALL_NEGATIVE)
    assert matches.object_index.tolist() == [[-1, -1, -1]]
    assert matches.ignored.tolist() == [[True, False, False]]


def test_a_default_box_that_nearly_matches_a_crowd_is_ignored():
    crowd = ([0.0, 0.0, 0.3, 0.45], 0, "crowd")  # IoU 0.45 with the first, less than half of it
    for negative_iou, ignored in ((1.0, False), (0.5, False), (0.4, True)):
        matches = match(THIRDS, targets_of([crowd]), LossRules(negative_iou=negative_iou))
        assert matches.ignored.tolist() == [[ignored, False, False]]


def test_of_a_default_box_beyond_the_image_the_part_inside_counts():
    beyond = torch.tensor([[0.8, 0.0, 1.6, 1.0], [0.0, 0.0, 0.5, 1.0]])
    crowd = ([0.9, 0.0, 1.0, 1.0], 0, "crowd")  # an eighth of the first, and half of what shows of it
    assert match(beyond, targets_of([crowd]), ALL_NEGATIVE).ignored.tolist() == [[True, False]]


def test_two_crowds_do_not_add_up():
    halves = [([0.0, 0.0, 0.14, 1.0], 0, "crowd"), ([0.16, 0.0, 0.3, 1.0], 0, "crowd")]
    assert match(THIRDS, targets_of(halves), ALL_NEGATIVE).ignored.tolist() == [[False, False, False]]


def test_a_matched_default_box_inside_a_crowd_is_not_ignored():
    targets = targets_of([([0.0, 0.0, 1.0, 1.0], 0, "crowd"), ([0.0, 0.0, 0.3, 1.0], 2)])
    matches = match(THIRDS, targets, ALL_NEGATIVE)
    assert matches.object_index.tolist() == [[1, -1, -1]]
    assert matches.ignored.tolist() == [[False, True, True]]


@pytest.mark.parametrize("images", [1, 3])
def test_a_batch_without_objects_matches_nothing(images):
    matches = match(THIRDS, targets_of(*[[]] * images), ALL_NEGATIVE)
    assert matches.object_index.tolist() == [[-1, -1, -1]] * images
    assert not matches.ignored.any()
    assert int(matches.missed_best_box) == 0


def test_rows_that_are_not_valid_count_for_nothing_wherever_they_are():
    full = targets_of([([0.0, 0.0, 0.3, 1.0], 0), ([0.3, 0.0, 0.6, 1.0], 1), ([0.6, 0.0, 0.9, 1.0], 2)])
    gap = Targets(full.boxes, full.labels, full.crowd, torch.tensor([[True, False, True]]))
    assert match(THIRDS, gap, ALL_NEGATIVE).object_index.tolist() == [[0, -1, 2]]


def test_an_image_is_matched_alike_in_any_company():
    generator = torch.Generator().manual_seed(5)
    default_boxes, targets = random_boxes(40, generator), random_targets(6, 7, generator)
    together = match(default_boxes, targets, ALL_NEGATIVE)
    for image in range(6):
        one = slice(image, image + 1)
        part = Targets(targets.boxes[one], targets.labels[one], targets.crowd[one], targets.valid[one])
        alone = match(default_boxes, part, ALL_NEGATIVE)
        assert alone.object_index.tolist() == together.object_index[one].tolist()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    images=st.integers(1, 3),
    most=st.integers(0, 9),
    boxes=st.integers(1, 14),
    grid=st.sampled_from([None, 2, 3, 8]),
    iou_threshold=st.sampled_from([0.2, 0.5, 0.75]),
    negative_iou=st.sampled_from([1.0, 0.0, 0.2, 0.4]),
    is_cpu=st.booleans(),
)
def test_it_equals_the_rules_written_as_loops(seed, images, most, boxes, grid, iou_threshold, negative_iou, is_cpu):
    generator = torch.Generator().manual_seed(seed)
    default_boxes = random_boxes(boxes, generator, grid)
    with pretended_device(is_cpu):
        targets = random_targets(images, most, generator, grid=grid)
        assert_same(default_boxes, targets, iou_threshold, negative_iou)


@pytest.mark.slow
@pytest.mark.parametrize("grid", [None, 2, 4])
def test_it_equals_the_loops_in_thousands_of_cases(grid):
    generator = torch.Generator().manual_seed(0)
    for _ in range(1000):
        boxes = int(torch.randint(1, 16, (), generator=generator))
        assert_same(random_boxes(boxes, generator, grid), random_targets(3, 9, generator, grid=grid))


@pytest.mark.parametrize("overlaps_at_once", [1, 700, 2**25])
def test_the_way_for_cuda_gives_the_same_in_parts_of_any_size(monkeypatch, overlaps_at_once):
    monkeypatch.setattr(matcher, "_OVERLAPS_AT_ONCE", overlaps_at_once)
    generator = torch.Generator().manual_seed(3)
    for grid in (None, 3):
        default_boxes, targets = random_boxes(30, generator, grid), random_targets(8, 9, generator, grid=grid)
        expected = match(default_boxes, targets, ALL_NEGATIVE)
        with pretended_device(False):
            matches = match(default_boxes, targets, ALL_NEGATIVE)
        assert matches.object_index.tolist() == expected.object_index.tolist()
        assert matches.ignored.tolist() == expected.ignored.tolist()
        assert int(matches.missed_best_box) == int(expected.missed_best_box)


def assert_the_same_as_on_cuda(default_boxes, targets, rules=DEFAULT_RULES):
    matches = match(default_boxes, targets, rules)
    with pretended_device(False):
        expected = match(default_boxes, targets, rules)
    assert matches.object_index.tolist() == expected.object_index.tolist()
    assert matches.ignored.tolist() == expected.ignored.tolist()
    assert int(matches.missed_best_box) == int(expected.missed_best_box)


@pytest.mark.parametrize(("at_once", "in_group", "most_pairs"), [(256, 32, 2_000_000), (4, 2, 100), (16, 3, 500)])
@pytest.mark.parametrize("grid", [None, 2, 5, 30])
def test_a_crowd_of_objects_is_matched_as_on_cuda(monkeypatch, grid, at_once, in_group, most_pairs):
    monkeypatch.setattr(greedy, "_BOXES_AT_ONCE", at_once)
    monkeypatch.setattr(greedy, "_OBJECTS_IN_GROUP", in_group)
    monkeypatch.setattr(greedy, "_MOST_PAIRS", most_pairs)
    generator = torch.Generator().manual_seed(11)
    for count, boxes in ((20, 60), (90, 60), (70, 200)):
        default_boxes, objects = random_boxes(boxes, generator, grid), random_boxes(count, generator, grid)
        targets = targets_of([(box, 0) for box in (objects * 0.7).tolist()], [(box, 0) for box in objects.tolist()])
        for rules in (DEFAULT_RULES, LossRules(match_iou=0.2, negative_iou=0.0)):
            assert_the_same_as_on_cuda(default_boxes, targets, rules)


def alike(objects, jitter, side):
    """Objects in the middle of one image that differ by at most `jitter`."""
    generator = torch.Generator().manual_seed(7)
    corners = torch.rand(objects, 4, generator=generator) * jitter
    margin = (1 - side) / 2
    boxes = corners + torch.tensor([margin, margin, 1 - margin - jitter, 1 - margin - jitter])
    valid = torch.ones(1, objects, dtype=torch.bool)
    return Targets(boxes[None], torch.zeros(1, objects, dtype=torch.long), ~valid, valid)


@pytest.mark.parametrize("side", [1.0, 0.3])
@pytest.mark.parametrize("jitter", [0.0, 0.02])
def test_objects_that_are_alike_are_matched_as_on_cuda(jitter, side):
    default_boxes = tiled_boxes(factory.settings_for(("cell",), input_size=300).boxes)[5000:]
    assert_the_same_as_on_cuda(default_boxes, alike(400, jitter, side))


def crowd(objects):
    """Small objects all over one image, and the default boxes of SSD300."""
    low = torch.rand(objects, 2, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(1, objects, dtype=torch.bool)
    labels = torch.zeros(1, objects, dtype=torch.long)
    targets = Targets(torch.cat([low, low + 0.05], dim=1)[None], labels, ~valid, valid)
    return tiled_boxes(factory.settings_for(("cell",), input_size=300).boxes), targets


@pytest.mark.parametrize("side", [None, 1.0])
def test_ten_thousand_objects_in_one_image_take_every_default_box(side):
    default_boxes, targets = crowd(10_000)
    if side:
        targets = alike(10_000, 0.0, side)
    matches = match(default_boxes, targets, LossRules())
    assert matches.object_index.min() >= 0
    assert len(matches.object_index.unique()) == len(default_boxes)


@pytest.mark.parametrize("objects", [300, 1_000, 3_000])
def test_a_crowd_is_matched_with_fewer_overlaps_than_a_table_of_all_pairs_has(monkeypatch, objects):
    default_boxes, targets = crowd(objects)
    compared = 0

    def counting(first, second):
        nonlocal compared
        compared += len(first) * len(second)
        return iou(first, second)

    monkeypatch.setattr(greedy, "iou", counting)
    matches = match(default_boxes, targets, LossRules())
    assert len(matches.object_index[matches.object_index >= 0].unique()) == objects
    assert compared < objects * len(default_boxes)


def test_it_equals_torchvision_where_no_two_objects_share_a_best_box():
    default_boxes = random_boxes(400, torch.Generator().manual_seed(1))
    generator, compared = torch.Generator().manual_seed(2), 0
    for _ in range(30):
        targets = random_targets(1, 6, generator, crowds=0.0)
        matches = match(default_boxes, targets, ALL_NEGATIVE)
        if targets.valid.any() and int(matches.missed_best_box) == 0:
            theirs = SSDMatcher(0.5)(box_iou(targets.boxes[0], default_boxes))
            assert matches.object_index[0].tolist() == theirs.tolist()
            compared += 1
    assert compared > 15


def test_half_precision_boxes_are_compared_in_single_precision():
    targets = targets_of([([0.0, 0.0, 0.3, 1.0], 0)])
    half = Targets(targets.boxes.half(), targets.labels, targets.crowd, targets.valid)
    assert match(THIRDS, half, ALL_NEGATIVE).object_index.tolist() == [[0, -1, -1]]
