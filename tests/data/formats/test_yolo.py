import pytest

from ssd.data.dataset import open_dataset, scan
from ssd.data.formats.registry import splits
from ssd.data.formats.yolo_labels import label_file
from ssd.errors import AnnotationError, DatasetError
from tests.data.made import write_image, write_text


def yolo_folder(root, rows="0 0.5 0.5 0.5 0.5\n", data="names: [cat, dog]\ntrain: images/train\nval: images/val\n"):
    for split in ("train", "val"):
        write_image(root / "images" / split / f"{split}.jpg")
        write_text(root / "labels" / split / f"{split}.txt", rows)
    if data:
        write_text(root / "data.yaml", data)
    return root


def test_fractions_become_pixels(tmp_path):
    dataset = open_dataset(yolo_folder(tmp_path, "1 0.5 0.5 0.5 0.5\n\n0 0.25 0.5 0.1 1.0\n"), "train")
    (record,) = dataset.records
    assert record.boxes.tolist() == [[10, 5, 30, 15], [8, 0, 12, 20]]
    assert record.labels.tolist() == [1, 0]
    assert (record.image_id, dataset.class_names) == ("train", ("cat", "dog"))


def test_a_polygon_becomes_its_box(tmp_path):
    (record,) = open_dataset(yolo_folder(tmp_path, "0 0.1 0.2 0.5 0.1 0.3 0.8\n"), "train").records
    assert record.boxes[0].tolist() == pytest.approx([4, 2, 20, 16])


def test_a_image_without_labels_has_no_objects(tmp_path):
    folder = yolo_folder(tmp_path)
    (folder / "labels" / "train" / "train.txt").unlink()
    assert open_dataset(folder, "train").load(0).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 0.5 0.5 0.5", "line 2: has 4 numbers"),
        ("0 0.5 0.5 0.5 0.5 0.9", "line 2: has 6 numbers"),
        ("0 0,5 0.5 0.5 0.5", "line 2: '0 0,5"),
        ("2 0.5 0.5 0.5 0.5", "line 2: class 2 is not one of 0 to 1"),
        ("-1 0.5 0.5 0.5 0.5", "class -1 is not"),
        ("0.5 0.5 0.5 0.5 0.5", "class 0.5 is not"),
        ("nan 0.5 0.5 0.5 0.5", "class nan is not"),
        ("0 nan 0.5 0.5 0.5", "is not finite"),
        ("0 0.1 0.2 nan 0.1 0.3 0.8", "is not finite"),
        ("0 0.5 0.5 0 0.5", "line 2 (cat): box 20 5 20 15 has no area"),
        ("0 20 10 8 8", "line 2 (cat): box 640 120 960 280 lies outside"),
    ],
)
def test_a_bad_row_is_named_and_may_be_dropped(tmp_path, row, message):
    folder = yolo_folder(tmp_path, f"1 0.5 0.5 0.5 0.5\n{row}\n")
    with pytest.raises(AnnotationError) as caught:
        open_dataset(folder, "train")
    assert message in str(caught.value)
    dataset = open_dataset(folder, "train", bad_objects="drop")
    assert (len(dataset.records[0].boxes), len(dataset.dropped)) == (1, 1)


@pytest.mark.parametrize(
    "data",
    [
        "names: {0: cat, 1: dog}\ntrain: images/train\n",
        "path: /another/machine\nnames: [cat, dog]\ntrain: images/train\n",
        "names: [cat, dog]\ntrain: ../images/train\n",  # Roboflow's one step too many
        "names: [cat, dog]\ntrain: [images/train]\n",
        "names: [cat, dog]\ntrain: train.txt\n",
    ],
)
def test_data_yaml_is_read_in_all_its_forms(tmp_path, data):
    folder = yolo_folder(tmp_path / "set", data=data)
    write_text(folder / "train.txt", "./images/train/train.jpg\n")
    dataset = open_dataset(folder, "train")
    assert dataset.class_names == ("cat", "dog")
    assert [len(record.boxes) for record in dataset.records] == [1]


def test_images_of_several_folders_may_share_a_name(tmp_path):
    write_text(tmp_path / "data.yaml", "names: [cat]\ntrain: [one/images, two/images]\n")
    for part in ("one", "two"):
        write_image(tmp_path / part / "images" / "x.jpg")
    assert [record.image_id for record in open_dataset(tmp_path, "train").records] == ["one/images/x", "two/images/x"]


def test_two_images_cannot_share_one_label_file(tmp_path):
    folder = yolo_folder(tmp_path)
    write_image(folder / "images" / "train" / "train.png")
    with pytest.raises(AnnotationError, match="shares its name"):
        open_dataset(folder, "train")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("train: images/train\n", "names is None"),
        ("names: {1: cat}\ntrain: images/train\n", "names is"),
        ("names: [cat, cat]\ntrain: images/train\n", "a class name comes twice"),
        ("names: [cat\n", "is not valid YAML"),
        ("- cat\n", "holds list"),
        ("names: [cat]\ntrain: nowhere\n", "names 'nowhere', which is not there"),
    ],
)
def test_a_bad_data_yaml_is_one_error(tmp_path, data, message):
    with pytest.raises(DatasetError, match=message):
        open_dataset(yolo_folder(tmp_path, data=data), "train", format="yolo")


def test_folders_alone_give_splits_and_classes_txt_the_names(tmp_path):
    folder = yolo_folder(tmp_path, data="")
    assert splits(folder) == ("train", "val")
    assert open_dataset(folder, "train").class_names == ("class_0",)
    assert open_dataset(folder, "train", classes=["cat"]).class_names == ("cat",)
    write_text(folder / "classes.txt", "cat\ndog\n")
    assert open_dataset(folder, "val").class_names == ("cat", "dog")


def test_a_flat_folder_is_divided(tmp_path):
    write_text(tmp_path / "classes.txt", "cat\n")
    for number in range(20):
        write_image(tmp_path / f"{number}.jpg")
        write_text(tmp_path / f"{number}.txt", "0 0.5 0.5 0.5 0.5\n")
    assert len(open_dataset(tmp_path, "train")) + len(open_dataset(tmp_path, "val")) == 20


def test_a_link_that_leads_nowhere_is_said_with_its_end(tmp_path):
    folder = yolo_folder(tmp_path, data="names: [cat]\ntrain: images/train\n")
    (folder / "images" / "train" / "gone.jpg").symlink_to("/nowhere/gone.jpg")
    with pytest.raises(AnnotationError, match=r"gone\.jpg: is a link to /nowhere/gone\.jpg, which is not there"):
        open_dataset(folder, "train")


def test_images_outside_are_refused_unless_allowed(tmp_path):
    folder = yolo_folder(tmp_path / "set", data="names: [cat]\ntrain: train.txt\n")
    write_image(tmp_path / "secret.jpg")
    write_text(folder / "train.txt", "../secret.jpg\n")
    with pytest.raises(AnnotationError, match=r"outside the data folder\. Move it .* data\.allow_outside=true"):
        open_dataset(folder, "train")
    assert len(open_dataset(folder, "train", allow_outside=True)) == 1


def test_a_damaged_image_is_listed(tmp_path):
    folder = yolo_folder(tmp_path)
    (folder / "images" / "train" / "train.jpg").write_bytes(b"<html>")
    _, problems = scan(folder, "train")
    assert [problem.level for problem in problems] == ["file"]


def test_labels_replace_the_last_images_of_the_path(tmp_path):
    assert label_file(tmp_path / "images" / "a" / "images" / "x.png") == tmp_path / "images" / "a" / "labels" / "x.txt"


@pytest.mark.parametrize(
    ("nc", "said"), [("2", []), ("02", []), ("null", []), ("3", ["nc"]), ("80", ["nc"]), ("1", ["nc"])]
)
def test_a_number_of_classes_that_is_not_that_of_the_names_is_said(tmp_path, nc, said):
    folder = yolo_folder(tmp_path, data=f"names: [cat, dog]\nnc: {nc}\ntrain: images/train\n")
    dataset, problems = scan(folder, "train")
    assert [problem.kind for problem in problems] == said
    assert dataset.class_names == ("cat", "dog")
    assert all(f"nc is {nc}, and 2 classes are named" in problem.message for problem in problems)
