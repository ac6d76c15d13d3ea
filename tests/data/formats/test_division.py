import itertools

import numpy as np
import pytest

from ssd.data.formats.division import Division, divide

EARLIER = [f"img_{n:03d}" for n in (3, 4, 19, 23, 29, 31, 36, 52, 56, 59)]  # by the commit before groups


def random_images(rng, count, kinds):
    """Names with groups of one to six images and up to three classes, of which the last are rare."""
    shares = 1 / np.arange(1, kinds + 1) ** 1.5
    images, group = {}, 0
    while len(images) < count:
        found = {str(kind) for kind in rng.choice(kinds, rng.integers(0, 4), p=shares / shares.sum())}
        for _ in range(rng.integers(1, 7)):
            images[f"im{len(images)}"] = (f"im{group}", found)
        group = len(images)
    return images


def sides(images, val):
    groups = {True: set(), False: set()}
    classes = {True: set(), False: set()}
    for name, (group, found) in images.items():
        groups[name in val].add(group)
        classes[name in val] |= set(found)
    return groups, classes


@pytest.mark.parametrize("seed", range(40))
def test_a_division_keeps_groups_whole_and_its_size_and_every_class_where_it_can(seed):
    rng = np.random.default_rng(seed)
    images = random_images(rng, int(rng.integers(50, 200)), 8)
    val = divide(images, 0.1, 10)
    groups, classes = sides(images, val)
    assert not groups[True] & groups[False]
    assert 5 <= len(val) <= len(images) // 2
    for kind in set().union(*(found for _, found in images.values())):
        having = {group for group, found in images.values() if kind in found}
        if len(having) > 3:
            assert kind in classes[True]
        assert kind in classes[False]  # a class is trained on whatever happens


def test_a_class_of_two_images_is_on_both_sides():
    images = {f"im{n}": (f"im{n}", {"common"} | ({"rare"} if n in (7, 8) else set())) for n in range(100)}
    _, classes = sides(images, divide(images, 0.1, 10))
    assert "rare" in classes[True]
    assert "rare" in classes[False]


def test_the_only_image_of_a_class_is_trained_on():
    for odd in range(40):
        images = {f"im{n}": (f"im{n}", {"odd" if n == odd else "common"}) for n in range(40)}
        assert f"im{odd}" not in divide(images, 0.1, 10)


def test_a_group_larger_than_the_validation_set_is_trained_on_if_others_suffice():
    images = {f"im{n}": ("im0" if n < 45 else f"im{n}", ()) for n in range(100)}
    val = divide(images, 0.1, 10)
    assert len(val) >= 10
    assert "im0" not in val
    videos = {f"im{n}": (f"im{n // 20 * 20}", ()) for n in range(60)}
    assert len(divide(videos, 0.1, 10)) == 20  # three videos of 20 frames: one whole


def test_one_group_of_everything_is_divided_all_the_same():
    images = {f"im{n}": ("im0", {"cat"}) for n in range(40)}
    assert 10 <= len(divide(images, 0.1, 10)) <= 20


def test_the_earlier_division_is_unchanged():
    names = {f"img_{n:03d}": None for n in range(60)}
    assert Division("val", 0.1, "copies").choose(names) == EARLIER


def test_images_stay_on_their_side_when_others_are_added():
    labels = {f"{n}": {"cat", "dog" if n % 3 else "cow"} for n in range(300)}
    before = set(Division("val").choose(dict.fromkeys(list(labels)[:200]), labels.__getitem__))
    after = set(Division("val").choose(dict.fromkeys(labels), labels.__getitem__))
    assert before <= after


def test_parts_are_disjoint_and_whole_for_every_size_and_share():
    for count, fraction in itertools.product((2, 3, 5, 11, 50), (0.01, 0.1, 0.5, 0.9)):
        names = {f"{n}": None for n in range(count)}
        train, val = (Division(part, fraction).choose(names) for part in ("train", "val"))
        assert sorted([*train, *val]) == sorted(names)
        assert train
        assert val
