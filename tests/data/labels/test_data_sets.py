"""Records that are written as a data set anew, with copies of their images, are read back as they were."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ssd.data.dataset import Dataset, open_dataset
from ssd.data.labels.data_sets import write_data_sets
from ssd.data.labels.label_formats import LABEL_FORMATS, parse_label_formats
from ssd.errors import ArgumentError
from ssd.structures import Record
from tests.data.made import coco_content, coco_folder, write_image

NAMES = ("cat", "dog & <co>")


def records(folder: Path) -> tuple[Record, ...]:
    """Two images of one name in two folders, and one without objects."""
    made = []
    for number, (name, rows) in enumerate({"a/im.png": 2, "b/im.png": 1, "b/other.jpg": 0}.items()):
        write_image(folder / name)
        boxes = np.array([[2.0, 3.0, 12.0, 13.0], [5.25, 1.0, 20.5, 9.75]], np.float32)[:rows]
        nothing = np.zeros(rows, bool)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        labels = np.array([1, 0])[:rows]
        made.append(Record(str(folder / name), number, 40, 20, boxes, labels, nothing, nothing, areas))
    return tuple(made)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    coco_folder(tmp_path / "any", coco_content())
    opened = open_dataset(tmp_path / "any", "train")
    return dataclasses.replace(opened, records=records(tmp_path / "images"), class_names=NAMES)


@pytest.mark.parametrize("format", list(LABEL_FORMATS))
def test_images_of_one_name_are_copied_under_two(dataset: Dataset, format: str, tmp_path: Path) -> None:
    assert write_data_sets(tmp_path / "out", [format], {"train": dataset}, tmp_path, copy=True)
    read = open_dataset(tmp_path / "out", "train")
    assert read.class_names == NAMES
    found = {Path(record.path).read_bytes(): record for record in read.records}
    assert len({record.path for record in read.records}) == 3
    for record in dataset.records:
        same = [one for one in read.records if len(one.boxes) == len(record.boxes)]
        assert len(same) == 1
        assert same[0].boxes == pytest.approx(record.boxes, abs=1e-3)
        assert same[0].labels.tolist() == record.labels.tolist()
        assert Path(record.path).read_bytes() in found


def test_difficult_objects_stay_difficult_in_voc(dataset: Dataset, tmp_path: Path) -> None:
    hard = dataclasses.replace(dataset.records[0], difficult=np.array([True, False]))
    parts = {"train": dataclasses.replace(dataset, records=(hard,))}
    write_data_sets(tmp_path / "out", ["voc"], parts, tmp_path, copy=True)
    assert open_dataset(tmp_path / "out", "train").records[0].difficult.tolist() == [True, False]


def test_an_unknown_format_is_named_with_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match=r"--as: 'kitti' is unknown\. Use voc, coco-data, yolo"):
        parse_label_formats("coco, kitti", "--as")
    assert parse_label_formats("coco, yolo,coco-data", "--as") == ("coco-data", "yolo")
