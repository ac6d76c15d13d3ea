"""The formats of annotation tools are read: LabelMe, CVAT for images, Label Studio's JSON and tables."""

import json
import math

import pytest

from ssd.data.dataset import open_dataset, scan
from ssd.data.formats.recognition import recognise
from ssd.data.formats.registry import default_split, splits
from ssd.data.formats.unused import find_unused
from ssd.errors import AnnotationError, DatasetError
from tests.data.made import write_image, write_text, xml, xml_object


def labelme(*shapes, image="a.jpg", **more):
    return json.dumps({"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image} | more)


def shape(points, kind="rectangle", label="cat"):
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, "group_id": None}


def task(*results, image="a.jpg", **more):
    return {"data": {"image": image}, "annotations": [{"result": list(results), "was_cancelled": False}]} | more


def result(x, y, width, height, name="cat", kind="rectanglelabels", **more):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, kind: [name]} | more
    return {"type": kind, "value": value, "original_width": 40, "original_height": 20}


def cvat(*images):
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{"".join(images)}</annotations>'


def cvat_image(name, *shapes, subset=""):
    of = f' subset="{subset}" task_id="1"' if subset else ""
    return f'<image id="0" name="{name}"{of} width="40" height="20">{"".join(shapes)}</image>'


def boxes_of(folder, split="all"):
    """Boxes and class names of each image, under its path from the folder on."""
    dataset = open_dataset(folder, split)
    names = dataset.class_names
    return {
        record.path.removeprefix(f"{folder}/"): [
            (tuple(box), names[label]) for box, label in zip(record.boxes.tolist(), record.labels, strict=True)
        ]
        for record in dataset.records
    }


def test_labelme_rectangles_polygons_and_circles_are_boxes_and_points_are_left_aside(tmp_path):
    shapes = [shape([[12, 13.5], [2, 3]]), shape([[1, 2], [9, 3], [5, 8]], "polygon", "dog")]
    shapes += [shape([[20, 10], [23, 14]], "circle"), shape([[1, 1]], "point")]
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "a.json", labelme(*shapes, imageWidth=40, imageHeight=20, imageData="AAAA"))
    write_image(tmp_path / "b.jpg")
    write_text(tmp_path / "b.json", labelme(image="b.jpg", imageHeight=None))
    write_image(tmp_path / "unlabelled.jpg")
    assert recognise(tmp_path) == "labelme"
    expected = [((2, 3, 12, 13.5), "cat"), ((1, 2, 9, 8), "dog"), ((15, 5, 25, 15), "cat")]
    assert boxes_of(tmp_path) == {"a.jpg": expected, "b.jpg": []}
    notes = scan(tmp_path, "all")[1]
    assert [str(note) for note in notes] == ["a.json: shapes without an area are left aside: 1 point"]
    assert ["unlabelled.jpg" in str(note) for note in find_unused(tmp_path)] == [True]


def test_labelme_files_in_a_folder_of_their_own_find_their_images_and_splits(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / "images" / split / "same name é.jpg")
        text = labelme(shape([[2, 3], [12, 13]]), image=rf"..\..\images\{split}\same name é.jpg")
        write_text(tmp_path / "labels" / split / "same name é.json", text)
    assert splits(tmp_path) == ("train", "val")
    assert boxes_of(tmp_path, "val") == {"images/val/same name é.jpg": [((2, 3, 12, 13), "cat")]}


def test_a_labelme_file_renamed_with_its_image_is_read(tmp_path):
    write_image(tmp_path / "new.JPG")
    write_text(tmp_path / "new.json", labelme(shape([[2, 3], [12, 13]]), image="C:\\photos\\old.jpg"))
    assert list(boxes_of(tmp_path)) == ["new.JPG"]


@pytest.mark.parametrize("listed", [True, False])
def test_labelmes_ignore_is_no_class_and_its_objects_are_regions_that_count_for_none(tmp_path, listed):
    write_image(tmp_path / "a.jpg")
    shapes = [
        shape([[2, 3], [12, 13]]),
        shape([[1, 2], [30, 20]], label="__ignore__"),
        shape([[5, 5], [9, 9]], label="dog"),
    ]
    write_text(tmp_path / "a.json", labelme(*shapes))
    if listed:
        write_text(tmp_path / "labels.txt", "__ignore__\n_background_\ncat\ndog\n")
    dataset, problems = scan(tmp_path, "all")
    assert dataset.class_names == ("cat", "dog")
    assert [problem.kind for problem in problems] == ["background"] * listed + ["ignored"]
    (record,) = dataset.records
    assert record.labels.tolist() == [0, 1, 0, 1]
    assert record.crowd.tolist() == [False, False, True, True]
    assert record.boxes.tolist() == [[2, 3, 12, 13], [5, 5, 9, 9], [1, 2, 30, 20], [1, 2, 30, 20]]
    (record,) = open_dataset(tmp_path, "all", classes=["dog", "cat"]).records
    assert record.labels.tolist() == [1, 0, 0, 1]


def test_cvat_shapes_are_boxes_and_points_are_left_aside(tmp_path):
    shapes = [
        '<box label="cat" xtl="2" ytl="3" xbr="12.5" ybr="13"/>',
        '<box label="dog" xtl="10" ytl="8" xbr="20" ybr="12" rotation="90"/>',
        '<polygon label="cat" points="1,2;9,3;5,8"/>',
        '<ellipse label="cat" cx="20" cy="10" rx="4" ry="2"/>',
        '<mask label="cat" rle="1" left="3" top="4" width="10" height="5"/>',
        '<points label="cat" points="1,2"/>',
    ]
    for name in ("sub/a.jpg", "b.jpg"):
        write_image(tmp_path / "images" / name)
    write_text(tmp_path / "annotations.xml", cvat(cvat_image("sub/a.jpg", *shapes), cvat_image("b.jpg")))
    assert recognise(tmp_path) == "cvat"
    boxes = [(2, 3, 12.5, 13), (13, 5, 17, 15), (1, 2, 9, 8), (16, 8, 24, 12), (3, 4, 13, 9)]
    found = boxes_of(tmp_path)
    assert [box for box, _ in found["images/sub/a.jpg"]] == [pytest.approx(box) for box in boxes]
    assert found["images/b.jpg"] == []
    assert "1 points" in str(scan(tmp_path, "all")[1][0])


def test_cvat_beside_its_images_is_no_voc(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "a.xml", cvat(cvat_image("a.jpg", '<box label="cat" xtl="2" ytl="3" xbr="12" ybr="13"/>')))
    assert recognise(tmp_path) == "cvat"
    assert boxes_of(tmp_path) == {"a.jpg": [((2, 3, 12, 13), "cat")]}


BOX = '<box label="{}" xtl="2" ytl="3" xbr="{}" ybr="13"/>'


def test_the_subsets_of_a_cvat_project_are_its_splits(tmp_path):
    images = []
    for place, subset in enumerate(("Train", "Validation", "R&amp;D")):
        write_image(tmp_path / "images" / subset.replace("&amp;", "&") / "0.png", 40, 20)
        images.append(cvat_image("0.png", BOX.format(f"cat{place}", 12 + place), subset=subset))
    write_text(tmp_path / "annotations.xml", cvat(*images, cvat_image("1.png", BOX.format("", 9), subset="R&amp;D")))
    assert splits(tmp_path) == ("R&D", "Train", "Validation")
    assert [default_split(tmp_path, "auto", which) for which in ("train", "val")] == ["Train", "Validation"]
    assert boxes_of(tmp_path, "Train") == {"images/Train/0.png": [((2, 3, 12, 13), "cat0")]}
    assert boxes_of(tmp_path, "Validation") == {"images/Validation/0.png": [((2, 3, 13, 13), "cat1")]}
    assert open_dataset(tmp_path, "Train").class_names == ("cat0", "cat1", "cat2")
    assert find_unused(tmp_path) == []
    problems = [str(problem) for problem in scan(tmp_path, "R&D")[1]]
    assert problems[0] == "annotations.xml, R&D/1.png: shape 1: <box> has no label"


def test_subsets_do_not_count_where_some_image_is_in_none_or_a_folder_names_the_split(tmp_path):
    text = cvat(cvat_image("a.jpg", BOX.format("cat", 12), subset="Train"), cvat_image("b.jpg"))
    for folder in (tmp_path / "one", tmp_path / "two" / "test"):
        for name in ("a.jpg", "b.jpg"):
            write_image(folder / name)
        write_text(folder / "annotations.xml", text)
    assert len(open_dataset(tmp_path / "one", "all")) == 2
    write_text(tmp_path / "two" / "test" / "annotations.xml", text.replace('"b.jpg"', '"b.jpg" subset="Test"'))
    assert splits(tmp_path / "two") == ("test",)
    assert len(open_dataset(tmp_path / "two", "test")) == 2


def test_tracks_of_a_video_are_named_with_what_to_export(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "annotations.xml", '<annotations><meta/><track id="0" label="cat"/></annotations>')
    with pytest.raises(AnnotationError, match=r"tracks of CVAT for video.*choose Export, then CVAT for images"):
        open_dataset(tmp_path, "all")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations><image name="a.jpg"/></annotations>', "declares a document type"),
        (f"<annotations><image >{'<b>' * 100}{'</b>' * 100}</image></annotations>", "nested deeper than 30"),
        ("<annotations><image >", "is not valid XML"),
    ],
)
def test_a_cvat_file_that_is_unsafe_or_broken_is_refused(tmp_path, text, said):
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "annotations.xml", text)
    with pytest.raises(AnnotationError, match=rf"annotations\.xml.*{said}"):
        open_dataset(tmp_path, "all", format="cvat")


def test_label_studios_percents_turned_boxes_and_outlines_are_boxes(tmp_path):
    results = [
        result(5, 15, 25, 50),
        result(50, 25, 10, 50, rotation=90),  # 4 x 10 pixels about (20, 5)
        result(50, 50, 0, 0, "dog", "ellipselabels", radiusX=10, radiusY=20),
        result(0, 0, 0, 0, "dog", "polygonlabels", points=[[10, 10], [20, 10], [15, 60]]),
        {"type": "choices", "value": {"choices": ["good"]}},
    ]
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "project-1.json", json.dumps([task(*results), task(image="a.jpg", annotations=[])]))
    assert recognise(tmp_path) == "labelstudio"
    boxes = [(2, 3, 12, 13), (10, 5, 20, 9), (16, 6, 24, 14), (4, 2, 8, 12)]
    assert [box for box, _ in boxes_of(tmp_path)["a.jpg"]] == [pytest.approx(box) for box in boxes]
    assert "left aside: 1 tasks without annotations" in str(scan(tmp_path, "all")[1][0])


def test_the_box_around_a_turned_ellipse_touches_it(tmp_path):
    shapes = [
        '<ellipse label="cat" cx="50" cy="50" rx="10" ry="10" rotation="45"/>',
        '<ellipse label="cat" cx="50" cy="50" rx="40" ry="10" rotation="30"/>',
    ]
    write_image(tmp_path / "cvat" / "a.png", 100, 100)
    image = cvat_image("a.png", *shapes).replace('"40"', '"100"', 1).replace('"20"', '"100"', 1)
    write_text(tmp_path / "cvat" / "annotations.xml", cvat(image))
    circle, ellipse = (box for box, _ in boxes_of(tmp_path / "cvat")["a.png"])
    assert circle == pytest.approx((40, 40, 60, 60))
    angles = [number * 0.001 for number in range(6284)]
    across = max(40 * math.cos(t) * math.cos(math.pi / 6) - 10 * math.sin(t) * math.sin(math.pi / 6) for t in angles)
    down = max(40 * math.cos(t) * math.sin(math.pi / 6) + 10 * math.sin(t) * math.cos(math.pi / 6) for t in angles)
    assert ellipse == pytest.approx((50 - across, 50 - down, 50 + across, 50 + down), abs=1e-3)

    results = [
        result(50, 50, 0, 0, "dog", "ellipselabels", radiusX=10, radiusY=20, rotation=None),
        result(50, 50, 0, 0, "dog", "ellipselabels", radiusX=20, radiusY=10, rotation=90),  # radii of 8 x 2 pixels
        result(50, 50, 0, 0, "dog", "ellipselabels", radiusX=10, radiusY=20, rotation=45),  # radii of 4 x 4 pixels
    ]
    write_image(tmp_path / "studio" / "a.jpg")
    write_text(tmp_path / "studio" / "project.json", json.dumps([task(*results)]))
    found = [box for box, _ in boxes_of(tmp_path / "studio")["a.jpg"]]
    assert found == [pytest.approx((16, 6, 24, 14)), pytest.approx((18, 2, 22, 18)), pytest.approx((16, 6, 24, 14))]


ADDRESSES = [
    "/data/upload/3/0a1b2c3d-caf%C3%A9_1.jpg",
    "/data/local-files/?d=photos/caf%C3%A9_1.jpg",
    "s3://bucket/photos/café_1.jpg",
    "https://host/data/upload/0a1b2c3d-café_1.jpg",
    "http://[/data/upload/0a1b2c3d-café_1.jpg",
    "images/café_1.jpg",
    "café_1.jpg",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_label_studios_addresses_lead_to_the_images_here(tmp_path, address):
    write_image(tmp_path / "images" / "café_1.jpg")
    write_text(tmp_path / "tasks.json", json.dumps([task(result(5, 15, 25, 50), image=address)]))
    assert boxes_of(tmp_path) == {"images/café_1.jpg": [(pytest.approx((2, 3, 12, 13)), "cat")]}


def test_predictions_are_read_where_nothing_is_annotated_and_skipped_annotations_never(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_image(tmp_path / "b.jpg")
    guess = {"predictions": [{"result": [result(5, 15, 25, 50)], "score": 0.9}], "annotations": []}
    skipped = {"annotations": [{"result": [result(0, 0, 50, 50, "dog")], "was_cancelled": True}]}
    tasks = [task(**guess), task(image="b.jpg", **skipped)]
    write_text(tmp_path / "tasks.json", json.dumps(tasks))
    assert boxes_of(tmp_path) == {"a.jpg": [(pytest.approx((2, 3, 12, 13)), "cat")]}
    assert "predictions of its tasks are read" in str(scan(tmp_path, "all")[1][0])
    write_text(tmp_path / "tasks.json", json.dumps([*tasks, task(result(0, 0, 50, 50, "dog"), image="b.jpg")]))
    dataset, problems = scan(tmp_path, "all")
    assert dataset.class_names == ("dog",)  # and b.jpg alone has been looked at by somebody
    assert not [problem for problem in problems if problem.level == "file"]


def test_the_annotation_that_is_marked_as_ground_truth_comes_before_the_first(tmp_path):
    write_image(tmp_path / "a.jpg")
    first = {"result": [result(0, 0, 50, 50, "dog")], "was_cancelled": False}
    truth = {"result": [result(5, 15, 25, 50)], "was_cancelled": False, "ground_truth": True}
    write_text(tmp_path / "tasks.json", json.dumps([task(annotations=[first, truth])]))
    assert boxes_of(tmp_path) == {"a.jpg": [(pytest.approx((2, 3, 12, 13)), "cat")]}


TABLES = {
    "retinanet": "images/a.jpg,2,3,12,13,cat\nimages/b.jpg,,,,,\nimages/a.jpg,1,2,3.5,4,dog\n",
    "tensorflow": "filename,width,height,class,xmin,ymin,xmax,ymax\r\n"
    "a.jpg,40,20,cat,2,3,12,13\r\na.jpg,40,20,dog,1,2,3.5,4\r\nb.jpg,40,20,,,,,\r\n",
    "openimages": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
    "a,x,/m/1,1,0.05,0.3,0.15,0.65,0\na,x,/m/2,1,0.025,0.0875,0.1,0.2,0\n",
}


@pytest.mark.parametrize("kind", list(TABLES))
def test_tables_are_read_in_the_usual_forms(tmp_path, kind):
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.jpg")
    write_text(tmp_path / "class-descriptions-boxable.csv", "/m/1,cat\n/m/2,dog\n")
    write_text(tmp_path / "annotations.csv", TABLES[kind])
    assert recognise(tmp_path) == "csv"
    expected = {"images/a.jpg": [(pytest.approx((2, 3, 12, 13)), "cat"), (pytest.approx((1, 2, 3.5, 4)), "dog")]}
    assert boxes_of(tmp_path) == expected | ({} if kind == "openimages" else {"images/b.jpg": []})


@pytest.mark.parametrize(("name", "text"), [
    ("t.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,20,cat,25,3,35,13\n"),
    ("t.csv", "ImageID,class,xmin,ymin,xmax,ymax\na.jpg,cat,25,3,35,13\n"),  # pixels: OpenImages has LabelName
    ("a.json", labelme(shape([[25, 3], [35, 13]]), imageWidth=40, imageHeight=None)),  # one side does not count
])  # fmt: skip
def test_boxes_and_sides_are_pixels_whatever_is_said_of_the_sides(tmp_path, name, text):
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / name, text)
    dataset, problems = scan(tmp_path, "all")
    (record,) = dataset.records
    assert (record.width, record.height, record.boxes.tolist(), problems) == (40, 20, [[25, 3, 35, 13]], [])


def test_the_names_of_openimages_classes_may_lie_above_the_tables(tmp_path):
    write_image(tmp_path / "train" / "a.jpg")
    write_text(tmp_path / "class-descriptions-boxable.csv", "/m/1,cat\n/m/2,dog\n")
    write_text(tmp_path / "train" / "annotations.csv", TABLES["openimages"])
    assert [name for _, name in boxes_of(tmp_path, "train")["train/a.jpg"]] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(";", "utf-8"), ("\t", "utf-8"), ("\t", "utf-16"), (";", "utf-8-sig")]
)
def test_tables_as_excel_saves_them_are_read(tmp_path, delimiter, encoding):
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "t.csv").write_bytes(TABLES["tensorflow"].replace(",", delimiter).encode(encoding))
    assert recognise(tmp_path) == "csv"
    assert boxes_of(tmp_path)["images/a.jpg"][0] == (pytest.approx((2, 3, 12, 13)), "cat")


def test_a_table_is_recognised_whatever_letter_the_first_64_kb_end_in(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    for extra in range(2):
        write_text(tmp_path / "t.csv", "\n" * extra + f"images/a.jpg,2,3,12,13,{'é' * 20_000}\n" * 2)
        assert recognise(tmp_path) == "csv"


def test_a_group_of_objects_in_openimages_is_a_crowd(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "t.csv", TABLES["openimages"].replace("0.65,0\n", "0.65,1\n"))
    assert open_dataset(tmp_path, "all").records[0].crowd.tolist() == [True, False]


def test_tables_named_after_splits_are_splits_and_their_classes_agree(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.jpg")
    write_text(tmp_path / "train-annotations-bbox.csv", "images/a.jpg,2,3,12,13,dog\n")
    write_text(tmp_path / "validation-annotations-bbox.csv", "images/b.jpg,2,3,12,13,cat\n")
    assert splits(tmp_path) == ("train", "validation")
    assert default_split(tmp_path, "auto", "val") == "validation"
    assert open_dataset(tmp_path, "train").class_names == ("cat", "dog")


def test_roboflows_tables_lie_beside_the_images_of_each_split(tmp_path):
    for split in ("train", "valid"):
        write_image(tmp_path / split / "a.jpg")
        write_text(tmp_path / split / "_annotations.csv", TABLES["tensorflow"].replace("b.jpg", "a.jpg"))
    assert splits(tmp_path) == ("train", "valid")
    assert list(boxes_of(tmp_path, "valid")) == ["valid/a.jpg"]


@pytest.mark.parametrize("name", ["SampleSubmission.csv", "sample_submission.csv", "test-submission.csv"])
@pytest.mark.parametrize("table", ["Train.csv", "labels.csv"])
def test_the_form_for_a_contests_results_is_not_used(tmp_path, name, table):
    header = "Image_ID,class,confidence,ymin,xmin,ymax,xmax\n"
    for image in ("a.jpg", "b.jpg"):
        write_image(tmp_path / "images" / image)
    write_text(tmp_path / table, f"{header}a.jpg,cat,1.0,3,2,13,12\n")
    write_text(tmp_path / name, f"{header}b.jpg,cat,0.5,1,1,20,20\n")
    split = "train" if table == "Train.csv" else "all"
    assert boxes_of(tmp_path, split) == {"images/a.jpg": [((2, 3, 12, 13), "cat")]}
    assert name in "".join(map(str, find_unused(tmp_path)))


def test_a_table_that_names_no_split_is_not_used_beside_those_that_do(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.jpg")
    rows = {name: f"{name}.jpg,2,3,12,13,cat\n" for name in ("a", "b")}
    write_text(tmp_path / "raccoon_labels.csv", rows["a"] + rows["b"])
    write_text(tmp_path / "train_labels.csv", rows["a"])
    write_text(tmp_path / "test_labels.csv", rows["b"])
    assert splits(tmp_path) == ("test", "train")
    assert [list(boxes_of(tmp_path, split)) for split in ("train", "test")] == [["a.jpg"], ["b.jpg"]]
    (note,) = find_unused(tmp_path)
    assert "raccoon_labels.csv" in str(note)


def test_a_table_that_names_no_split_is_for_training_beside_a_test_table(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.jpg")
        write_text(tmp_path / ("labels.csv" if name == "a" else "test.csv"), f"{name}.jpg,2,3,12,13,cat\n")
    assert splits(tmp_path) == ("test", "train")
    assert list(boxes_of(tmp_path, "train")) == ["a.jpg"]


WRONG = [
    ("images/a.jpg,2,3,-,13,cat\n", "t.csv: line 1: (cat) has the coordinate '-'", "object"),
    ("images/a.jpg,2,3,12,13,\n", "t.csv: line 1: has no class", "object"),
    ("images/a.jpg,12,3,2,13,cat\n", "t.csv: line 1 (cat): box 12 3 2 13 has its corners swapped", "object"),
    ("images/c.jpg,2,3,12,13,cat\n", "no image 'images/c.jpg' in", "file"),
    ("/etc/hostname.jpg,2,3,12,13,cat\n", "no image '/etc/hostname.jpg' in", "file"),
    ("../a.jpg,2,3,12,13,cat\n", "names an image outside the data folder", "file"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said", "level"), WRONG)
def test_what_is_wrong_in_a_row_is_named_with_its_line(tmp_path, text, said, level):
    write_image(tmp_path / "data" / "images" / "a.jpg")
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "data" / "t.csv", text)
    (problem,) = scan(tmp_path / "data", "all", format="csv")[1]
    assert said in str(problem)
    assert problem.level == level


def test_boxes_of_larger_images_in_a_table_are_said(tmp_path):
    write_image(tmp_path / "a.png", 100, 100)
    write_text(tmp_path / "t.csv", "filename,class,xmin,ymin,xmax,ymax\n" + "a.png,cat,100,100,500,600\n" * 5)
    with pytest.raises(
        AnnotationError, match=r"5 of 5 boxes are larger than their image: .* which were resized"
    ) as said:
        open_dataset(tmp_path, "all")
    assert "fractions" not in str(said.value)
    assert "multiply x by the width of the image over that of its original" in str(said.value)


def test_corners_in_a_table_are_not_taken_for_sizes(tmp_path):
    write_image(tmp_path / "a.png", 100, 100)
    rows = [f"a.png,cat,{10 + n},{10 + n},{150 + n},{150 + n}\n" for n in range(5)]
    write_text(tmp_path / "t.csv", "filename,class,xmin,ymin,xmax,ymax\n" + "".join(rows))
    assert "corners" not in [problem.kind for problem in scan(tmp_path, "all")[1]]


def test_images_outside_are_read_where_that_is_allowed(tmp_path):
    write_image(tmp_path / "photos" / "a.jpg")
    text = labelme(shape([[2, 3], [12, 13]]), image="../photos/a.jpg")
    write_text(tmp_path / "found" / "a.json", text)
    with pytest.raises(AnnotationError, match=r"outside the data folder.*data\.allow_outside=true"):
        open_dataset(tmp_path / "found", "all")
    assert len(open_dataset(tmp_path / "found", "all", allow_outside=True)) == 1


def test_an_image_that_two_files_annotate_is_a_problem(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "one.csv", "a.jpg,2,3,12,13,cat\n")
    write_text(tmp_path / "two.csv", "./a.jpg,2,3,12,13,cat\n")
    with pytest.raises(AnnotationError, match=r"a\.jpg is annotated twice, in one\.csv and in two\.csv; keep one"):
        open_dataset(tmp_path, "all")


def test_a_usual_format_beside_a_tools_own_comes_first(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    write_text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.25 0.5\n")
    write_text(tmp_path / "images" / "a.json", labelme(shape([[2, 3], [12, 13]])))
    assert recognise(tmp_path) == "yolo"


def test_folders_without_splits_are_divided_like_any_other(tmp_path):
    rows = []
    for number in range(12):
        write_image(tmp_path / f"{number}.png", 30 + number, 20)
        rows.append(f"{number}.png,2,3,12,13,cat\n")
    write_text(tmp_path / "boxes.csv", "".join(rows))
    parts = [{record.path for record in open_dataset(tmp_path, split).records} for split in ("train", "val")]
    assert not parts[0] & parts[1]
    assert [len(part) for part in parts] == [9, 3]


def test_two_tools_formats_at_once_are_asked_about(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "a.json", labelme(shape([[2, 3], [12, 13]])))
    write_text(tmp_path / "boxes.csv", "a.jpg,2,3,12,13,cat\n")
    with pytest.raises(DatasetError, match=r"looks like labelme and csv at once.*data\.format=labelme"):
        recognise(tmp_path)


@pytest.mark.parametrize("name", ["550e8400-e29b-41d4-a716-446655440000.jpg", "ab12cd34-a.jpg"])
def test_a_name_that_begins_like_an_upload_is_found_in_any_folder(tmp_path, name):
    write_image(tmp_path / "images" / "train" / name)
    write_text(tmp_path / "annotations" / "project.json", json.dumps([task(result(0, 0, 50, 50), image=f"/x/{name}")]))
    assert boxes_of(tmp_path) == {f"images/train/{name}": [((0, 0, 20, 10), "cat")]}


def test_an_address_with_a_signature_is_an_image_under_any_key(tmp_path):
    write_image(tmp_path / "a.jpg")
    address = "https://bucket/a.jpg?X-Amz-Signature=1"
    write_text(tmp_path / "tasks.json", json.dumps([task(result(0, 0, 50, 50)) | {"data": {"picture": address}}]))
    assert boxes_of(tmp_path) == {"a.jpg": [((0, 0, 20, 10), "cat")]}


def test_exports_side_by_side_have_images_of_their_own(tmp_path):
    """CVAT calls the frames of each task alike."""
    for name, label in (("taskA", "cat"), ("taskB", "dog")):
        write_image(tmp_path / name / "images" / "0.jpg")
        box = f'<box label="{label}" xtl="2" ytl="3" xbr="12" ybr="13"/>'
        write_text(tmp_path / name / "annotations.xml", cvat(cvat_image("0.jpg", box)))
    found = boxes_of(tmp_path)
    assert {path: objects[0][1] for path, objects in found.items()} == {
        "taskA/images/0.jpg": "cat",
        "taskB/images/0.jpg": "dog",
    }


def test_images_of_one_name_that_are_not_there_are_not_called_annotated_twice(tmp_path):
    for name in ("a", "b"):
        write_text(tmp_path / name / "annotations.xml", cvat(cvat_image("0.jpg")))
    assert {problem.kind for problem in scan(tmp_path, "all")[1]} == {"unreadable"}


def test_a_space_before_quotes_is_no_part_of_a_field(tmp_path):
    write_image(tmp_path / "a.jpg")
    rows = 'filename, class, xmin, ymin, xmax, ymax\na.jpg, "cat, black", 2, 3, 12, 13\na.jpg, owl, 2, 3, 12, 13\n'
    write_text(tmp_path / "labels.csv", rows)
    assert boxes_of(tmp_path) == {"a.jpg": [((2, 3, 12, 13), "cat, black"), ((2, 3, 12, 13), "owl")]}


CVAT_BOX = '<box label="cat" xtl="2" ytl="3" xbr="12" ybr="13"/>'
HELD_OUT = {
    "csv": ("labels.csv", lambda names: "\n".join(f"{name},2,3,12,13,cat" for name in names) + "\n"),
    "cvat": ("annotations.xml", lambda names: cvat(*(cvat_image(name, CVAT_BOX) for name in names))),
    "labelstudio": ("a.json", lambda names: json.dumps([task(result(0, 0, 50, 50), image=name) for name in names])),
    "coco": (
        "annotations.json",
        lambda names: json.dumps(
            {
                "images": [
                    {"id": place, "file_name": name, "width": 40, "height": 20} for place, name in enumerate(names)
                ],
                "annotations": [
                    {"id": place, "image_id": place, "category_id": 1, "bbox": [2, 3, 10, 10]}
                    for place in range(len(names))
                ],
                "categories": [{"id": 1, "name": "cat"}],
            }
        ),
    ),
}


@pytest.mark.parametrize("kind", [*HELD_OUT, "voc", "labelme"])
@pytest.mark.parametrize("top", ["images/", ""])
def test_folders_of_images_are_the_splits_of_annotations_that_name_none(tmp_path, kind, top):
    """They were divided anew, so that half of the held-out images was trained on."""
    names = [f"{split}{number}.jpg" for split in ("train", "test") for number in range(4)]
    for name in names:
        write_image(tmp_path / f"{top}{name[:-5]}" / name)
        if kind == "voc":
            write_text(tmp_path / "annotations" / f"{name[:-4]}.xml", xml(xml_object(), filename=name))
        if kind == "labelme":
            write_text(tmp_path / "json" / f"{name[:-4]}.json", labelme(shape([[2, 3], [12, 13]]), image=name))
    if kind in HELD_OUT:
        file, make = HELD_OUT[kind]
        write_text(tmp_path / file, make(names))
    assert sorted(splits(tmp_path)) == ["test", "train"]
    assert default_split(tmp_path, "auto", "val") == "test"
    for split in ("train", "test"):
        found = {record.path for record in open_dataset(tmp_path, split).records}
        assert found == {str(tmp_path / f"{top}{split}" / name) for name in names if name.startswith(split)}


def test_a_folder_of_images_without_annotations_is_no_split(tmp_path):
    """As a contest's test images."""
    for name in ("train0.jpg", "train1.jpg", "test0.jpg"):
        write_image(tmp_path / name[:-5] / name)
    write_text(tmp_path / "labels.csv", "train0.jpg,2,3,12,13,cat\ntrain1.jpg,2,3,12,13,cat\n")
    assert splits(tmp_path) == ("train", "val", "all")


def test_folders_of_images_are_splits_also_where_the_images_are_links(tmp_path):
    rows = ""
    for split in ("train", "test"):
        for number in range(3):
            name = f"{split}{number}.jpg"
            (tmp_path / "set" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / split / name).symlink_to(write_image(tmp_path / "store" / name))
            rows += f"{name},2,3,12,13,cat\n"
    write_text(tmp_path / "set" / "labels.csv", rows)
    found = open_dataset(tmp_path / "set", "test", allow_outside=True)
    assert [record.image_id for record in found.records] == ["test/test0", "test/test1", "test/test2"]
