"""What is written in a tool's format is read back with the same boxes, and opened by the tools' own packages."""

import json
import shutil
from dataclasses import replace
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from PIL import Image

from ssd.commands.check_data import main as check_data
from ssd.data.dataset import open_dataset, scan
from ssd.data.formats.recognition import recognise
from ssd.data.formats.registry import splits
from ssd.data.labels.label_formats import LABEL_FORMATS, write_labels
from ssd.data.labels.labelled import Label, Labelled, Stems
from tests.data.made import coco_content, coco_folder, write_image, write_text

READ_AS = {name: name for name in LABEL_FORMATS} | {"coco-data": "coco"}
NAMES = ["plain.jpg", "two words.png", "Größe 図.jpg", "a.b.c.JPG", '100% & <x>\'s "y".png', "sub/same.jpg"]
NAMES += ["same.png"]
CLASSES = ("zebra", "größe & <b>", "cat")


def make_images(folder, copied=True):
    """Images of odd names, one that is stored on its side, and one without objects; with their labels."""
    images, stems = [], Stems()
    for number, name in enumerate([*NAMES, "turned.jpg", "empty.jpg"]):
        width, height = 60 + number, 40
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = (height, width) if name == "turned.jpg" else (width, height)
        exif = Image.Exif()
        if name == "turned.jpg":
            exif[0x0112] = 6
        Image.fromarray(np.full((*stored[::-1], 3), 90, np.uint8)).save(path, exif=exif)
        boxes = [(0.0, 0.0, float(width), float(height)), (1.25, 2.5, 30.75 + number, 20.0), (5.0, 6.0, 7.0, 8.125)]
        boxes = [] if name == "empty.jpg" else boxes
        labels = tuple(Label(CLASSES[place % 2], box) for place, box in enumerate(boxes))
        images.append(Labelled(name, stems.take(name), f"images/{name}", copied, width, height, labels))
    return images


def read_back(folder, split, **options):
    dataset = open_dataset(folder, split, **options)
    return dataset.class_names, {
        record.path.removeprefix(f"{folder}/"): (record.boxes, [dataset.class_names[n] for n in record.labels])
        for record in dataset.records
    }


@pytest.mark.parametrize("format", list(LABEL_FORMATS))
def test_labels_are_read_back_with_the_same_boxes(tmp_path, format):
    images = make_images(tmp_path)
    write_labels(tmp_path, [format], lambda: images, CLASSES)
    assert recognise(tmp_path) == READ_AS[format]
    names, found = read_back(tmp_path, "train" if format == "yolo" else "all")
    assert names == CLASSES  # those without objects too, in their order
    assert sorted(found) == sorted(image.place for image in images)
    for image in images:
        boxes, classes = found[image.place]
        np.testing.assert_allclose(boxes, np.reshape([label.box for label in image.labels], (-1, 4)), atol=0.5)
        np.testing.assert_allclose(boxes, np.reshape([label.box for label in image.labels], (-1, 4)), atol=0.01)
        assert classes == [label.name for label in image.labels]
    problems = scan(tmp_path, "train" if format == "yolo" else "all", check_images=True)[1]
    assert [problem for problem in problems if problem.level != "note"] == []


@pytest.mark.parametrize("format", list(LABEL_FORMATS))
def test_detections_are_read_back_and_keep_their_scores_where_there_is_a_place(tmp_path, format):
    write_image(tmp_path / "images" / "a.png")
    label = Label("cat", (2.0, 3.0, 12.0, 13.0), 0.875)
    image = Labelled("a.png", "a", "images/a.png", True, 40, 20, (label,), detected=True)
    write_labels(tmp_path, [format], lambda: [image], ("cat",))
    (boxes, _) = read_back(tmp_path, "train" if format == "yolo" else "all")[1]["images/a.png"]
    np.testing.assert_allclose(boxes, [label.box], atol=1e-4)
    text = "".join(path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".json", ".xml", ".txt"))
    assert ("0.875" in text) == (format in ("coco-data", "labelme", "labelstudio"))


@pytest.mark.parametrize("format", ["labelme"])
def test_labels_of_images_elsewhere_lead_to_them(tmp_path, format):
    images = make_images(tmp_path / "photos", copied=False)
    (tmp_path / "found").mkdir()
    moved = [replace(image, place=f"../photos/{image.place}") for image in images]
    write_labels(tmp_path / "found", [format], lambda: moved, CLASSES)
    assert len(open_dataset(tmp_path / "found", "all", allow_outside=True)) == len(images)


@pytest.mark.parametrize("format", list(LABEL_FORMATS))
def test_check_data_writes_a_folder_anew_with_its_splits(tmp_path, format, capsys):
    for split in ("train", "val"):
        coco_folder(tmp_path / "data", coco_content(), split)
    out = tmp_path / "out"
    assert check_data([str(tmp_path / "data"), "--write", format, "--out", str(out), "--copy", "--quiet"]) in (0, 1)
    assert "2 objects in 4 images (copied into images/)" in capsys.readouterr().err
    assert recognise(out) == READ_AS[format]
    assert splits(out) == ("train", "val")
    for split in splits(out):
        names, found = read_back(out, split)
        assert names == ("car", "toothbrush")
        boxes, classes = found[f"images/{split}/a.jpg"]
        np.testing.assert_allclose(boxes, [[2, 3, 12, 13]], atol=1e-4)
        assert classes == ["toothbrush"]
        crowd = open_dataset(out, split).records[1].crowd.tolist()
        assert crowd == ([True] if format == "coco-data" else [])  # others have no mark for it


def test_several_formats_share_one_copy_of_the_images(tmp_path):
    coco_folder(tmp_path / "data", coco_content())
    out = tmp_path / "out"
    words = ["--write", ",".join(["coco", *LABEL_FORMATS]), "--out", str(out), "--quiet"]
    assert check_data([str(tmp_path / "data"), *words]) in (0, 1)
    assert len(list((out / "images").rglob("*.jpg"))) == 2
    for format in LABEL_FORMATS:
        there = splits(out, READ_AS[format])
        parts = [open_dataset(out, split, format=READ_AS[format]) for split in there]
        boxes = [record.boxes.tolist() for part in parts for record in part.records]
        assert [pytest.approx([2, 3, 12, 13], abs=1e-4)] in boxes


def test_images_are_left_where_they_are_unless_asked(tmp_path):
    coco_folder(tmp_path / "data", coco_content())
    out = tmp_path / "out"
    assert check_data([str(tmp_path / "data"), "--write", "coco", "--out", str(out), "--quiet"]) in (0, 1)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        "annotations/instances_train.json", "annotations/instances_val.json", "labels.txt",
    ]  # fmt: skip
    content = json.loads((out / "annotations" / "instances_train.json").read_text())
    assert content["images"][0]["file_name"].startswith("train/")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--write", "kitti", "--out", "out"], "'kitti' is unknown. Use voc, coco-data"),
        (["--write", "voc"], "belong together"),
        (["--write", "voc", "--divide", "0.2", "--out", "out"], "are two steps"),
        (["--write", "voc", "--out", "data/out"], "lies in the data folder, which is not changed"),
        (["--write", "voc", "--out", "full"], "is not empty. Name a new folder, or add --force."),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    coco_folder(tmp_path / "data", coco_content())
    write_text(tmp_path / "full" / "a.txt", "")
    assert check_data(["data", *words, "--quiet"]) == 2
    assert said in capsys.readouterr().err


def test_stems_differ_also_without_regard_to_case():
    stems = Stems()
    assert [stems.take(name) for name in ("a.jpg", "A.png", "b/a.jpg", "a.jpg", "a.jpg")] == [
        "a", "A_png", "b/a", "a_jpg", "a-2",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves images open
def test_labelme_opens_what_is_written(tmp_path):
    label_file = pytest.importorskip("labelme._label_file", reason="the package labelme is not installed")
    images = make_images(tmp_path)
    write_labels(tmp_path, ["labelme"], lambda: images, CLASSES)
    for image in images:
        opened = label_file.LabelFile(str(tmp_path / "images" / f"{image.stem}.json"))
        assert [shape["label"] for shape in opened.shapes] == [label.name for label in image.labels]
        assert [np.ravel(shape["points"]).tolist() for shape in opened.shapes] == [
            list(label.box) for label in image.labels
        ]


def test_label_studios_converter_opens_what_is_written(tmp_path):
    converter = pytest.importorskip("label_studio_sdk.converter", reason="the package label-studio-sdk is missing")
    images = make_images(tmp_path)
    write_labels(tmp_path, ["labelstudio"], lambda: images, CLASSES)
    config = '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    config += "".join(f"<Label value={quoteattr(name)}/>" for name in CLASSES)
    write_text(tmp_path / "config.xml", config + "</RectangleLabels></View>")
    opened = converter.Converter(str(tmp_path / "config.xml"), str(tmp_path), download_resources=False)
    opened.convert_to_coco(str(tmp_path / "label-studio.json"), str(tmp_path / "converted"), is_dir=False)
    content = json.loads((tmp_path / "converted" / "result.json").read_text())
    expected = sorted(tuple(label.box[:2]) for image in images for label in image.labels)
    found = sorted(tuple(row["bbox"][:2]) for row in content["annotations"])
    np.testing.assert_allclose(found, expected, atol=0.5)


THEIRS = {"voc": "voc", "coco-data": "coco", "cvat": "cvat", "yolo": "yolo"}


@pytest.mark.parametrize(("format", "theirs"), THEIRS.items())
def test_datumaro_opens_what_is_written(tmp_path, format, theirs):
    datumaro = pytest.importorskip("datumaro", reason="the package datumaro is not installed")
    images = make_images(tmp_path)
    write_labels(tmp_path, [format], lambda: images, CLASSES)
    if format == "voc":  # the names of its folders are VOC's own
        shutil.move(tmp_path / "images", tmp_path / "JPEGImages")
        stems = "".join(f"{image.stem}\n" for image in images)
        write_text(tmp_path / "ImageSets" / "Main" / "default.txt", stems)
        lines = [f"{name}:::" for name in CLASSES]
        write_text(tmp_path / "labelmap.txt", "".join(f"{line}\n" for line in lines))
    if format == "coco-data":
        shutil.move(tmp_path / "images", tmp_path / "x")
        shutil.move(tmp_path / "x", tmp_path / "images" / "default")
    opened = datumaro.Dataset.import_from(str(tmp_path), theirs)
    items = [item for image in opened for item in image.annotations if hasattr(item, "get_bbox")]
    boxes = sorted(tuple(item.get_bbox()) for item in items)
    shift = 1 if format == "voc" else 0
    expected = sorted(
        (label.box[0] + shift, label.box[1] + shift, label.box[2] - label.box[0], label.box[3] - label.box[1])
        for image in images
        for label in image.labels
    )
    np.testing.assert_allclose(boxes, expected, atol=0.5)
