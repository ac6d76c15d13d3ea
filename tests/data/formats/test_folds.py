from collections import Counter

from ssd.data.formats.folds import divide_into_folds


def images(count: int, group: int = 1, rare: int = 6) -> dict[str, tuple[str, set[str]]]:
    """Every image has a cat, every `rare`-th a dog; `group` neighbours belong together."""
    return {
        f"im{n:03d}": (f"g{n // group}", {"cat", "dog"} if n // group % rare == 0 else {"cat"}) for n in range(count)
    }


def test_every_image_is_in_one_fold_and_folds_are_of_one_size() -> None:
    folds = divide_into_folds(images(100), 3)
    assert sorted(name for fold in folds for name in fold) == sorted(images(100))
    assert sorted(map(len, folds)) == [33, 33, 34]


def test_rare_classes_are_dealt_out_evenly() -> None:
    having = images(60)
    folds = divide_into_folds(having, 3)
    counts = [Counter(kind for name in fold for kind in having[name][1])["dog"] for fold in folds]
    assert max(counts) - min(counts) <= 1


def test_images_of_a_group_stay_together() -> None:
    having = images(90, group=4)
    for fold in divide_into_folds(having, 4):
        inside = {having[name][0] for name in fold}
        assert {name for name, (group, _) in having.items() if group in inside} == set(fold)


def test_the_division_is_the_same_in_any_order_of_the_images() -> None:
    having = images(50)
    assert divide_into_folds(having, 3) == divide_into_folds(dict(reversed(having.items())), 3)


def test_fewer_groups_than_folds_leave_folds_empty() -> None:
    assert [len(fold) for fold in divide_into_folds(images(4, group=2), 3)] == [2, 2, 0]


def test_images_without_objects_are_divided_too() -> None:
    assert [len(fold) for fold in divide_into_folds({f"{n}": (f"{n}", set()) for n in range(10)}, 2)] == [5, 5]
