import json

import pytest

from ssd.data.dataset import open_dataset, scan
from ssd.data.formats.coco import annotation_files
from ssd.data.formats.registry import splits
from ssd.errors import AnnotationError
from tests.data.made import coco_content, coco_folder, write_image, write_text


def change(kind, number, **changes):
    """The usual content with some keys of one entry changed, or removed where the value is None."""
    content = coco_content()
    entry = content[kind][number] | changes
    content[kind][number] = {key: value for key, value in entry.items() if value is not None}
    return content


def test_ids_with_gaps_become_labels_in_the_order_of_the_ids(tmp_path):
    dataset = open_dataset(coco_folder(tmp_path, coco_content()), "train")
    assert dataset.class_names == ("car", "toothbrush")
    assert dataset.category_ids == (3, 90)
    first, second = dataset.records
    assert (first.image_id, first.labels.tolist(), first.boxes.tolist()) == (7, [1], [[2, 3, 12, 13]])
    assert (second.image_id, second.labels.tolist(), second.crowd.tolist()) == (9, [0], [True])
    assert first.areas.tolist() == [60.5]


def test_missing_keys_are_filled_in(tmp_path):
    content = coco_content()
    content["annotations"][0] = {"image_id": 7, "category_id": 90, "bbox": [2, 3, 10, 10]}
    del content["images"][0]["width"]
    record = open_dataset(coco_folder(tmp_path, content), "train").records[0]
    assert record.areas.tolist() == [100]
    assert record.crowd.tolist() == [False]
    assert (record.width, record.height) == (40, 20)


@pytest.mark.parametrize("crowd", ["1", "true", True, 1])
def test_a_crowd_may_be_written_as_text(tmp_path, crowd):
    folder = coco_folder(tmp_path, change("annotations", 0, iscrowd=crowd))
    assert open_dataset(folder, "train").records[0].crowd.tolist() == [True]


def test_a_triangle_has_a_box(tmp_path):
    folder = coco_folder(tmp_path, change("annotations", 0, bbox=None, segmentation=[[2, 3, 12, 3, 7, 13]]))
    assert open_dataset(folder, "train").records[0].boxes.tolist() == [[2, 3, 12, 13]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (change("annotations", 1, id=1), "annotation 1: this annotation id is used more than once"),
        (change("images", 1, id=7), "image id 7 is used by a.jpg and b.jpg"),
        (change("categories", 1, id=90), "category id 90 is used by 'toothbrush' and 'car'"),
        (change("categories", 1, name="toothbrush"), "two categories have the name 'toothbrush'"),
        (change("annotations", 0, image_id=8), "annotation 1: belongs to image 8, which the file does not list"),
        (change("annotations", 0, image_id="7"), "annotation 1: belongs to image '7'"),
        (change("annotations", 0, id="one"), "annotation 1 has the id 'one', not a whole number"),
        (change("images", 0, id="7"), "image 1 has the id '7', not a whole number"),
        (change("categories", 0, id="90"), "category 1 has the id '90', not a whole number"),
        (change("images", 0, file_name=None), "image 7 has no file_name"),
        (change("images", 0, file_name="c.jpg"), "instances_train.json, c.jpg: no such image in"),
        (change("images", 0, file_name="../../s.jpg"), "instances_train.json, ../../s.jpg: no such image in"),
        (coco_content(images=[3]), "image 1 is int, not an object"),
        ([], "has no list 'images'"),
        ({"images": [], "annotations": []}, "has no list 'categories'"),
    ],
)
def test_what_is_wrong_with_the_file_cannot_be_dropped(tmp_path, content, message):
    with pytest.raises(AnnotationError) as caught:
        open_dataset(coco_folder(tmp_path / "set", content), "train", bad_objects="drop")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox": [2, 3, 0, 10]}, "annotation 1 (toothbrush): box 2 3 2 13 has no area"),
        ({"bbox": [2, 3, -4, 10]}, "box 2 3 -2 13 has its corners swapped"),
        ({"bbox": [float("nan"), 3, 4, 10]}, "is not finite"),
        ({"bbox": [2, 3, float("inf"), 10]}, "is not finite"),
        ({"bbox": [90, 3, 4, 10]}, "lies outside the image of 40x20"),
        ({"bbox": [2, 3, 4]}, "has bbox [2, 3, 4], not four numbers"),
        ({"bbox": ["2", 3, 4, 5]}, "not four numbers"),
        ({"bbox": None}, "has bbox None"),
        ({"category_id": 4}, "annotation 1: has category_id 4, which the file does not list"),
    ],
)
def test_a_bad_object_is_named_and_may_be_dropped(tmp_path, changes, message):
    folder = coco_folder(tmp_path, change("annotations", 0, **changes))
    with pytest.raises(AnnotationError) as caught:
        open_dataset(folder, "train")
    assert message in str(caught.value)
    assert len(open_dataset(folder, "train", bad_objects="drop").dropped) == 1


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00"])
def test_broken_json_is_one_error(tmp_path, text):
    folder = coco_folder(tmp_path, {})
    path = write_text(folder / "annotations" / "instances_train.json", text)
    with pytest.raises(AnnotationError, match=r"not valid JSON") as caught:
        open_dataset(folder, "train")
    assert str(path) in str(caught.value)


def test_ten_missing_images_are_named_and_the_rest_counted(tmp_path):
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 4, "height": 4} for n in range(13)]
    folder = coco_folder(tmp_path, coco_content(images=images, annotations=[]))
    with pytest.raises(AnnotationError, match="13 bad files") as caught:
        open_dataset(folder, "train")
    assert str(caught.value).count("no such image") == 10
    assert "... and 3 more" in str(caught.value)
    assert len(str(caught.value).split("\n  ")) == 12, "a line for each"
    assert str(caught.value).endswith(f"Correct or remove them. All of them: ssd check-data {folder}")


def test_a_name_adds_no_line_to_the_list(tmp_path):
    images = [{"id": 1, "file_name": "a\n  ... and 9 more.jpg", "width": 4, "height": 4}]
    folder = coco_folder(tmp_path, coco_content(images=images, annotations=[]))
    with pytest.raises(AnnotationError) as caught:
        open_dataset(folder, "train")
    assert len(str(caught.value).split("\n")) == 2


@pytest.mark.parametrize("name", ["\ud800.jpg", "images/\udfff.jpg"])
def test_a_name_with_half_a_surrogate_pair_is_a_missing_image_where_the_program_divides_too(tmp_path, name):
    """JSON allows it, and no file can have it."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 20} for n in (1, 2)]
    for entry in images:
        write_image(tmp_path / entry["file_name"])
    images.append({"id": 3, "file_name": name, "width": 40, "height": 20})
    write_text(tmp_path / "annotations.json", json.dumps(coco_content(images=images, annotations=[])))
    _, problems = scan(tmp_path, "all")
    assert [problem.level for problem in problems] == ["file"]
    assert "no such image" in str(problems[0])
    for split in ("train", "val"):
        scan(tmp_path, split)


def test_roboflow_root_category_is_no_class(tmp_path):
    content = coco_content()
    content["categories"] = [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 3, "name": "car", "supercategory": "things"},
        {"id": 90, "name": "toothbrush", "supercategory": "things"},
    ]
    for split in ("train", "valid"):
        write_text(tmp_path / split / "_annotations.coco.json", json.dumps(content))
        write_image(tmp_path / split / "a.jpg")
        write_image(tmp_path / split / "b.jpg")
    assert splits(tmp_path) == ("train", "valid")
    dataset = open_dataset(tmp_path, "valid")
    assert dataset.class_names == ("car", "toothbrush")
    assert dataset.category_ids == (3, 90)
    assert dataset.load(1).boxes.tolist() == [[0, 0, 40, 20]]


def test_a_class_that_is_its_own_supercategory_stays(tmp_path):
    content = coco_content(categories=[{"id": 3, "name": "car"}, {"id": 90, "name": "toothbrush"}])
    content["categories"].append({"id": 1, "name": "person", "supercategory": "person"})
    assert open_dataset(coco_folder(tmp_path, content), "train").class_names == ("person", "car", "toothbrush")


@pytest.mark.parametrize("place", ["train", "images/train", "images", ""])
def test_images_are_found_in_the_usual_places(tmp_path, place):
    write_text(tmp_path / "annotations" / "instances_train.json", json.dumps(coco_content()))
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / place / name)
    assert open_dataset(tmp_path, "train").load(1).image.shape == (20, 40, 3)


def test_a_single_file_without_splits_is_divided(tmp_path):
    write_text(tmp_path / "annotations.json", json.dumps(coco_content()))
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / name)
    parts = [open_dataset(tmp_path, split) for split in ("train", "val", "all")]
    assert [len(part) for part in parts] == [1, 1, 2]
    assert sum(len(record.boxes) for part in parts[:2] for record in part.records) == 2


def test_captions_are_no_split(tmp_path):
    folder = coco_folder(tmp_path, coco_content())
    write_text(folder / "annotations" / "captions_train.json", "{}")
    assert splits(folder) == ("train",)


@pytest.mark.parametrize("place", ["annotations", ""])
def test_boxes_of_people_with_keypoints_are_read_where_there_are_no_others(tmp_path, place):
    folder = coco_folder(tmp_path, coco_content(), "train2017")
    instances = folder / "annotations" / "instances_train2017.json"
    people = write_text(folder / place / "person_keypoints_train2017.json", instances.read_text())
    write_text(folder / place / "stuff_train2017.json", instances.read_text())
    assert annotation_files(folder) == [instances]
    instances.unlink()
    assert annotation_files(folder) == [people]
    assert splits(folder) == ("train2017",)
    assert [record.boxes.tolist() for record in open_dataset(folder, "train2017").records] == [
        [[2, 3, 12, 13]],
        [[0, 0, 40, 20]],
    ]


def test_tiny_coco_opens_whole(tiny_coco):
    dataset, problems = scan(tiny_coco, "val2017", check_images=True)
    assert problems == []
    assert len(dataset) == 50
    assert len(dataset.class_names) == 80
    assert dataset.category_ids[-1] == 90
    assert sum(len(record.boxes) for record in dataset.records) == 382
    assert sum(record.crowd.sum() for record in dataset.records) == 5


def two_cameras(folder, *places):
    """A file with cam1/1.jpg and cam2/1.jpg, and images at these places."""
    content = coco_content()
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "cam1/1.jpg", "cam2/1.jpg"
    write_text(folder / "annotations" / "instances_train.json", json.dumps(content))
    for place in places:
        write_image(folder / "images" / place)
    return folder


@pytest.mark.parametrize("place", ["1.jpg", "cam2/1.jpg"])
def test_two_entries_that_are_found_as_one_image_are_said(tmp_path, place):
    """Files of one name in a single folder, or one that is missing."""
    with pytest.raises(AnnotationError, match=rf"cam2/1.jpg and cam1/1.jpg are both found as images/{place}; keep one"):
        open_dataset(two_cameras(tmp_path, place), "train")


def test_images_of_one_name_in_two_folders_are_two(tmp_path):
    records = open_dataset(two_cameras(tmp_path, "cam1/1.jpg", "cam2/1.jpg"), "train").records
    assert [record.path.removeprefix(f"{tmp_path}/") for record in records] == [
        "images/cam1/1.jpg",
        "images/cam2/1.jpg",
    ]


@pytest.mark.parametrize("written", ["images\\{}", "C:\\Users\\me\\images\\{}", "../../media/upload/1/{}", "{}"])
@pytest.mark.parametrize("place", ["images", "images/batch1"])
def test_copies_stay_on_one_side_however_the_file_writes_their_names(tmp_path, written, place):
    names = [f"{letter}{number}.jpg" for letter in "ab" for number in range(12)]
    for name in names:
        write_image(tmp_path / place / name, 40 + int(name[1:-4]))
    images = [
        {"id": key, "file_name": written.format(name), "width": 40 + int(name[1:-4]), "height": 20}
        for key, name in enumerate(names)
    ]
    rows = [{"id": key, "image_id": key, "category_id": 3, "bbox": [2, 3, 9, 9]} for key in range(len(names))]
    content = coco_content() | {"images": images, "annotations": rows}
    write_text(tmp_path / "result.json", json.dumps(content))
    train, val = (open_dataset(tmp_path, split) for split in ("train", "val"))
    widths = [{record.width for record in part.records} for part in (train, val)]
    assert len(train) + len(val) == 24
    assert not widths[0] & widths[1]


def test_a_root_that_has_the_name_of_its_class_is_that_class(tmp_path):
    """Roboflow's, of a project that is called as its only class."""
    categories = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "cat"},
    ]
    content = coco_content(categories=categories)
    for annotation in content["annotations"]:
        annotation["category_id"] = 1
    dataset = open_dataset(coco_folder(tmp_path, content), "train")
    assert (dataset.class_names, dataset.category_ids) == (("cat",), (1,))
