"""Folders as downloaded or exported are read as they are; every box is the right one."""

import pytest

from ssd.data.dataset import open_dataset, scan
from ssd.data.formats.recognition import recognise
from ssd.data.formats.registry import default_split, splits
from ssd.data.formats.unused import find_unused
from ssd.errors import AnnotationError, DatasetError
from tests.data.made import write_text, xml, xml_object
from tests.field.folders import BOX, ROW, coco, coco_images, image, voc_pair, yolo_pair


def both(folder):
    """The two data sets with which training would start."""
    return tuple(open_dataset(folder, default_split(folder, "auto", which)) for which in ("train", "val"))


def divided(folder, count=12):
    """Whether the folder is read whole, in two parts without a common image, and every box is where it is."""
    train, val = both(folder)
    paths = [{record.path for record in part.records} for part in (train, val)]
    assert not paths[0] & paths[1]
    assert len(paths[0] | paths[1]) == count
    assert len(val) >= min(3, count // 4)
    for part in (train, val):
        assert [record.boxes.tolist() for record in part.records] == [[pytest.approx(BOX, abs=1e-4)]] * len(part)
    return train.class_names


VOC_NAMES = [
    ("annotations", "images"), ("annots", "images"), ("Annotations", "JPEGImages"), ("ANNOTATIONS", "IMAGES"),
    ("annotation", "img"), ("xmls", "pictures"), ("labels", "images"), ("Annots", "Pictures"),
]  # fmt: skip


@pytest.mark.parametrize(("annotations", "images"), VOC_NAMES)
def test_voc_in_sub_folders_is_read_under_the_usual_names_in_any_case(tmp_path, annotations, images):
    voc_pair(tmp_path / annotations, tmp_path / images)
    assert recognise(tmp_path) == "voc"
    assert divided(tmp_path) == ("cat",)


def test_png_images_upper_case_suffixes_and_xml_follow(tmp_path):
    voc_pair(tmp_path / "annotations", tmp_path / "images", suffix=".PNG")
    for path in (tmp_path / "annotations").glob("*.xml"):
        path.rename(path.with_suffix(".XML"))
    assert divided(tmp_path) == ("cat",)


def test_the_image_is_the_one_that_filename_names(tmp_path):
    for number in range(12):
        image(tmp_path / "images" / f"photo {number}.jpg", number)
        text = xml(xml_object(box=(3, 4, 13, 14)), filename=f"photo {number}.jpg")
        write_text(tmp_path / "annots" / f"{number:05}.xml", text)
    assert divided(tmp_path) == ("cat",)


@pytest.mark.parametrize("written", ["C:\\Users\\me\\x\\images\\a.jpg", "/home/me/images/a.jpg", "images/a.jpg", "a"])
def test_a_filename_of_another_machine_is_found_by_its_end(tmp_path, written):
    image(tmp_path / "images" / "a.jpg")
    write_text(tmp_path / "annotations" / "1.xml", xml(xml_object(), filename=written))
    (record,) = open_dataset(tmp_path, "all").records
    assert record.path == str(tmp_path / "images" / "a.jpg")


def test_annotations_in_folders_below_are_read_too(tmp_path):
    voc_pair(tmp_path / "Annotations", tmp_path / "JPEGImages", 6)
    voc_pair(tmp_path / "Annotations" / "cam2", tmp_path / "JPEGImages" / "cam2", 6, name="second{}")
    assert divided(tmp_path) == ("cat",)


def test_a_folder_for_each_split_with_sub_folders(tmp_path):
    for split in ("train", "test"):
        voc_pair(tmp_path / split / "annotations", tmp_path / split / "images", name=split + "{}")
    train, val = both(tmp_path)
    assert (train.split, len(train), val.split, len(val)) == ("train", 12, "test", 12)


def test_images_with_a_folder_for_each_split_and_xml_beside(tmp_path):
    for split in ("train", "test"):
        voc_pair(tmp_path / "images" / split, tmp_path / "images" / split, name=split + "{}")
    assert [len(part) for part in both(tmp_path)] == [12, 12]


def test_annotations_and_images_both_with_a_folder_for_each_split(tmp_path):
    for split in ("train", "val"):
        voc_pair(tmp_path / "annotations" / split, tmp_path / "images" / split)
    assert [len(part) for part in both(tmp_path)] == [12, 12]


def test_cvats_voc_export_has_one_list_and_is_divided(tmp_path):
    voc_pair(tmp_path / "Annotations", tmp_path / "JPEGImages")
    write_text(tmp_path / "ImageSets" / "Main" / "default.txt", "".join(f"im{n}\n" for n in range(12)))
    write_text(tmp_path / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\n")
    assert splits(tmp_path) == ("train", "val", "all")
    assert divided(tmp_path) == ("cat",)


@pytest.mark.parametrize("images", ["images", "images/default", "img", ""])
def test_cvats_coco_export_has_one_file_and_is_divided(tmp_path, images):
    write_text(tmp_path / "annotations" / "instances_default.json", coco(coco_images(tmp_path / images)))
    assert divided(tmp_path) == ("cat",)


@pytest.mark.parametrize("name", ["result.json", "annotations.json", "my labels.json", "_annotations.coco.json"])
@pytest.mark.parametrize(
    "written", ["{}", "images/{}", "images\\{}", "/data/upload/3/{}", "../../label-studio/media/{}"]
)
def test_one_coco_file_with_images_in_a_folder_is_divided(tmp_path, name, written):
    names = [written.format(name) for name in coco_images(tmp_path / "images")]
    if written.startswith(".."):
        names = [name.removeprefix("../../") for name in names]
    write_text(tmp_path / name, coco(names))
    assert divided(tmp_path) == ("cat",)


def test_fiftyones_coco_export(tmp_path):
    write_text(tmp_path / "labels.json", coco(coco_images(tmp_path / "data")))
    assert divided(tmp_path) == ("cat",)


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("instances_train", "instances_val")])
def test_coco_files_at_the_top_are_splits(tmp_path, train, val):
    write_text(tmp_path / f"{train}.json", coco(coco_images(tmp_path / "images")))
    write_text(tmp_path / f"{val}.json", coco(coco_images(tmp_path / "images", 4)))
    assert [(part.split, len(part)) for part in both(tmp_path)] == [("train", 12), ("val", 4)]


def test_label_studios_yolo_export_is_divided(tmp_path):
    yolo_pair(tmp_path / "labels", tmp_path / "images")
    write_text(tmp_path / "classes.txt", "cat\ndog\n")
    write_text(tmp_path / "notes.json", '{"categories": [{"id": 0, "name": "cat"}], "info": {"year": 2024}}')
    assert divided(tmp_path) == ("cat", "dog")


def test_label_studios_voc_export_is_divided(tmp_path):
    voc_pair(tmp_path / "Annotations", tmp_path / "images", name="0a1b2c3d-im{}")
    assert divided(tmp_path) == ("cat",)


def test_coco128_has_no_names_and_one_split(tmp_path):
    yolo_pair(tmp_path / "labels" / "train2017", tmp_path / "images" / "train2017")
    write_text(tmp_path / "README.txt", "COCO128")
    assert divided(tmp_path) == ("class_0",)
    _, problems = scan(tmp_path, "train-part")
    assert "no_class_names" in [problem.kind for problem in problems]


@pytest.mark.parametrize(
    "listed", ["data/obj_train_data/{}", "obj_train_data/{}", "/content/darknet/data/obj_train_data/{}"]
)
def test_darknets_files_are_read(tmp_path, listed):
    yolo_pair(tmp_path / "obj_train_data", tmp_path / "obj_train_data")
    write_text(tmp_path / "obj.names", "cat\n")
    write_text(tmp_path / "obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    write_text(tmp_path / "train.txt", "".join(f"{listed.format(f'im{n}.jpg')}\n" for n in range(12)))
    assert recognise(tmp_path) == "yolo"
    assert divided(tmp_path) == ("cat",)


def test_darknets_own_folder_is_divided_by_its_lists(tmp_path):
    """As its README has it: data/obj.data, data/train.txt with paths from the folder above, data/obj/*.jpg."""
    for name in ("a", "b"):
        image(tmp_path / "data" / "obj" / f"{name}.jpg")
        write_text(tmp_path / "data" / "obj" / f"{name}.txt", ROW)
    write_text(tmp_path / "data" / "obj.names", "cat\n")
    write_text(tmp_path / "data" / "train.txt", "data/obj/a.jpg\n")
    write_text(tmp_path / "data" / "test.txt", "data/obj/b.jpg\n")
    assert splits(tmp_path) == ("train", "test")
    assert [open_dataset(tmp_path, split).records[0].image_id for split in ("train", "test")] == [
        "data/obj/a",
        "data/obj/b",
    ]
    assert find_unused(tmp_path) == []


def test_darknets_folders_without_lists_are_splits(tmp_path):
    for split in ("train", "valid"):
        yolo_pair(tmp_path / f"obj_{split}_data", tmp_path / f"obj_{split}_data")
    write_text(tmp_path / "obj.names", "cat\n")
    assert [part.split for part in both(tmp_path)] == ["train", "valid"]


def test_roboflows_yolo_export(tmp_path):
    for split in ("train", "valid", "test"):
        yolo_pair(tmp_path / split / "labels", tmp_path / split / "images")
    write_text(
        tmp_path / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['cat']\n",
    )
    assert [(part.split, len(part)) for part in both(tmp_path)] == [("train", 12), ("val", 12)]


@pytest.mark.parametrize(
    "yaml",
    [
        "train: /content/x/images/train\nval: /content/x/images/val\nnames: [cat]\n",
        "path: D:\\data\\x\ntrain: images\\train\nval: images\\val\nnames: [cat]\n",
        "path: ../datasets/x\ntrain: images/train/\nval: images/val/\nnames: {0: cat}\n",
        "train: train_list.txt\nval: val_list.txt\nnames: [cat]\n",
    ],
)
def test_a_yaml_of_another_machine_is_read_and_what_was_found_is_said(tmp_path, yaml):
    for split in ("train", "val"):
        yolo_pair(tmp_path / "labels" / split, tmp_path / "images" / split)
        lines = [f"/content/x/images/{split}/im{n}.jpg\n" for n in range(6)]
        lines += [f"images\\{split}\\im{n}.jpg\n" for n in range(6, 12)]
        write_text(tmp_path / f"{split}_list.txt", "".join(lines))
    file = write_text(tmp_path / "x.yaml", yaml)
    for data in (tmp_path, file):
        train, val = both(data)
        assert (len(train), len(val)) == (12, 12)
        assert train.records[0].boxes.tolist() == [pytest.approx(BOX, abs=1e-4)]
    if "content" in yaml:
        assert "moved" in [problem.kind for problem in scan(tmp_path, "train")[1]]


def test_labels_beside_images_in_a_folder_named_images(tmp_path):
    yolo_pair(tmp_path / "images" / "set1" / "train", tmp_path / "images" / "set1" / "train")
    assert divided(tmp_path) == ("class_0",)
    write_text(tmp_path / "data.yaml", "names: [cat]\ntrain: images/set1/train\nval: images/set1/train\n")
    assert sum(len(record.boxes) for record in open_dataset(tmp_path, "train").records) == 12


def test_labels_for_a_folder_of_images_under_another_name(tmp_path):
    yolo_pair(tmp_path / "Labels", tmp_path / "img")
    assert divided(tmp_path) == ("class_0",)


@pytest.mark.parametrize(("suffix", "note"), [(".TXT", False), (".jpg.txt", True), (".JPG.TXT", True)])
def test_labels_under_unusual_names_are_read(tmp_path, suffix, note):
    yolo_pair(tmp_path / "labels", tmp_path / "images", suffix=suffix)
    write_text(tmp_path / "classes.txt", "cat\n")
    assert divided(tmp_path) == ("cat",)
    assert ("label_name" in [problem.kind for problem in scan(tmp_path, "all")[1]]) == note


@pytest.mark.parametrize(("shape", "numbers"), [("[17, 3]", 51), ("[4, 2]", 8), ("[5, 3]", 15)])
def test_the_box_of_a_pose_row_is_its_first_four_numbers(tmp_path, shape, numbers):
    row = ROW.strip() + " 0.9" * numbers + "\n"
    for split in ("train", "val"):
        image(tmp_path / "images" / split / "a.jpg")
        write_text(tmp_path / "labels" / split / "a.txt", row)
    data = f"names: [person]\nkpt_shape: {shape}\ntrain: images/train\nval: images/val\n"
    write_text(tmp_path / "data.yaml", data)
    (record,) = open_dataset(tmp_path, "train").records
    assert record.boxes.tolist() == [pytest.approx(BOX, abs=1e-4)]
    write_text(tmp_path / "labels" / "train" / "a.txt", ROW.strip() + " 0.9" * (numbers + 1))
    with pytest.raises(AnnotationError, match="kpt_shape"):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize(
    "names", ["[yes, no, on, 010]", "{0: yes, 1: no, 2: on, 3: 010}", "\n  - yes\n  - no\n  - on\n  - 010"]
)
def test_class_names_of_data_yaml_stay_text(tmp_path, names):
    image(tmp_path / "images" / "train" / "a.jpg")
    write_text(tmp_path / "labels" / "train" / "a.txt", ROW)
    write_text(tmp_path / "data.yaml", f"names: {names}\ntrain: images/train\nval: images/train\n")
    assert open_dataset(tmp_path, "train").class_names == ("yes", "no", "on", "010")


@pytest.mark.parametrize("name", ["environment.yml", "docker-compose.yaml", "dvc.yaml"])
def test_a_yaml_of_something_else_does_not_count(tmp_path, name):
    voc_pair(tmp_path / "annotations", tmp_path / "images")
    write_text(tmp_path / name, "name: x\nversion: !!python/tuple [1, 2]\n")
    assert divided(tmp_path) == ("cat",)


def test_class_lists_with_commas_and_a_background(tmp_path):
    voc_pair(tmp_path / "Annotations", tmp_path / "JPEGImages")
    write_text(tmp_path / "labels.txt", "BACKGROUND,cat,dog\n")
    assert divided(tmp_path) == ("cat", "dog")
    _, problems = scan(tmp_path, "all")
    assert [problem.kind for problem in problems] == ["background"]


def test_background_keeps_the_numbers_of_yolo(tmp_path):
    image(tmp_path / "images" / "a.jpg")
    write_text(tmp_path / "labels" / "a.txt", ROW.replace("0 ", "1 ", 1))
    write_text(tmp_path / "classes.txt", "__background__\ncat\n")
    dataset = open_dataset(tmp_path, "all")
    assert dataset.class_names == ("cat",)
    assert dataset.records[0].labels.tolist() == [0]


OTHERS = {
    "HRSC": ("<HRSC_Image><Img_ID>1</Img_ID></HRSC_Image>", "is not VOC: its root is <HRSC_Image>"),
    "CVAT": ("<annotations><version>1.1</version><image/></annotations>", "its root is <annotations>"),
    "KML": ("<kml><object/></kml>", "its root is <kml>"),
}


@pytest.mark.parametrize(("text", "message"), OTHERS.values(), ids=list(OTHERS))
def test_xml_of_another_schema_is_an_error_and_never_an_image_without_objects(tmp_path, text, message):
    voc_pair(tmp_path / "Annotations", tmp_path / "JPEGImages")
    for number in range(4):
        write_text(tmp_path / "Annotations" / f"im{number}.xml", text)
    with pytest.raises(AnnotationError, match="4 bad files") as caught:
        open_dataset(tmp_path, "all", bad_objects="drop")
    assert message in str(caught.value)


def test_a_rotated_box_becomes_the_upright_box_around_it_with_a_note(tmp_path):
    image(tmp_path / "images" / "a.jpg")
    box = "<cx>21</cx><cy>11</cy><w>10</w><h>4</h><angle>1.5707963</angle>"
    write_text(tmp_path / "annotations" / "a.xml", xml(f"<object><name>ship</name><robndbox>{box}</robndbox></object>"))
    dataset, problems = scan(tmp_path, "all")
    assert dataset.records[0].boxes.tolist() == [pytest.approx([18, 5, 22, 15], abs=1e-3)]
    assert [problem.kind for problem in problems] == ["rotated"]


@pytest.mark.parametrize(("degrees", "box"), [(90, [15, 5, 25, 15]), (45, None), (360, [10, 7.5, 30, 12.5])])
def test_cocos_rotation_attribute_turns_the_box(tmp_path, degrees, box):
    names = coco_images(tmp_path / "images", 1)
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 7.5, 20, 5], "attributes": {"rotation": degrees}}
    write_text(tmp_path / "annotations" / "instances_default.json", coco(names, annotations=[entry]))
    dataset, problems = scan(tmp_path, "all")
    side = 25 / 2**0.5 / 2  # of a 20x5 box turned by 45 degrees: half the side of the square around it
    expected = {90: [17.5, 0, 22.5, 20], 360: [10, 7.5, 30, 12.5], 45: [20 - side, 10 - side, 20 + side, 10 + side]}
    assert dataset.records[0].boxes.tolist() == [pytest.approx(expected[degrees], abs=1e-3)]
    assert [problem.kind for problem in problems] == ([] if degrees == 360 else ["rotated"])
    assert box is None or degrees in expected


OBJECT = '{"objects": [{"label": "car", "polygon": [[1, 2], [3, 4], [5, 2]]}], "imgHeight": 20, "imgWidth": 40}'
TOOLS = {
    "BDD100K": (
        "train.json",
        '[{"name": "im0.jpg", "labels": [{"category": "car", "box2d": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}]}]',
    ),
    "FiftyOne": (
        "samples.json",
        '{"samples": [{"filepath": "images/im0.jpg", "truth": {"_cls": "Detections", "detections": []}}]}',
    ),
    "WIDER FACE": (
        "wider_face_train_bbx_gt.txt",
        "0--Parade/im0.jpg\n1\n2 3 10 10 0 0 0 0 0 0 \n0--Parade/im1.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n",
    ),
    "Cityscapes": ("im0_gtFine_polygons.json", OBJECT),
    "Supervisely": ("im0.jpg.json", '{"description": "", "tags": [], "size": {"height": 20}, "objects": []}'),
    "V7 Darwin": ("im0.json", '{"version": "2.0", "item": {"name": "im0.jpg", "slots": []}, "annotations": []}'),
    "SuperAnnotate": ("im0.jpg.json", '{"metadata": {}, "instances": [{"type": "bbox", "className": "cat"}]}'),
    "CrowdHuman": ("annotation_train.odgt", '{"ID": "im0", "gtboxes": []}\n{"ID": "im1", "gtboxes": []}\n'),
    "Amazon SageMaker Ground Truth": ("_annotations.manifest", '{"source-ref": "im0.jpg", "bounding-box": {}}\n'),
    "Google Vertex AI": ("data.jsonl", '{"imageGcsUri": "gs://b/im0.jpg", "boundingBoxAnnotations": []}\n'),
    "Google AutoML": ("all.csv", "TRAINING,gs://b/im0.jpg,cat,0.1,0.1,,,0.3,0.3,,\n"),
    "VIA (VGG Image Annotator)": ("via.json", '{"im0.jpg123": {"filename": "im0.jpg", "size": 123, "regions": []}}'),
    "CreateML": ("_annotations.createml.json", '[{"image": "im0.jpg", "annotations": []}]'),
}  # fmt: skip


@pytest.mark.parametrize("tool", list(TOOLS))
@pytest.mark.parametrize("below", ["", "labels"])
def test_a_tools_own_format_is_named_with_what_to_export(tmp_path, tool, below):
    name, text = TOOLS[tool]
    image(tmp_path / "images" / "im0.jpg")
    write_text(tmp_path / below / name, text)
    with pytest.raises(DatasetError) as caught:
        recognise(tmp_path)
    assert f"which is {tool}'s own format" in str(caught.value)
    assert name in str(caught.value)
    assert "Did you mean" not in str(caught.value)
    assert caught.value.remedy


def test_a_wrapping_folder_is_answered_with_the_command(tmp_path):
    voc_pair(tmp_path / "archive" / "annotations", tmp_path / "archive" / "images")
    with pytest.raises(DatasetError, match=r"Did you mean (.*/archive)\? Pass \1"):
        recognise(tmp_path)


def test_a_config_for_training_in_a_data_folder_changes_nothing(tmp_path):
    config = "name: cells\ndata: {folder: x}\ntrain: {epochs: 5}\n"
    yolo_pair(tmp_path / "yolo" / "labels", tmp_path / "yolo" / "images")
    voc_pair(tmp_path / "voc" / "Annotations", tmp_path / "voc" / "JPEGImages")
    for kind in ("yolo", "voc"):
        path = tmp_path / kind / "cells.yaml"
        write_text(path, config)
        assert recognise(tmp_path / kind) == kind
        assert len(open_dataset(tmp_path / kind, "all")) == 12
        with pytest.raises(AnnotationError, match=r"cells\.yaml: is a config for training, not a data set"):
            open_dataset(path, "all")


def test_links_that_lead_to_themselves_or_upwards_are_passed_over(tmp_path):
    voc_pair(tmp_path / "data" / "Annotations", tmp_path / "data" / "images")
    for name, target in (("circle", "circle"), ("up", ".."), ("images/again", ".")):
        (tmp_path / "data" / name).symlink_to(target)
    assert recognise(tmp_path / "data") == "voc"
    assert divided(tmp_path / "data") == ("cat",)
