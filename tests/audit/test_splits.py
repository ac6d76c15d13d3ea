import json

import pytest

from ssd.audit.splits import Reading, boxes_from_zero, open_splits
from ssd.data.formats.read_options import ReadOptions
from ssd.errors import DatasetError
from tests.audit.made import good, lists, sound, voc_splits
from tests.data.made import coco_content, coco_folder, voc_folder, write_image, write_text, xml, xml_object


def kinds(opened) -> list[str]:
    return [problem.kind for split in opened.splits for problem in split.problems]


def test_every_split_is_opened_training_first(tmp_path):
    folder = voc_splits(tmp_path, extra={"x": good()}, val={"c": good()}, train={"a": good()})
    opened = open_splits(folder, Reading())
    assert [split.name for split in opened.splits] == ["train", "val", "extra"]
    assert (opened.train, opened.val, opened.problems) == ("train", "val", ())


def test_one_split_may_be_asked_for(tmp_path):
    opened = open_splits(voc_splits(tmp_path, train={"a": good()}, other={"c": good()}), Reading(), only="other")
    assert [split.name for split in opened.splits] == ["other"]
    assert opened.problems == ()


def test_all_bad_files_and_objects_are_listed_at_once(tmp_path):
    bad = xml(xml_object(box=(5, 5, 5, 9)), xml_object(), xml_object(box=(9, 9, 2, 12)))
    opened = open_splits(voc_splits(tmp_path, train={"a": bad, "b": "<xml"}, val={"c": bad}), Reading())
    assert kinds(opened) == ["unreadable", "no_area", "swapped", "no_area", "swapped"]
    assert [len(split.dataset.dropped) for split in opened.splits] == [2, 2]


def test_a_split_made_up_of_others_is_not_checked_twice(tmp_path):
    sound(tmp_path)
    lists(tmp_path, trainval="a b c")
    opened = open_splits(tmp_path, Reading())
    assert [split.name for split in opened.splits] == ["train", "val"]
    assert opened.unions == ("trainval",)


def test_splits_that_share_images_are_all_checked(tmp_path):
    sound(tmp_path)
    lists(tmp_path, val="b", same="a b")
    opened = open_splits(tmp_path, Reading())
    assert opened.unions == ()
    assert [split.name for split in opened.splits] == ["train", "val", "same"]


def test_the_real_trainval_is_train_and_val(bccd):
    opened = open_splits(bccd, Reading())
    assert [(split.name, len(split.dataset)) for split in opened.splits] == [("train", 205), ("val", 87), ("test", 72)]
    assert opened.unions == ("trainval",)
    assert [str(problem) for split in opened.splits for problem in split.problems] == [
        "Annotations/BloodImage_00343.xml: object 4 (RBC): box 180 328 180 328 has no area",
        "Annotations/BloodImage_00338.xml: object 13 (RBC): box 503 336 503 336 has no area",
    ]


def test_a_file_that_is_no_json_is_a_problem_of_its_split(tmp_path):
    coco_folder(tmp_path, coco_content(), "train")
    write_text(tmp_path / "annotations" / "instances_val.json", "{")
    opened = open_splits(tmp_path, Reading())
    assert [(split.name, len(split.dataset)) for split in opened.splits] == [("train", 2), ("val", 0)]
    assert "not valid JSON" in str(opened.splits[1].problems[0])


def test_classes_are_the_training_splits(tmp_path):
    coco_folder(tmp_path, coco_content(), "train")
    other = json.loads(json.dumps(coco_content()).replace("car", "lorry"))
    coco_folder(tmp_path, other, "val")
    opened = open_splits(tmp_path, Reading())
    assert kinds(opened) == ["unknown_class"]
    assert opened.splits[1].problems[0].name == "lorry"


def test_a_single_training_split_is_checked_in_its_two_parts(tmp_path):
    opened = open_splits(voc_folder(tmp_path, {name: good() for name in "abcdefgh"}), Reading())
    assert [(split.name, len(split.dataset)) for split in opened.splits] == [("train-part", 6), ("val-part", 2)]
    assert open_splits(tmp_path, Reading(val="train")).problems == ()


def test_the_parts_of_a_single_split_may_be_named(tmp_path):
    folder = voc_folder(tmp_path, {name: good() for name in "abcdefgh"})
    opened = open_splits(folder, Reading(train="train-part", val="val-part"))
    assert (opened.train, opened.val, opened.problems) == ("train-part", "val-part", ())
    opened = open_splits(sound(tmp_path / "two"), Reading(val="val-part"))
    assert "data.val is 'val-part', and there is only: train, val" in str(opened.problems[0])


def test_splits_that_are_not_for_training_keep_their_order(tmp_path):
    names = [f"night{number}" for number in range(8)]
    folder = voc_splits(tmp_path, **{name: {f"{name}_a": good()} for name in names})
    assert [split.name for split in open_splits(folder, Reading()).splits] == names


def test_training_without_a_training_split_is_a_problem(tmp_path):
    opened = open_splits(voc_folder(tmp_path, {"a": good()}, "test"), Reading())
    assert [problem.kind for problem in opened.problems] == ["no_split", "no_split"]
    assert "data.train" in str(opened.problems[0])


def test_a_split_named_in_the_config_must_be_there(tmp_path):
    opened = open_splits(sound(tmp_path), Reading(train="trian"))
    assert "data.train is 'trian', and there is only: train, val" in str(opened.problems[0])


def test_an_empty_split_is_a_problem(tmp_path):
    folder = sound(tmp_path)
    lists(folder, val="")
    assert kinds(open_splits(folder, Reading())) == ["empty_split"]


def test_images_that_are_all_empty_have_no_classes(tmp_path):
    folder = voc_splits(tmp_path, train={"a": xml()}, val={"b": xml()})
    assert kinds(open_splits(folder, Reading())) == ["no_objects", "no_objects"]


@pytest.mark.parametrize(("data", "only"), [("nowhere", None), ("", "tset")])
def test_a_folder_or_split_that_is_not_there_raises(tmp_path, data, only):
    with pytest.raises(DatasetError, match=only or "no such data folder"):
        open_splits(sound(tmp_path) / data, Reading(), only)


def test_voc_boxes_that_count_from_zero_are_counted(tmp_path):
    zero = xml(xml_object(box=(0, 3, 12, 13)), xml_object(), xml_object(box=(5, 0, 12, 13)))
    folder = voc_splits(tmp_path, train={"a": zero}, val={"b": good()})
    opened = open_splits(folder, Reading())
    assert boxes_from_zero(folder, opened, Reading()) == 2
    assert boxes_from_zero(folder, opened, Reading(options=ReadOptions(voc_offset="0"))) == 0


def test_coco_boxes_may_start_at_zero(tmp_path):
    folder = coco_folder(tmp_path, coco_content())
    assert boxes_from_zero(folder, open_splits(folder, Reading()), Reading()) == 0


def test_folders_of_images_that_are_no_splits_are_checked_where_they_are_named(tmp_path):
    for camera in ("cam1", "cam2"):
        write_image(tmp_path / "images" / camera / f"{camera}.jpg")
        write_text(tmp_path / "labels" / camera / f"{camera}.txt", "0 0.5 0.5 0.5 0.5\n")
    write_text(tmp_path / "classes.txt", "cat\n")
    opened = open_splits(tmp_path, Reading(train="cam1", val="cam2"))
    assert [(split.name, len(split.dataset)) for split in opened.splits] == [("cam1", 1), ("cam2", 1)]
    assert (opened.train, opened.val, opened.problems) == ("cam1", "cam2", ())
    (alone,) = open_splits(tmp_path, Reading(), "cam1").splits
    assert len(alone.dataset) == 1
