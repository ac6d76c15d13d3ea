import json
import shutil

import numpy as np
import pytest

from ssd.data.dataset import open_dataset
from ssd.errors import AnnotationError, DatasetError
from tests.data.made import coco_content, coco_folder, voc_folder, write_image, write_text, xml, xml_object


def yolo_folder(root):
    for name in ("a", "b", "c"):
        write_image(root / "images" / f"{name}.jpg")
        write_text(root / "labels" / f"{name}.txt", "0 0.5 0.5 0.25 0.5\n")
    write_text(root / "data.yaml", "train: images\nnames: [cat]\n")
    return root


def voc(root):
    return voc_folder(root, dict.fromkeys("abc", xml(xml_object())))


def coco(root):
    """Two files that both count their images from 7."""
    coco_folder(root, coco_content(), "train")
    coco_folder(root, coco_content(), "val")
    return root


FOLDERS = {
    "voc": (voc, ["JPEGImages/b.jpg", "JPEGImages/a.jpg"]),
    "yolo": (yolo_folder, ["images/b.jpg", "images/a.jpg"]),
    "coco": (coco, ["val/b.jpg", "train/a.jpg"]),
}


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("written", ["relative", "absolute", "elsewhere"])
def test_a_list_is_a_split_of_every_format(tmp_path, kind, written):
    make, lines = FOLDERS[kind]
    root = make(tmp_path / "data")
    start = {"relative": "", "absolute": f"{root}/", "elsewhere": "C:\\somewhere\\"}[written]
    file = write_text(tmp_path / "lists" / "val.txt", "".join(f"{start}{line}\n" for line in lines))
    dataset = open_dataset(root, str(file))
    assert [record.path for record in dataset.records] == [str(root / line) for line in lines]
    assert len({record.image_id for record in dataset.records}) == 2
    assert dataset.split == str(file)
    assert dataset.load(0).image.shape == (20, 40, 3)


def test_objects_and_classes_are_those_of_the_folders_own_splits(tmp_path):
    root = coco(tmp_path / "data")
    whole = {split: open_dataset(root, split) for split in ("train", "val")}
    file = write_text(tmp_path / "list.txt", "train/b.jpg\n")
    listed = open_dataset(root, str(file))
    assert listed.class_names == whole["train"].class_names
    assert listed.category_ids == whole["train"].category_ids
    np.testing.assert_equal(listed.records[0].boxes, whole["train"].records[1].boxes)


def test_a_list_in_the_data_folder_is_named_from_there(tmp_path):
    root = voc(tmp_path / "data")
    write_text(root / "lists" / "some.txt", "JPEGImages/c.jpg\n")
    assert len(open_dataset(root, "lists/some.txt")) == 1


def test_images_that_no_list_of_the_folder_has_can_be_listed(tmp_path):
    root = voc(tmp_path / "data")
    write_text(root / "ImageSets" / "Main" / "train.txt", "a\n")
    file = write_text(tmp_path / "list.txt", "JPEGImages/b.jpg\nJPEGImages/c.jpg\n")
    assert len(open_dataset(root, str(file))) == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("JPEGImages/zz.jpg\n", "names 1 images that are not annotated there.*Write paths as they are in"),
        ("\n", "names no image"),
    ],
)
def test_a_wrong_list_is_answered(tmp_path, lines, said):
    root = voc(tmp_path / "data")
    file = write_text(tmp_path / "list.txt", lines)
    with pytest.raises(DatasetError, match=said):
        open_dataset(root, str(file))


def test_a_list_does_without_a_split_that_is_not_there(tmp_path):
    folder = yolo_folder(tmp_path / "cells")
    write_text(folder / "data.yaml", "train: images\nval: ../valid/photos\nnames: [cat]\n")
    write_text(tmp_path / "few.txt", "images/b.jpg\n")
    assert len(open_dataset(folder, str(tmp_path / "few.txt"))) == 1
    write_text(tmp_path / "more.txt", "images/b.jpg\nvalid/photos/x.jpg\n")
    with pytest.raises(DatasetError, match=r"names '\.\./valid/photos', which is not there"):
        open_dataset(folder, str(tmp_path / "more.txt"))


def test_problems_of_other_images_do_not_stop_a_list(tmp_path):
    root = voc(tmp_path / "data")
    write_text(root / "Annotations" / "c.xml", xml(xml_object(box=(5, 5, 5, 9))))
    good = write_text(tmp_path / "good.txt", "JPEGImages/a.jpg\nJPEGImages/b.jpg\n")
    assert len(open_dataset(root, str(good))) == 2
    bad = write_text(tmp_path / "bad.txt", "JPEGImages/c.jpg\n")
    with pytest.raises(AnnotationError, match="no area"):
        open_dataset(root, str(bad))


def test_categories_that_differ_between_coco_files_are_joined(tmp_path):
    root = coco(tmp_path / "data")
    other = coco_content(
        categories=[{"id": 3, "name": "bus"}, {"id": 90, "name": "toothbrush"}],
    )
    (root / "annotations" / "instances_val.json").write_text(json.dumps(other))
    shutil.rmtree(root / "train")
    coco_folder(root, coco_content(), "train")
    file = write_text(tmp_path / "list.txt", "train/b.jpg\nval/b.jpg\n")
    dataset = open_dataset(root, str(file))
    names = [[dataset.class_names[label] for label in record.labels] for record in dataset.records]
    assert names == [["car"], ["bus"]]
    assert len(set(dataset.category_ids)) == len(dataset.class_names) == 3


def test_a_broken_annotation_of_a_listed_image_is_said_as_that(tmp_path):
    root = voc(tmp_path / "data")
    write_text(root / "Annotations" / "c.xml", "<annotation>")
    for name, lines in (("some.txt", "JPEGImages/a.jpg\nJPEGImages/c.jpg\n"), ("one.txt", "JPEGImages/c.jpg\n")):
        file = write_text(tmp_path / name, lines)
        with pytest.raises(AnnotationError, match=r"Annotations/c\.xml"):
            open_dataset(root, str(file))
