"""Images are found under the names that annotation files give them, and never another split's in place of a missing."""

import json
from pathlib import Path

import pytest

from ssd.data.dataset import open_dataset, scan
from ssd.data.formats.image_finder import ImageFinder
from ssd.data.formats.paths import below
from ssd.data.formats.unused import find_unused
from tests.data.made import coco_content, coco_folder, write_image, write_text, xml, xml_object


def coco_of(*names, **more):
    images = [{"id": number, "file_name": name, "width": 40, "height": 20} for number, name in enumerate(names, 1)]
    boxes = [{"id": n, "image_id": n, "category_id": 3, "bbox": [2, 3, 10, 10]} for n in range(1, len(names) + 1)]
    return json.dumps(coco_content(images=images, annotations=boxes) | more)


def write_format(root, format, written):
    """A folder of that format whose only image, `images/a.png`, is named as `written`."""
    write_image(root / "images" / "a.png")
    if format == "coco":
        write_text(root / "annotations" / "instances_train.json", coco_of(written))
    elif format == "csv":
        write_text(root / "train.csv", f"{written},2,3,12,13,cat\n")
    elif format == "voc":
        write_text(root / "Annotations" / "one.xml", xml(xml_object(), filename=written))
    elif format == "yolo list":
        write_text(root / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5\n")
        write_text(root / "lists" / "train.txt", f"{written}\n")
        write_text(root / "data.yaml", "names: [cat]\ntrain: lists/train.txt\n")
    else:
        write_text(root / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5\n")
        write_text(root / "data.yaml", f"names: [cat]\ntrain: {written}\n")


@pytest.mark.parametrize("format", ["coco", "csv", "voc", "yolo", "yolo list"])
@pytest.mark.parametrize("way", ["absolute", "upwards"])
def test_an_absolute_name_is_that_of_the_image_in_a_relative_data_folder(tmp_path, monkeypatch, format, way):
    monkeypatch.chdir(tmp_path)
    folder = "images" if format == "yolo" else "images/a.png"
    write_format(Path("set"), format, f"{tmp_path}/set/{folder}" if way == "absolute" else f"../set/{folder}")
    (record,) = open_dataset("set", "all" if format == "voc" else "train", allow_outside=True).records
    assert record.path == "set/images/a.png"
    assert find_unused("set") == []


def test_a_path_is_written_from_the_folder_on_only_where_that_is_the_same_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "set" / "a.png")
    write_image(tmp_path / "other" / "a.png")
    (tmp_path / "link").symlink_to("set")
    (tmp_path / "set" / "inner").symlink_to(tmp_path / "other")
    assert below(tmp_path / "set" / "a.png", Path("set")) == Path("set/a.png")
    assert below(tmp_path / "set" / "a.png", Path("link")) == Path("link/a.png")
    assert below(Path("set/../set/a.png"), Path("set")) == Path("set/a.png")
    assert below(Path("a.png"), Path()) == Path("a.png")
    assert below(tmp_path / "other" / "a.png", Path("set")) == tmp_path / "other" / "a.png"
    assert below(Path("set/inner/../a.png"), Path("set")) == Path("set/inner/../a.png")  # not there


@pytest.mark.parametrize(
    "written", ["..\\..\\media\\upload\\a.png", "../../media/upload/a.png", "/{}/media/upload/a.png"]
)
@pytest.mark.parametrize("is_outside", [True, False])
def test_a_path_in_coco_that_leads_out_of_the_folder_is_found_inside_by_its_end(tmp_path, written, is_outside):
    """As Label Studio writes it; what it names may lie on this machine too."""
    folder = tmp_path / "deep" / "set"
    write_format(folder, "coco", written.format(str(tmp_path / "deep").lstrip("/")))
    if is_outside:
        write_image(tmp_path / "deep" / "media" / "upload" / "a.png")
    (record,) = open_dataset(folder, "train").records
    assert record.path == str(folder / "images" / "a.png")
    assert find_unused(folder) == []
    (folder / "images" / "a.png").rename(folder / "images" / "b.png")
    (problem,) = scan(folder, "train")[1]
    assert ("outside the data folder" in str(problem)) == is_outside
    if is_outside:
        write_image(folder / "images" / "a.png")
        (record,) = open_dataset(folder, "train", allow_outside=True).records
        assert record.path.endswith("/media/upload/a.png")


@pytest.mark.parametrize("year", ["", "2017"])
@pytest.mark.parametrize("format", ["coco", "voc", "csv"])
def test_a_missing_image_is_not_replaced_by_another_splits(tmp_path, format, year):
    names = ["0001.png", "0002.png", "0003.png"]
    for split, count in (("train", 3), ("val", 2)):
        for name in names[:count]:
            write_image(tmp_path / "images" / split / "cam" / name)
        if format == "coco":
            write_text(tmp_path / "annotations" / f"instances_{split}{year}.json", coco_of(*names))
        elif format == "csv":
            write_text(tmp_path / f"{split}{year}.csv", "".join(f"{name},2,3,12,13,cat\n" for name in names))
        else:
            for name in names:
                text = xml(xml_object(), filename=name)
                write_text(tmp_path / "Annotations" / f"{split}{year}" / f"of_{name[:4]}.xml", text)
    dataset, problems = scan(tmp_path, f"val{year}")
    found = [Path(record.path).relative_to(tmp_path / "images").as_posix() for record in dataset.records]
    assert found == ["val/cam/0001.png", "val/cam/0002.png"]
    assert [(problem.kind, problem.level) for problem in problems if problem.level == "file"] == [
        ("unreadable", "file")
    ]
    assert "no" in problems[0].message
    assert len(scan(tmp_path, f"train{year}")[0]) == 3


@pytest.mark.parametrize(
    ("split", "image"),
    [
        ("val", "train/a.png"),  # all images lie there, whatever split they are in
        ("val2017", "pictures of val/validation/a.png"),
        ("valid", "validation/deep/a.png"),
        ("val", "test/val/a.png"),
        ("minival", "val2014/a.png"),
        ("trainval", "train/a.png"),
        ("train", "tests and others/a.png"),
        ("train", "night/a.png"),
    ],
)
def test_the_only_image_of_a_name_is_found_in_any_folder_but_another_splits(tmp_path, split, image):
    write_image(tmp_path / image)
    if split != "val" or image != "train/a.png":
        write_image(tmp_path / split / "b.png")
    assert ImageFinder(tmp_path, split=split).find("a.png") == tmp_path / image


def test_a_folder_above_the_data_folder_names_no_split(tmp_path):
    write_image(tmp_path / "test" / "images" / "a.png")
    write_image(tmp_path / "test" / "train" / "b.png")
    assert ImageFinder(tmp_path / "test", split="train").find("a.png") is not None


def test_coco_images_of_one_folder_are_found_in_it_by_every_split(tmp_path):
    coco_folder(tmp_path, coco_content(), "train")
    write_text(tmp_path / "annotations" / "instances_val.json", json.dumps(coco_content()))
    assert len(scan(tmp_path, "val")[0]) == 2
