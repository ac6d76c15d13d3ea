"""Several folders as one set: classes, completeness, ids, and what is refused."""

import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssd.data.dataset import Dataset, open_dataset
from ssd.data.joined import Part, join
from ssd.data.loading.batches import collate, load_checked
from ssd.errors import DatasetError
from tests.data.made import voc_folder, xml, xml_object

Made = Callable[..., Dataset]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """An opened folder with one image for each list of class names."""

    def make(name: str, *images: list[str]) -> Dataset:
        content = {f"im{n}": xml(*map(xml_object, classes)) for n, classes in enumerate(images)}
        return open_dataset(voc_folder(tmp_path / name, content), "train")

    return make


def test_classes_are_those_of_the_folders_in_their_order_by_their_new_names(made: Made) -> None:
    first, second = made("a", ["dog", "cat"]), made("b", ["bus"], ["car", "cat"], ["van"])
    train, val = join([Part(first), Part(second, rename={"cat": "kitten", "van": "car", "car": "car"})])
    assert train.class_names == (*first.class_names, "bus", "car", "kitten")
    assert train.category_ids == (1, 2, 3, 4, 5)
    assert [[train.class_names[label] for label in record.labels] for record in train.records] == [
        ["dog", "cat"], ["bus"], ["car", "kitten"], ["car"]
    ]  # fmt: skip
    assert [record.image_id for record in train.records] == ["1/im0", "2/im0", "2/im1", "2/im2"]
    assert train.records[-1].path == second.records[-1].path
    assert [record.image_id for record in train.records[1:3]] == ["2/im0", "2/im1"]
    assert val is None


def test_each_image_says_which_classes_its_folder_is_complete_for(made: Made) -> None:
    parts = [Part(made("a", ["dog", "cat"], [])), Part(made("b", ["car", "cat"]), complete_for=("car", "dog"))]
    train, _ = join(parts)
    assert train.class_names == ("cat", "dog", "car")
    samples = [load_checked(train, index) for index in range(3)]
    assert [sample.complete.tolist() for sample in samples if sample.complete is not None] == [
        [True, True, False], [True, True, False], [False, True, True]
    ]  # fmt: skip
    batch = collate(torch.zeros(3, 3, 1, 1), samples)
    assert batch.targets.complete is not None
    assert batch.targets.complete.tolist() == [[True, True, True, False]] * 2 + [[True, False, True, True]]
    again = pickle.loads(pickle.dumps(train))
    assert [sample.complete.tolist() for sample in map(again.load, range(3))] == [
        sample.complete.tolist() for sample in samples if sample.complete is not None
    ]


def test_nothing_is_said_where_every_folder_is_complete_for_all(made: Made) -> None:
    train, _ = join([Part(made("a", ["dog", "cat"])), Part(made("b", ["cat", "dog"]))])
    assert train.complete is None
    assert train.load(0).complete is None
    assert collate(torch.zeros(1, 3, 1, 1), [train.load(0)]).targets.complete is None


def test_objects_of_a_class_that_a_folder_is_not_complete_for_are_trained_on_and_not_evaluated_on(made: Made) -> None:
    a, b = made("a", ["dog"]), made("b", ["car", "dog"])
    train, val = join([Part(a, a), Part(b, b, complete_for=("car",))])
    assert val is not None
    assert [record.labels.tolist() for record in train.records] == [[0], [1, 0]]
    assert [record.labels.tolist() for record in val.records] == [[0], [1]]
    assert val.records[1].boxes.shape == (1, 4)


def test_a_class_without_an_object_in_any_folder_is_absent_everywhere(made: Made, tmp_path: Path) -> None:
    a = open_dataset(tmp_path / "a", "train", classes=["dog", "unicorn"]) if made("a", ["dog"]) else None
    assert a is not None
    train, _ = join([Part(a), Part(made("b", ["car"]))])
    assert train.complete is not None
    assert train.complete.classes.tolist() == [[True, True, False], [False, True, True]]


@pytest.mark.parametrize(
    ("rename", "complete_for", "message"),
    [
        ({"gaol": "x"}, None, "rename: 'gaol' is no class of this folder. Did you mean 'goal'[?] There is: car, goal"),
        ({"goal": "car"}, None, "rename: 'goal' cannot become 'car', which is another class of this folder. To make "),
        (
            {},
            ("cars",),
            "complete_for: 'cars' is no class of any folder. Did you mean 'car'[?] There is, after renaming",
        ),
        ({"goal": "post"}, ("goal",), "complete_for: 'goal' is no class of any folder"),
    ],
)
def test_mistakes_name_the_folder_and_what_there_is(
    made: Made, rename: dict[str, str], complete_for: tuple[str, ...] | None, message: str
) -> None:
    part = Part(made("b", ["goal", "car"]), rename=rename, complete_for=complete_for)
    with pytest.raises(DatasetError, match=f"/b: {message}") as caught:
        join([Part(made("a", ["dog"])), part])
    assert "\n" not in str(caught.value)


def test_names_that_differ_in_case_alone_are_pointed_out(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        join([Part(made("a", ["Car"])), Part(made("b", ["car", "dog"]))])
    assert "'Car' and 'car' are two classes; to make them one, use rename" in caplog.text
    assert "b: 1 images, complete for car, dog; its images may have unannotated: Car" in caplog.text
