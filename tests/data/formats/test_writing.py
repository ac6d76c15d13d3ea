"""A written folder is read back as it was, in every format."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ssd.data.dataset import open_dataset
from ssd.data.formats.writing import WRITERS, write_folder
from ssd.errors import ArgumentError
from ssd.structures import Record
from tests.data.made import write_image

NAMES = ("cat", "dog & <co>")


def records(folder: Path) -> list[Record]:
    """Two images of one name in two folders, and one without objects."""
    made = []
    for number, (name, rows) in enumerate({"a/im.png": 2, "b/im.png": 1, "b/other.jpg": 0}.items()):
        write_image(folder / name)
        boxes = np.array([[2.0, 3.0, 12.0, 13.0], [5.25, 1.0, 20.5, 9.75]], np.float32)[:rows]
        nothing = np.zeros(rows, bool)
        made.append(
            Record(
                path=str(folder / name),
                image_id=number,
                width=40,
                height=20,
                boxes=boxes,
                labels=np.array([1, 0])[:rows],
                difficult=nothing,
                crowd=nothing,
                areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
            )
        )
    return made


@pytest.mark.parametrize("format", list(WRITERS))
def test_a_written_folder_is_read_back_as_it_was(format: str, tmp_path: Path) -> None:
    written = records(tmp_path / "images")
    write_folder(tmp_path / "out", format, written, NAMES)
    split = "train"
    read = open_dataset(tmp_path / "out", split, format="auto", classes=NAMES if format == "voc" else None)
    assert read.class_names == NAMES
    found = {Path(record.path).stem: record for record in read.records}
    assert sorted(found) == ["im", "im-2", "other"]
    for name, record in zip(("im", "im-2", "other"), written, strict=True):
        assert found[name].boxes == pytest.approx(record.boxes, abs=1e-4)
        assert found[name].labels.tolist() == record.labels.tolist()
        assert Path(found[name].path).read_bytes() == Path(record.path).read_bytes()


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="is there already"):
        write_folder(tmp_path / "out", "yolo", [], NAMES)


def test_an_unknown_format_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="Choose from voc, coco, yolo"):
        write_folder(tmp_path / "out", "kitti", [], NAMES)


def test_difficult_objects_stay_difficult_in_voc(tmp_path: Path) -> None:
    (first, *_) = records(tmp_path / "images")
    hard = dataclasses.replace(first, difficult=np.array([True, False]))
    write_folder(tmp_path / "out", "voc", [hard], NAMES)
    assert open_dataset(tmp_path / "out", "train").records[0].difficult.tolist() == [True, False]
