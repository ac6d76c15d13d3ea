import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.formats.annotations import RawImage, RawObject, RawSplit
from ssd.data.records import build_records, check_box

nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("box", "kept", "kind"),
    [
        ((0, 0, 40, 20), (0, 0, 40, 20), None),
        ((-1, -1, 41, 21), (0, 0, 40, 20), None),  # a pixel of disagreement about where counting starts
        ((-2, 0, 10, 10), (0, 0, 10, 10), "clipped"),
        ((30, 10, 90, 70), (30, 10, 40, 20), "clipped"),
        ((50, 5, 60, 10), None, "outside"),
        ((-9, 5, 0, 10), None, "outside"),
        ((5, 5, 5, 10), None, "no_area"),
        ((5, 5, 10, 5), None, "no_area"),
        ((10, 5, 5, 10), None, "swapped"),
        ((5, 10, 10, 5), None, "swapped"),
        ((nan, 5, 10, 10), None, "not_finite"),
        ((0, 0, inf, 10), None, "not_finite"),
        ((-inf, -inf, inf, inf), None, "not_finite"),
        ((0, 0, 1e300, 10), None, "not_finite"),  # infinite as the float32 it would become
        ((5, 5, 5 + 1e-9, 10), None, "no_area"),  # and this one empty
    ],
)
def test_a_box_is_kept_cut_or_refused(box, kept, kind):
    found, problem = check_box(tuple(map(float, box)), 40, 20)
    assert found == kept
    assert (problem[0] if problem else None) == kind


@given(st.tuples(*[st.floats(width=32)] * 4), st.integers(1, 5000), st.integers(1, 5000))
def test_a_kept_box_is_finite_inside_and_has_area(box, width, height):
    found, problem = check_box(box, width, height)
    assert found is not None or problem is not None
    if found is not None:
        left, top, right, bottom = found
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def item(index, name, box, **rest):
    return RawObject(index, name, tuple(map(float, box)), **rest)


def make_split(*objects, names=("cat", "dog")):
    image = RawImage("p.jpg", "p", "p.xml", 40, 20, objects)
    return RawSplit((image,), names, (1, 2), ())


def test_labels_are_places_in_the_class_list():
    split = make_split(item(1, "dog", (0, 0, 4, 4)), item(2, "cat", (0, 0, 5, 5), area=7.5))
    built = build_records(split)
    assert built.records[0].labels.tolist() == [1, 0]
    assert built.records[0].areas.tolist() == [16, 7.5]
    assert build_records(split, classes=["dog", "x", "cat"]).records[0].labels.tolist() == [0, 2]


def test_classes_keep_their_ids_and_new_ones_get_free_ids():
    assert build_records(make_split(), classes=["dog", "x", "cat", "y"]).category_ids == (2, 3, 1, 4)


def test_an_object_of_another_class_is_a_problem():
    built = build_records(make_split(item(4, "dog", (0, 0, 4, 4))), classes=["cat"])
    assert [str(problem) for problem in built.problems] == ["p.xml: object 4 (dog): unknown class 'dog'"]
    assert len(built.records[0].boxes) == 0


def test_difficult_objects_are_kept():
    split = make_split(item(1, "dog", (0, 0, 4, 4), difficult=True), item(2, "cat", (0, 0, 5, 5)))
    assert build_records(split).records[0].difficult.tolist() == [True, False]


def test_a_image_without_objects_has_empty_arrays():
    (record,) = build_records(make_split()).records
    assert record.boxes.shape == (0, 4)
    assert record.boxes.dtype == np.float32
    assert record.labels.shape == record.difficult.shape == record.crowd.shape == record.areas.shape == (0,)


def _float(low=-60.0, high=60.0):
    return st.one_of(st.floats(low, high), st.sampled_from([0.0, 20.0, 40.0, -1.0, 41.0, nan, inf, -inf, 1e300]))


@given(
    st.lists(
        st.lists(st.tuples(st.tuples(*[_float()] * 4), st.sampled_from(["cat", "dog", "cow"])), max_size=5), max_size=4
    )
)
def test_all_boxes_at_once_equal_one_at_a_time(images):
    raw, expected, told = [], [], []
    for number, objects in enumerate(images):
        items = tuple(RawObject(row, name, box, area=None) for row, (box, name) in enumerate(objects, start=1))
        raw.append(RawImage(f"{number}.jpg", f"é{number}", "p.xml", 40, 20, items))
        for item_ in items:
            box, problem = check_box(item_.box, 40, 20)
            if item_.name == "cow":
                box, problem = None, ("unknown_class", "unknown class 'cow'")
            if problem:
                told.append((item_.index, *problem, "note" if box else "object"))
            if box:
                expected.append((number, *box, ("cat", "dog").index(item_.name)))
    built = build_records(RawSplit(tuple(raw), ("cat", "dog"), (1, 2), ()))
    found = [
        (number, *box, label)
        for number, record in enumerate(built.records)
        for box, label in zip(record.boxes.tolist(), record.labels.tolist(), strict=True)
    ]
    assert found == expected
    assert [(p.index, p.kind, p.message, p.level) for p in built.problems] == told
    assert [record.image_id for record in built.records] == [f"é{number}" for number in range(len(images))]
    for record in built.records:
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        assert record.areas.tolist() == (sides[:, 0] * sides[:, 1]).tolist()
