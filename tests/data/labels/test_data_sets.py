"""Records that are written as a data set anew, with copies of their images, are read back as they were."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ssd.data.dataset import Dataset, open_dataset
from ssd.data.formats.registry import splits
from ssd.data.labels.data_sets import write_data_sets
from ssd.data.labels.label_formats import LABEL_FORMATS, parse_label_formats, write_labels
from ssd.data.labels.labelled import Labelled
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


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("way", ["absolute", "upwards"])
@pytest.mark.parametrize("format", list(LABEL_FORMATS))
def test_labels_of_images_outside_the_data_folder_stay_in_the_output_folder(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, format: str, way: str
) -> None:
    monkeypatch.chdir(tmp_path)
    start = "any/.." if way == "upwards" else str(tmp_path)
    moved = [dataclasses.replace(one, path=one.path.replace(str(tmp_path), start)) for one in dataset.records]
    before = files_in(tmp_path)
    parts = {"train": dataclasses.replace(dataset, records=moved)}
    write_data_sets(tmp_path / "out", [format], parts, Path("any"), copy=False)
    assert files_in(tmp_path).items() >= before.items()
    assert {path for path in files_in(tmp_path) if path.is_relative_to(tmp_path / "out")} == {*files_in(tmp_path)} - {
        *before
    }
    written = "".join(path.read_text() for path in (tmp_path / "out").rglob("*") if path.suffix in (".xml", ".json"))
    assert format == "yolo" or written.count("im.") >= 2


@pytest.mark.parametrize("format", list(LABEL_FORMATS))
@pytest.mark.parametrize("path", ["/tmp/x", "../x", "a/../../x"])
@pytest.mark.parametrize("field", ["stem", "split", "place"])
def test_a_path_that_leads_out_of_the_folder_is_not_written(tmp_path: Path, format: str, field: str, path: str) -> None:
    facts = {"name": "x.png", "stem": "x", "place": "images/x.png", "split": ""} | {field: path}

    def images() -> list[Labelled]:
        return [Labelled(**facts, copied=True, width=4, height=4, labels=())]

    (tmp_path / "out").mkdir()
    with pytest.raises(ArgumentError, match=f"{path}: leads out of the folder to write into"):
        write_labels(tmp_path / "out", [format], images, NAMES, [facts["split"]])
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(tmp_path / "out")]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["train2017", "val2017"], ["train", "val"]),
        (["Training", "validation", "testing"], ["train", "val", "test"]),
        (["train", "train2017", "valid"], ["train", "train2017", "val"]),
        (["trainval", "test", "night"], ["trainval", "test", "night"]),
    ],
)
def test_the_splits_of_a_yolo_data_set_are_read_back(
    tmp_path: Path, dataset: Dataset, names: list[str], keys: list[str]
) -> None:
    parts = {
        name: dataclasses.replace(dataset, records=dataset.records[number : number + 1])
        for number, name in enumerate(names)
    }
    write_data_sets(tmp_path / "out", ["yolo"], parts, tmp_path, copy=True)
    assert [
        line.split(": ")[0] for line in (tmp_path / "out" / "data.yaml").read_text().splitlines()[1 : 1 + len(keys)]
    ] == keys
    assert sorted(splits(tmp_path / "out")) == sorted(keys)
    for number, key in enumerate(keys):
        assert len(open_dataset(tmp_path / "out", key)) == len(dataset.records[number : number + 1])
