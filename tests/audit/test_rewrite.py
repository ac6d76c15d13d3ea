import json
from pathlib import Path

import pytest

import ssd
from ssd.audit.rewrite import check_output
from ssd.data.formats.unused import find_unused
from ssd.errors import ArgumentError
from tests.audit.made import sound
from tests.data.made import write_image, write_text


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("top", ["absolute", "../set", "."])
def test_a_data_folder_with_paths_of_any_form_is_left_as_it_is(tmp_path, monkeypatch, top):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        for number in range(3):
            write_image(tmp_path / "set" / "images" / split / f"{split}{number}.png", 40 + number)
            write_text(tmp_path / "set" / "labels" / split / f"{split}{number}.txt", "0 0.5 0.5 0.5 0.5\n")
            write_text(tmp_path / "set" / "images" / split / f"{split}{number}.json", "the user's own")
    path = tmp_path / "set" if top == "absolute" else top
    write_text(tmp_path / "set" / "data.yaml", f"path: {path}\ntrain: images/train\nval: images/val\nnames: [cat]\n")
    before = snapshot(tmp_path / "set")
    assert [problem.kind for problem in find_unused("set")] == ["not_read"] * 2  # the JSON files
    check = ssd.check_data("set")
    check.rewrite(["labelme", "voc"], "out")
    assert snapshot(tmp_path / "set") == before
    assert sorted(name for name in snapshot(tmp_path / "out") if name.endswith((".json", ".xml"))) == sorted(
        f"{kind}{split}/images/{split}/{split}{number}.{suffix}"
        for kind, suffix in (("", "json"), ("Annotations/", "xml"))
        for split in ("train", "val")
        for number in range(3)
    )


def test_the_data_folder_is_no_place_to_write_to(tmp_path):
    folder = sound(tmp_path / "data")
    yaml = write_text(folder / "data.yaml", "names: [cat]\n")
    for data in (folder, yaml):
        with pytest.raises(ArgumentError, match="lies in the data folder, which is not changed"):
            check_output(folder / "new", data, force=False)
    check_output(tmp_path / "new", yaml, force=False)
    before = snapshot(folder)
    with pytest.raises(ArgumentError, match="lies in the data folder, which is not changed"):
        ssd.check_data(folder, overrides={"data.format": "voc"}).rewrite(["voc"], folder)
    assert snapshot(folder) == before


def test_a_data_set_that_was_written_before_is_not_mixed_with_another(tmp_path):
    check = ssd.check_data(sound(tmp_path / "data"))
    check.rewrite(["voc"], tmp_path / "out", copy=True)
    before = snapshot(tmp_path / "out")
    with pytest.raises(ArgumentError, match=r"holds a data set already \(images/\), whose files would stay"):
        check.rewrite(["voc"], tmp_path / "out")
    with pytest.raises(ArgumentError, match="holds a data set already"):
        check_output(tmp_path / "out", None, force=True)
    assert snapshot(tmp_path / "out") == before


def test_splits_with_points_in_their_names_are_all_written(tmp_path):
    for fold in ("fold.1", "fold.2"):
        write_image(tmp_path / "data" / "images" / f"{fold}.jpg")
        content = {
            "images": [{"id": 1, "file_name": f"{fold}.jpg", "width": 40, "height": 20}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 9, 9]}],
            "categories": [{"id": 1, "name": "cat"}],
        }
        write_text(tmp_path / "data" / "annotations" / f"{fold}.json", json.dumps(content))
    assert ssd.check_data(tmp_path / "data").rewrite(["yolo"], tmp_path / "out").images == 2
    assert len(list((tmp_path / "out" / "images").rglob("*.jpg"))) == 2


def test_two_lists_of_one_name_are_refused(tmp_path):
    folder = sound(tmp_path / "data")
    names = [path.stem for path in sorted((folder / "JPEGImages").iterdir())]
    lists = [write_text(tmp_path / part / "list.txt", f"{names[place]}\n") for place, part in enumerate("ab")]
    check = ssd.check_data(folder, overrides={"data.train": str(lists[0]), "data.val": str(lists[1])})
    with pytest.raises(ArgumentError, match="two splits would be called 'list'"):
        check.rewrite(["voc"], tmp_path / "out")


def test_splits_that_a_format_cannot_name_are_said(tmp_path):
    for split in ("night", "day"):
        write_image(tmp_path / "set" / "images" / split / f"{split}.png")
        write_text(tmp_path / "set" / "labels" / split / f"{split}.txt", "0 0.5 0.5 0.5 0.5\n")
    write_text(tmp_path / "set" / "data.yaml", "names: [cat]\nnight: images/night\nday: images/day\n")
    check = ssd.check_data(tmp_path / "set")
    assert "only coco-data and yolo name the splits" in str(check.rewrite(["voc"], tmp_path / "out"))
    assert "name the splits" not in str(check.rewrite(["coco-data", "yolo"], tmp_path / "other"))
