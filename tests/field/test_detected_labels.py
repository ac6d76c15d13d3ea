"""Labels that detect writes are a data set that training reads (row B21)."""

import json
import sys

import numpy as np
import pytest

from ssd.commands.check_data import main as check_data
from ssd.commands.detect import main
from ssd.data.dataset import open_dataset
from ssd.data.formats.recognition import recognise
from ssd.data.formats.registry import default_split, splits
from ssd.inference.bulk.journal import Done
from ssd.inference.bulk.results import Results
from tests.commands.small_detector import read_rows, save_small_weights, write_image, write_video


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


def detect(weights, out, *words, threshold=0.05):
    arguments = [*words, "--weights", weights, "--output", out, "--score-threshold", threshold, "--quiet"]
    assert main([str(word) for word in arguments]) == 0
    return out


def boxes_of(folder):
    """Boxes and labels of each image of the folder, under its name."""
    parts = [open_dataset(folder, default_split(folder, "auto", which)) for which in ("train", "val")]
    records = [record for part in parts for record in part.records]
    assert parts[0].class_names == ("cat", "dog")
    return {record.path.rpartition("/")[2]: (np.asarray(record.boxes), list(record.labels)) for record in records}


@pytest.mark.parametrize("formats", ["yolo,coco", "yolo", "images,jsonl,yolo,coco"])
def test_a_folder_of_detected_labels_is_read_back_with_the_same_boxes(weights, tmp_path, formats):
    for number, name in enumerate(["a.JPG", "b.png", "c.d.bmp", "tall.webp", "e.jpeg", "f.tiff"]):
        write_image(tmp_path / "photos" / name, 50 + 30 * number, 70, seed=number)
    out = detect(weights, tmp_path / "out", tmp_path / "photos", "--format", formats)
    assert recognise(out) == "yolo"
    assert splits(out) == ("train",)
    read, rows = boxes_of(out), read_rows(out)
    assert len(read) == len(rows) == 6
    assert sum(len(boxes) for boxes, _ in read.values()) > 6
    for row in rows:
        boxes, labels = read[row["path"].rpartition("/")[2]]
        assert labels == [item["label"] for item in row["detections"]]
        np.testing.assert_allclose(boxes, [item["box"] for item in row["detections"]], atol=0.5)


def test_images_in_which_nothing_was_found_are_images_without_objects(weights, tmp_path):
    for number in range(4):
        write_image(tmp_path / "photos" / f"{number}.png", seed=number)
    out = detect(weights, tmp_path / "out", tmp_path / "photos", "--format", "yolo,coco", threshold=1)
    assert json.loads((out / "coco.json").read_text()) == []
    assert recognise(out) == "yolo"
    assert {name: len(boxes) for name, (boxes, _) in boxes_of(out).items()} == {f"{n}.png": 0 for n in range(4)}


def test_the_frames_of_a_video_lie_beside_their_labels(weights, tmp_path):
    clip = write_video(tmp_path / "clip.avi", frames=7)
    out = detect(weights, tmp_path / "out", clip, "--format", "yolo", "--every", 2)
    read, rows = boxes_of(out), read_rows(out)[:-1]
    assert sorted(read) == ["000000.jpg", "000002.jpg", "000004.jpg", "000006.jpg"]
    for row in rows:
        boxes, _ = read[f"{row['frame']:06d}.jpg"]
        np.testing.assert_allclose(boxes, np.reshape([item["box"] for item in row["detections"]], (-1, 4)), atol=0.5)


def test_check_data_takes_the_folder_of_a_mixed_search(weights, tmp_path, capsys):
    for number in range(12):
        write_image(tmp_path / "photos" / f"{number}.png", seed=number)
    (tmp_path / "photos" / "9.png").replace(tmp_path / "photos" / "nine.of.png")
    write_image(tmp_path / "photos" / "odd.png").replace(tmp_path / "odd.photo")
    out = detect(weights, tmp_path / "out", tmp_path / "photos", tmp_path / "odd.photo", "--format", "images,yolo,coco")
    assert (out / "images" / "odd.png").exists()  # written anew: no reader looks for `.photo`
    assert check_data([str(out)]) in (0, 1)
    printed = capsys.readouterr().out
    assert "training can start" in printed


def test_names_of_classes_come_back_as_they_were(tmp_path):
    names = ("yes", "010", 'it\'s: a "dog"', "猫", "#1", "a, b")
    Results(tmp_path, frozenset({"yolo"}), names, {}, Done()).close()
    (tmp_path / "images" / "a.png").write_bytes(write_image(tmp_path / "a.png").read_bytes())
    (tmp_path / "labels" / "a.txt").write_text("3 0.5 0.5 0.5 0.5\n")
    assert open_dataset(tmp_path, "train").class_names == names


def test_a_folder_that_the_images_lie_in_is_refused(weights, tmp_path, capsys):
    write_image(tmp_path / "out" / "images" / "a.png")
    words = [tmp_path / "out" / "images", "--weights", weights, "--output", tmp_path / "out", "--force"]
    assert main([str(word) for word in words]) == 2
    assert "holds the images themselves" in capsys.readouterr().err


LABELS = {"voc": "voc", "coco-data": "coco", "labelme": "labelme", "labelstudio": "labelstudio", "cvat": "cvat"}


@pytest.mark.parametrize("format", list(LABELS))
def test_labels_for_each_tool_are_read_back_with_the_same_boxes(weights, tmp_path, format):
    # A byte that is no UTF-8: not every file system holds it, and XML does not.
    odd = "caf\udce9.png" if sys.platform == "linux" and format != "cvat" else "cafe.png"
    for number, name in enumerate(["a b.png", "größe.png", "c.d.bmp", "sub/a b.jpg", "a%20b.png", odd]):
        write_image(tmp_path / "photos" / name, 50 + 30 * number, 70, seed=number)
    words = ["--format", format, "--copy", "--recursive"]
    out = detect(weights, tmp_path / "out", tmp_path / "photos", *words)
    assert recognise(out) == LABELS[format]
    dataset = open_dataset(out, "all")
    read = {record.path.rpartition("/")[2]: record for record in dataset.records}
    rows = read_rows(out)
    assert len(read) == len(rows) == 6
    for row in rows:
        record = read[row["files"][0].removeprefix("images/")]
        assert [dataset.class_names[label] for label in record.labels] == [item["name"] for item in row["detections"]]
        boxes = np.reshape([item["box"] for item in row["detections"]], (-1, 4))
        np.testing.assert_allclose(record.boxes, boxes, atol=0.5)


@pytest.mark.skipif(sys.platform == "win32", reason="such names cannot be made there")
@pytest.mark.parametrize("words", [[], ["--copy"]])
def test_a_name_that_cvats_file_cannot_hold_is_said_before_the_search(weights, tmp_path, capsys, words):
    write_image(tmp_path / "photos" / "a\x01.png")
    out = tmp_path / "out"
    arguments = [tmp_path / "photos", "--weights", weights, "--output", out, "--format", "cvat", *words]
    assert main([str(argument) for argument in arguments]) == 2
    assert r"a\x01.png: has a name that cannot be written as XML, which cvat is. Rename it" in capsys.readouterr().err
    assert not out.exists()


def test_labels_name_images_where_they_are_and_frames_are_written(weights, tmp_path):
    write_image(tmp_path / "photos" / "a.png")
    clip = write_video(tmp_path / "clip.avi", frames=3)
    out = detect(weights, tmp_path / "out", tmp_path / "photos", clip, "--format", "labelme,coco-data")
    assert json.loads((out / "a.json").read_text())["imagePath"] == "../photos/a.png"
    assert not (out / "images" / "a.png").exists()
    assert sorted(path.name for path in (out / "images" / "clip").glob("*.jpg")) == [f"{n:06d}.jpg" for n in range(3)]
    assert json.loads((out / "images" / "clip" / "000001.json").read_text())["imagePath"] == "000001.jpg"
    content = json.loads((out / "annotations" / "instances_default.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", *(f"clip/{n:06d}.jpg" for n in range(3))]


def test_labels_of_an_interrupted_search_are_whole_after_the_next_one(weights, tmp_path):
    for number in range(3):
        write_image(tmp_path / "photos" / f"{number}.png", seed=number)
    write_image(tmp_path / "later" / "3.png", seed=3)
    out = tmp_path / "out"
    detect(weights, out, tmp_path / "photos", "--format", "cvat")
    detect(weights, out, tmp_path / "photos", tmp_path / "later", "--format", "cvat", "--resume")
    assert (out / "annotations.xml").read_text().count("<image ") == 4
