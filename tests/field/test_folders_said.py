"""What is in a folder and not used, and numbers that look wrong, are said before training."""

import json
import logging
import os
import shutil

import cv2
import numpy as np
import pytest

from ssd.audit.doubts import look_alikes
from ssd.audit.readiness import judge
from ssd.audit.report import examine
from ssd.audit.splits import Reading
from ssd.data.dataset import open_dataset, scan
from ssd.data.formats.division import Division
from ssd.data.formats.registry import default_split
from ssd.data.formats.unused import find_unused
from ssd.data.split_checks import report_use
from ssd.errors import AnnotationError, ImageDecodeError
from ssd.experiment.config import Config, DataConfig
from ssd.experiment.data import check_images, open_split, report_folder
from ssd.images.decode import load_image
from tests.audit.made import boxes
from tests.data.made import write_text, xml, xml_object
from tests.field.folders import ROW, coco, coco_images, image, voc_pair, yolo_pair


def unused(folder):
    return {problem.kind: problem.message for problem in find_unused(folder)}


def verdict(folder, **reading):
    return judge(examine(folder, Reading(**reading), boxes()))


def test_a_folder_that_is_used_whole_has_nothing_to_say(tmp_path):
    voc_pair(tmp_path / "annotations", tmp_path / "images")
    write_text(tmp_path / "README.md", "")
    assert unused(tmp_path) == {}


@pytest.mark.parametrize("suffix", [".heic", ".avif", ".dat"])
def test_files_of_suffixes_not_read_are_counted(tmp_path, suffix):
    yolo_pair(tmp_path / "labels", tmp_path / "images")
    for number in range(6):
        (tmp_path / "images" / f"im{number}.jpg").rename(tmp_path / "images" / f"im{number}{suffix}")
    assert f"6 files of kinds that are not read (6 {suffix})" in unused(tmp_path)["not_read"]
    assert "6 annotation files without an image" in unused(tmp_path)["unused_annotations"]


def test_jfif_is_a_jpeg(tmp_path):
    yolo_pair(tmp_path / "labels", tmp_path / "images")
    for path in list((tmp_path / "images").iterdir())[:6]:
        path.rename(path.with_suffix(".jfif"))
    assert unused(tmp_path) == {}
    assert sum(len(record.boxes) for record in open_dataset(tmp_path, "all").records) == 12


def test_images_without_labels_are_counted(tmp_path):
    yolo_pair(tmp_path / "labels", tmp_path / "images")
    for number in range(4):
        (tmp_path / "labels" / f"im{number}.txt").unlink()
    kinds = [problem.kind for problem in scan(tmp_path, "all")[1]]
    assert kinds.count("no_labels") == 4
    assert "4 no_labels: " in "\n".join(verdict(tmp_path).cautions) or "no_labels" in str(verdict(tmp_path).cautions)


def test_labels_without_images_are_counted(tmp_path):
    yolo_pair(tmp_path / "labels", tmp_path / "images")
    for number in range(5):
        (tmp_path / "images" / f"im{number}.jpg").unlink()
    assert "5 annotation files without an image" in unused(tmp_path)["unused_annotations"]


def test_two_images_of_one_name_are_not_silently_one(tmp_path):
    voc_pair(tmp_path / "annotations", tmp_path / "images")
    image(tmp_path / "images" / "im0.png", 99)
    assert "1 image that no split uses" in unused(tmp_path)["unused_images"]


def test_images_in_no_list_and_in_folders_beside_are_counted(tmp_path):
    voc_pair(tmp_path / "Annotations", tmp_path / "JPEGImages")
    for split, numbers in (("train", range(6)), ("val", range(6, 10))):
        write_text(tmp_path / "ImageSets" / "Main" / f"{split}.txt", "".join(f"im{n}\n" for n in numbers))
    image(tmp_path / "more" / "x.jpg", 50)
    found = find_unused(tmp_path)
    assert [(problem.path, problem.kind, problem.message.split()[0]) for problem in found] == [
        ("Annotations", "unused_annotations", "2"),
        ("JPEGImages", "unused_images", "2"),
        ("more", "unused_images", "1"),
    ]


def test_coco_says_which_images_and_files_it_does_not_list(tmp_path):
    write_text(tmp_path / "annotations.json", coco(coco_images(tmp_path / "images", 8)[:6]))
    write_text(tmp_path / "old.json", "{}")
    assert "2 images that no split uses" in unused(tmp_path)["unused_images"]
    assert "1 annotation file" in unused(tmp_path)["unused_annotations"]


def test_training_says_it_in_one_line_and_check_data_lists_it(tmp_path, caplog):
    voc_pair(tmp_path / "annotations", tmp_path / "images")
    image(tmp_path / "more" / "x.jpg", 50)
    write_text(tmp_path / "more" / "x.heic", "")
    parts = [open_dataset(tmp_path, split) for split in ("train", "val")]
    with caplog.at_level(logging.WARNING, "ssd.data"):
        report_use(*parts)
    not_used, few = caplog.messages
    assert "1 image that no split uses" in not_used
    assert "(1 .heic)" in not_used
    assert "the validation set val has 3 images" in few
    assert "in the folder and not used" in "\n".join(verdict(tmp_path).cautions)


def coco_with(tmp_path, box, count=16, size=(100, 80)):
    names = [image(tmp_path / "images" / f"im{n}.jpg", n, size).name for n in range(count)]
    images = [{"id": n, "file_name": name, "width": size[0], "height": size[1]} for n, name in enumerate(names)]
    entries = [{"id": n, "image_id": n, "category_id": 1, "bbox": box(n)} for n in range(count)]
    write_text(tmp_path / "annotations.json", coco(names, images=images, annotations=entries))
    return tmp_path


@pytest.mark.parametrize("drop", ["error", "drop"])
def test_fractions_where_coco_has_pixels_stop_with_a_remedy(tmp_path, drop):
    folder = coco_with(tmp_path, lambda n: [0.1, 0.2, 0.5, 0.05 + 0.01 * n])
    with pytest.raises(AnnotationError, match="look like fractions") as caught:
        open_dataset(folder, "train", bad_objects=drop)
    assert "multiply them by its width and height" in str(caught.value)
    assert "fractions" in verdict(folder).line


def test_fractions_where_voc_has_pixels_stop_too(tmp_path):
    voc_pair(tmp_path / "annotations", tmp_path / "images")
    for path in (tmp_path / "annotations").iterdir():
        write_text(path, xml(xml_object(box=(0.1, 0.2, 0.6, 0.7))))
    for offset in ("0", "1"):
        with pytest.raises(AnnotationError, match="look like fractions"):
            open_dataset(tmp_path, "train", voc_offset=offset)


def test_corners_where_sizes_are_meant_stop_with_a_remedy(tmp_path):
    folder = coco_with(tmp_path, lambda n: [5 * n, 3 * n, 5 * n + 20, 3 * n + 30])
    with pytest.raises(AnnotationError, match="look like corners x1 y1 x2 y2 where x y width height is meant"):
        open_dataset(folder, "all", bad_objects="drop")
    assert "corners" in verdict(folder).line


def test_corners_in_yolo_rows_stop_too(tmp_path):
    yolo_pair(tmp_path / "labels", tmp_path / "images")
    for number, path in enumerate(sorted((tmp_path / "labels").iterdir())):
        write_text(path, f"0 {0.06 * number:.2f} 0.1 {0.06 * number + 0.3:.2f} 0.6\n")
    with pytest.raises(AnnotationError, match="look like corners"):
        open_dataset(tmp_path, "all")


@pytest.mark.parametrize("row", ["0 {} 8 10 10", "0 {}.5 40 25 50"])
def test_pixels_and_percent_in_yolo_rows_are_named(tmp_path, row):
    yolo_pair(tmp_path / "labels", tmp_path / "images")
    for number, path in enumerate(sorted((tmp_path / "labels").iterdir())):
        write_text(path, row.format(7 + number))
    for drop in ("error", "drop"):
        with pytest.raises(AnnotationError, match=r"12 of 12 boxes are larger than their image: .* pixels or percent"):
            open_dataset(tmp_path, "all", bad_objects=drop)
    assert "write fractions of the image" in verdict(tmp_path).line


def test_one_box_in_pixels_is_one_bad_object(tmp_path):
    yolo_pair(tmp_path / "labels", tmp_path / "images")
    write_text(tmp_path / "labels" / "im3.txt", "0 7 8 10 10")
    with pytest.raises(AnnotationError, match=r"(?s)1 bad objects in split 'all':.* line 1 .* lies outside"):
        open_dataset(tmp_path, "all")


def test_sizes_that_reach_over_the_edge_now_and_then_are_no_corners(tmp_path):
    folder = coco_with(tmp_path, lambda n: [60, 40, 30, 60] if n % 4 == 0 else [60, 40, 30, 20])
    dataset = open_dataset(folder, "all")
    assert dataset.records[1].boxes.tolist() == [[60, 40, 90, 60]]
    assert "4 of 12 boxes (33%)" in "\n".join(verdict(folder).cautions)


@pytest.mark.parametrize("drop", ["error", "drop"])
def test_ids_that_start_at_1_are_named_and_never_dropped(tmp_path, drop):
    for number in range(8):
        image(tmp_path / "images" / f"im{number}.jpg", number)
        write_text(tmp_path / "labels" / f"im{number}.txt", f"{1 + number % 2}{ROW[1:]}")
    write_text(tmp_path / "classes.txt", "cat\ndog\n")
    with pytest.raises(AnnotationError, match="look 1-based: 4 rows have class 2") as caught:
        open_dataset(tmp_path, "all", bad_objects=drop)
    assert "subtract 1 from every id" in str(caught.value)


def test_coco_ids_that_start_at_1_are_named_too(tmp_path):
    names = coco_images(tmp_path / "images", 4)
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    entries = [{"id": n, "image_id": n + 1, "category_id": 1 + n % 2, "bbox": [2, 3, 10, 10]} for n in range(4)]
    write_text(tmp_path / "annotations.json", coco(names, categories=categories, annotations=entries))
    with pytest.raises(AnnotationError, match="look 1-based"):
        open_dataset(tmp_path, "all", bad_objects="drop")


def test_an_unknown_id_among_all_the_others_is_a_bad_object_as_before(tmp_path):
    yolo_pair(tmp_path / "labels", tmp_path / "images", 4)
    write_text(tmp_path / "labels" / "im0.txt", f"1{ROW[1:]}")
    write_text(tmp_path / "classes.txt", "cat\n")
    assert len(open_dataset(tmp_path, "all", bad_objects="drop").dropped) == 1


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["helmet", "Helmet", "hemlet"], [("helmet", "Helmet"), ("helmet", "hemlet")]),
        (["traffic light", "traffic_light"], [("traffic light", "traffic_light")]),
        (["person", "persn"], [("person", "persn")]),
        (["K\u00e4se", "Ka\u0308se"], [("K\u00e4se", "Ka\u0308se")]),
        (["car", "cat", "class_1", "class_2", "horse", "boat", "goat"], []),
    ],
)
def test_names_that_look_alike_are_paired(names, pairs):
    assert look_alikes(names) == pairs


def test_24_images_give_a_usable_validation_set_and_the_verdict_says_that_it_is_small(tmp_path):
    voc_pair(tmp_path / "annotations", tmp_path / "images", 24)
    train, val = (open_dataset(tmp_path, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (18, 6)
    line = verdict(tmp_path).line
    assert line.startswith("training can start, but the validation set val has 6 images: its figures say little")
    assert 8 <= len(open_dataset(tmp_path, "val", val_fraction=0.5)) <= 16
    assert len(open_dataset(tmp_path, "train", val_fraction=0.5)) < 18


def test_copies_of_an_image_stay_on_one_side(tmp_path):
    voc_pair(tmp_path / "annotations", tmp_path / "images", 40)
    for number in range(0, 40, 2):
        shutil.copy(tmp_path / "images" / f"im{number}.jpg", tmp_path / "images" / f"im{number + 1}.jpg")
    train, val = (open_dataset(tmp_path, split) for split in ("train", "val"))
    sides = [{record.image_id for record in part.records} for part in (train, val)]
    assert len(sides[0]) + len(sides[1]) == 40
    assert all((f"im{n}" in sides[0]) == (f"im{n + 1}" in sides[0]) for n in range(0, 40, 2))


def test_a_division_is_stable_when_images_are_added():
    before = set(Division("val").choose({f"{n}": None for n in range(200)}))
    after = set(Division("val").choose({f"{n}": None for n in range(300)}))
    assert before <= after
    assert 10 <= len(before) <= 32


def test_a_class_that_the_validation_set_lacks_is_named(tmp_path):
    for split, name in (("train", "dog"), ("val", "cat")):
        voc_pair(tmp_path / split, tmp_path / split, name=split + "{}")
        if split == "train":
            write_text(tmp_path / split / "train0.xml", xml(xml_object(name)))
    assert "no object of dog in val: figures leave it out" in "\n".join(verdict(tmp_path).cautions)


@pytest.mark.parametrize("lone", [True, False])
def test_evaluating_on_training_images_is_said_loudly(tmp_path, caplog, lone):
    voc_pair(tmp_path / "Annotations", tmp_path / "JPEGImages")
    write_text(tmp_path / "ImageSets" / "Main" / "train.txt", "".join(f"im{n}\n" for n in range(12)))
    if not lone:
        write_text(tmp_path / "ImageSets" / "Main" / "other.txt", "im0\nim1\n")
    train = open_dataset(tmp_path, default_split(tmp_path, "auto", "train"))
    with caplog.at_level(logging.WARNING, "ssd.data"):
        report_use(train, open_dataset(tmp_path, "train"))
    assert f"{9 if lone else 12} of the 12 validation images are trained on" in caplog.text
    assert "trained on: the figures will be too good" in verdict(tmp_path, val="train").line


def test_a_test_split_that_stands_in_for_validation_is_said_unless_it_was_named(tmp_path, caplog):
    for split in ("train", "test"):
        voc_pair(tmp_path / split, tmp_path / split, name=split + "{}")
    for named, said in ((None, True), ("test", False)):
        config = Config(data=DataConfig(folder=str(tmp_path), val=named))
        caplog.clear()
        with caplog.at_level(logging.INFO, "ssd"):
            report_folder(config, open_split(config, "train"), open_split(config, "val"))
        assert ("there is no validation split: test chooses the best weights" in caplog.text) is said


def test_crowded_images_hint_at_the_limits(tmp_path):
    count = 500
    image(tmp_path / "images" / "a.jpg", 1, (400, 400))
    rows = "".join(f"0 {(n % 25) / 26 + 0.03:.4f} {(n // 25) / 26 + 0.03:.4f} 0.02 0.02\n" for n in range(count))
    write_text(tmp_path / "labels" / "a.txt", rows)
    yolo_pair(tmp_path / "labels", tmp_path / "images")
    text = "\n".join(verdict(tmp_path).cautions)
    assert "has 500 objects" in text
    assert "maxDets" in text
    assert "max_detections" in text


@pytest.mark.parametrize(("bad", "stops"), [(1, False), (3, False), (4, True)])
def test_a_few_bad_boxes_among_thousands_are_left_out_with_a_note(tmp_path, caplog, bad, stops):
    good = [xml_object(box=(x, y, x + 3, y + 3)) for x in range(1, 37) for y in range(1, 17)]  # 576
    for split, number in (("train", 6), ("val", 1)):
        for n in range(number):
            image(tmp_path / "JPEGImages" / f"{split}{n}.jpg", n)
            extra = [xml_object(box=(5, 5, 5, 9))] * bad if n == 0 and split == "train" else []
            write_text(tmp_path / "Annotations" / f"{split}{n}.xml", xml(*good, *extra))
        names = "".join(f"{split}{n}\n" for n in range(number))
        write_text(tmp_path / "ImageSets" / "Main" / f"{split}.txt", names)
    assert verdict(tmp_path).stops == stops
    if stops:
        with pytest.raises(AnnotationError, match=r"4 bad objects [^$]*bad_objects=drop"):
            open_dataset(tmp_path, "train")
        return
    with caplog.at_level(logging.WARNING, "ssd.data"):
        assert len(open_dataset(tmp_path, "train").dropped) == bad
    assert f"left out {bad} bad object" in caplog.text


def test_an_unknown_class_is_never_among_the_few(tmp_path):
    good = [xml_object(box=(x, y, x + 3, y + 3)) for x in range(1, 37) for y in range(1, 37)]
    image(tmp_path / "images" / "a.jpg", 1, (50, 50))
    write_text(tmp_path / "annotations" / "a.xml", xml(*good, xml_object("dgo"), size=(50, 50)))
    with pytest.raises(AnnotationError, match="unknown class 'dgo'"):
        open_dataset(tmp_path, "all", classes=["cat"])


def odd_coco(tmp_path, **changes):
    names = coco_images(tmp_path / "images", 4)
    content = json.loads(coco(names))
    for kind, entries in changes.items():
        content[kind] = entries(content[kind])
    write_text(tmp_path / "annotations.json", json.dumps(content))
    return tmp_path


def test_one_file_under_two_image_ids_is_one_message(tmp_path):
    folder = odd_coco(tmp_path, images=lambda images: [*images, images[0] | {"id": 99}])
    problems = [problem for problem in scan(folder, "all")[1] if problem.level == "file"]
    assert [problem.message for problem in problems] == ["im0.jpg is listed under two image ids, 1 and 99; keep one"]


def test_two_categories_of_one_name_are_one_message(tmp_path):
    folder = odd_coco(
        tmp_path,
        categories=lambda found: [*found, {"id": 2, "name": "cat"}],
        annotations=lambda found: [entry | {"category_id": 1 + entry["id"] % 2} for entry in found],
    )
    problems = scan(folder, "all")[1]
    assert [problem.message for problem in problems] == [
        "two categories have the name 'cat' (ids 1 and 2); rename or join them"
    ]


@pytest.mark.parametrize("crowd", ["1", 1, True])
def test_iscrowd_may_be_text_and_ids_may_be_floats(tmp_path, crowd):
    folder = odd_coco(
        tmp_path,
        images=lambda found: [entry | {"id": float(entry["id"])} for entry in found],
        categories=lambda found: [entry | {"id": 1.0} for entry in found],
        annotations=lambda found: [
            entry | {"id": float(entry["id"]), "image_id": float(entry["image_id"]), "iscrowd": crowd}
            for entry in found
        ],
    )
    dataset, problems = scan(folder, "all")
    assert problems == []
    assert [record.crowd.tolist() for record in dataset.records] == [[True]] * 4


@pytest.mark.parametrize("missing", [2, 20, 100])
def test_a_jpeg_without_its_end_says_that_it_is_readable_but_for_that(tmp_path, missing):
    path = image(tmp_path / "images" / "a.jpg", 1, (200, 200))
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    path.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes()[:-missing])
    write_text(tmp_path / "labels" / "a.txt", ROW)
    with pytest.raises(ImageDecodeError) as caught:
        check_images(open_dataset(tmp_path, "all"), open_dataset(tmp_path, "all"))
    assert "readable but for its end" in str(caught.value)
    assert "save it again" in str(caught.value)
    assert "data.bad_images=skip" in str(caught.value)


def test_a_jpeg_damaged_in_its_middle_is_not_called_readable(tmp_path):
    path = image(tmp_path / "a.jpg", 1, (200, 200))
    data = bytearray(path.read_bytes())
    data[2:150] = bytes(148)
    path.write_bytes(data)
    with pytest.raises(ImageDecodeError) as caught:
        load_image(path)
    assert "readable but for its end" not in str(caught.value)


def test_a_pipe_and_a_circle_of_links_in_the_folder_stop_no_reader(tmp_path):
    voc_pair(tmp_path / "annotations", tmp_path / "images", 4)
    os.mkfifo(tmp_path / "annotations" / "im9.xml")
    (tmp_path / "images" / "again").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(AnnotationError, match=r"im9\.xml: is not a regular file"):
        open_dataset(tmp_path, "all")
