from pathlib import Path

import pytest

from ssd.data.dataset import open_dataset, scan
from ssd.data.formats.registry import splits
from ssd.data.formats.yolo import splits as splits_of
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


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ("train2017: images/train\nval2017: images/val\n", ("train2017", "val2017")),
        ("train: images/train\nvalidation: images/val\n", ("train", "validation")),
        ("trainval: images/train\ntest: images/val\n", ("trainval", "test")),
        ("Training: images/train\ndev: images/val\n", ("Training", "dev")),
        ("train: images/train\nval: images/val\ntest: null\n", ("train", "val")),
        ("train: images/train\ntest:\nval: ''\n", ("train",)),
        ("train: [images/train]\nval: images/val\nnight: images/night\n", ("train", "val", "night")),
        ("train: images/train\nlearning_rate: 0.1\npath: .\ndownload: get.sh\n", ("train",)),
    ],
)
def test_every_key_of_data_yaml_that_names_a_split_counts(tmp_path, places, found):
    write_image(tmp_path / "images" / "night" / "x.jpg")
    assert splits_of(yolo_folder(tmp_path, data=f"names: [cat]\n{places}")) == found


@pytest.mark.parametrize("data", ["names: [cat]\n", "names: [cat]\nval: true\nvalidation: 0.2\n"])
def test_folders_count_where_data_yaml_names_no_split(tmp_path, data):
    assert splits_of(yolo_folder(tmp_path / "set", data=data)) == ("train", "val")
    for kind in ("day", "night"):
        write_image(tmp_path / "kinds" / "images" / kind / f"{kind}.jpg")
    write_text(tmp_path / "kinds" / "data.yaml", data)
    assert splits_of(tmp_path / "kinds") == ()


def test_lists_of_images_may_have_the_name_of_any_split(tmp_path):
    for name in ("training", "validation2"):
        write_image(tmp_path / "images" / f"{name}.jpg")
        write_text(tmp_path / "labels" / f"{name}.txt", "0 0.5 0.5 0.5 0.5\n")
        write_text(tmp_path / f"{name}.txt", f"images/{name}.jpg\n")
    assert splits_of(tmp_path) == ("training", "validation2")


@pytest.mark.parametrize("name", ["config.yaml", "data.yaml"])
def test_a_yaml_of_settings_describes_no_data(tmp_path, name):
    folder = yolo_folder(tmp_path, data="")
    write_text(folder / "classes.txt", "cat\n")
    write_text(folder / name, "eval: true\nvalidation: 0.2\nepochs: 5\n")
    assert splits_of(folder) == ("train", "val")
    assert open_dataset(folder, "train").class_names == ("cat",)


@pytest.mark.parametrize(
    "train", ["train.txt", "[images/train, images/train/deep]", "[images/train, train.txt]", "[train.txt, list.txt]"]
)
def test_an_image_that_is_listed_twice_counts_once(tmp_path, train):
    folder = yolo_folder(tmp_path, data=f"names: [cat]\ntrain: {train}\n")
    write_image(folder / "images" / "train" / "deep" / "b.jpg")
    lines = "images/train/train.jpg\n./images/train/train.jpg\nimages/train/deep/b.jpg\nimages/train/deep/b.jpg\n"
    write_text(folder / "train.txt", lines)
    write_text(folder / "list.txt", f"{folder}/images/train/train.jpg\n")
    dataset, problems = scan(folder, "train")
    assert len(dataset) == 2
    (note,) = [problem for problem in problems if problem.kind == "listed_twice"]
    assert note.level == "note"
    assert "more than once, the first: images/train/" in note.message
    assert len(open_dataset(folder, "train")) == 2


def test_a_list_without_repeats_has_no_note(tmp_path):
    folder = yolo_folder(tmp_path, data="names: [cat]\ntrain: train.txt\n")
    write_text(folder / "train.txt", "images/train/train.jpg\n")
    assert scan(folder, "train")[1] == []


def rows_by_case(folder, **rows):
    """Images and label files whose names differ in case alone; the system must tell them apart."""
    for stem, row in rows.items():
        write_image(folder / f"{stem}.png")
        if row:
            write_text(folder / f"{stem}.txt", row)
    if len(list(folder.glob("*.png"))) < len(rows):
        pytest.skip("the file system takes both names for one")


@pytest.mark.parametrize("places", [("images", "labels"), ("Images", "Labels"), ("all", "all")])
def test_names_that_differ_in_case_have_label_files_of_their_own(tmp_path, places):
    images, labels = places
    write_text(tmp_path / "data.yaml", f"names: [cat, dog]\ntrain: {images}\n")
    rows_by_case(tmp_path / images, A="", a="")
    for stem, row in {"A": "0 0.25 0.25 0.1 0.1\n", "a": "1 0.75 0.75 0.1 0.1\n"}.items():
        write_text(tmp_path / labels / f"{stem}.txt", row)
    found = {record.image_id: record.labels.tolist() for record in open_dataset(tmp_path, "train").records}
    assert found == {"A": [0], "a": [1]}


def test_a_label_file_is_not_taken_for_two_images_that_differ_in_case(tmp_path):
    write_text(tmp_path / "data.yaml", "names: [cat]\ntrain: images\n")
    rows_by_case(tmp_path / "images", A="", a="0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(AnnotationError, match="shares its name, and so its labels"):
        open_dataset(tmp_path, "train")


def test_a_label_file_in_another_case_is_that_of_the_only_image(tmp_path):
    write_text(tmp_path / "data.yaml", "names: [cat]\ntrain: images\n")
    write_image(tmp_path / "images" / "A.png")
    write_text(tmp_path / "labels" / "a.TXT", "0 0.5 0.5 0.1 0.1\n")
    assert [len(record.boxes) for record in open_dataset(tmp_path, "train").records] == [1]


def test_images_of_one_name_are_said_where_the_program_divides_too(tmp_path):
    for name in ("0.jpg", "0.png", *(f"{number}.jpg" for number in range(1, 12))):
        write_image(tmp_path / "images" / name)
        write_text(tmp_path / "labels" / f"{Path(name).stem}.txt", "0 0.5 0.5 0.5 0.5\n")
    write_text(tmp_path / "classes.txt", "cat\n")
    with pytest.raises(AnnotationError, match=r"images/0.jpg: shares its name, and so its labels"):
        open_dataset(tmp_path, "all")


@pytest.mark.parametrize(
    "images",
    [
        ("images/0.jpg", "images/1.jpg", "images/more/2.jpg"),
        ("images/a/0.jpg", "images/b/0.jpg", "images/b/1.jpg"),
        ("a/images/0.jpg", "b/images/0.jpg", "b/images/1.jpg"),
    ],
)
def test_folders_that_are_no_splits_are_one_set(tmp_path, images):
    for name in images:
        write_image(tmp_path / name)
        place = Path(name.replace("images", "labels"))
        write_text(tmp_path / place.with_suffix(".txt"), "0 0.5 0.5 0.5 0.5\n")
    write_image(tmp_path / "b" / "previews" / "0.jpg")  # in no folder of images
    write_text(tmp_path / "classes.txt", "cat\n")
    assert splits(tmp_path) == ("train", "val", "all")
    records = open_dataset(tmp_path, "all").records
    assert sorted(record.path for record in records) == sorted(str(tmp_path / name) for name in images)
    assert all(len(record.boxes) == 1 for record in records)
    named = "more" if "images/more/2.jpg" in images else "b"
    assert len(open_dataset(tmp_path, named)) == (1 if named == "more" else 2)  # each can be read by itself


SPLIT_LAYOUTS = [
    ("images/{split}/{camera}/{name}.jpg", "labels/{split}/{camera}/{name}.txt"),
    ("{split}/{camera}/{name}.jpg", "{split}/{camera}/{name}.txt"),
]


@pytest.mark.parametrize(("image", "label"), SPLIT_LAYOUTS)
def test_splits_may_have_folders_below_them(tmp_path, image, label):
    for split, count in (("train", 6), ("val", 4)):
        for number in range(count):
            place = {"split": split, "camera": f"cam{number % 2}", "name": f"{split}{number}"}
            write_image(tmp_path / image.format(**place))
            write_text(tmp_path / label.format(**place), "0 0.5 0.5 0.5 0.5\n")
    write_text(tmp_path / "classes.txt", "cat\n")
    assert splits(tmp_path) == ("train", "val")
    assert [len(open_dataset(tmp_path, split)) for split in ("train", "val")] == [6, 4]


def test_images_of_another_place_beside_the_data_set_are_not_read(tmp_path):
    for number in range(12):
        write_image(tmp_path / "dataset" / "images" / f"{number}.jpg")
        write_text(tmp_path / "dataset" / "labels" / f"{number}.txt", "0 0.5 0.5 0.5 0.5\n")
    write_image(tmp_path / "pics" / "preview.jpg")
    write_text(tmp_path / "classes.txt", "cat\n")
    assert len(open_dataset(tmp_path, "all")) == 12


def test_a_single_folder_of_images_gives_no_part_of_their_names(tmp_path):
    """The division goes by these names, and weights of earlier versions were trained by it."""
    for number in range(3):
        write_image(tmp_path / "images" / "default" / f"{number}.jpg")
        write_text(tmp_path / "labels" / "default" / f"{number}.txt", "0 0.5 0.5 0.5 0.5\n")
    write_text(tmp_path / "classes.txt", "cat\n")
    assert [record.image_id for record in open_dataset(tmp_path, "all").records] == ["0", "1", "2"]


@pytest.mark.parametrize("folders", [("cam1", "cam2"), ("train", "val")])
def test_a_label_file_that_may_be_of_several_images_is_that_of_none(tmp_path, folders):
    for folder in folders:
        for number in range(4):
            write_image(tmp_path / "images" / folder / f"{number}.jpg")
    for number in range(4):
        write_text(tmp_path / "labels" / f"{number}.txt", "0 0.5 0.5 0.5 0.5\n")
    write_text(tmp_path / "classes.txt", "cat\n")
    with pytest.raises(AnnotationError, match="shares its name, and so its labels"):
        open_dataset(tmp_path, "train")


def test_flat_labels_of_images_in_folders_are_found(tmp_path):
    for folder in ("train", "val"):
        write_image(tmp_path / "images" / folder / f"{folder}.jpg")
        write_text(tmp_path / "labels" / f"{folder}.txt", "0 0.5 0.5 0.5 0.5\n")
    write_text(tmp_path / "classes.txt", "cat\n")
    assert [len(open_dataset(tmp_path, split).records[0].boxes) for split in ("train", "val")] == [1, 1]


def test_a_list_may_be_long(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / f"{split}-images" / f"{split}.jpg")
        write_text(tmp_path / f"{split}-images" / f"{split}.txt", "0 0.5 0.5 0.5 0.5\n")
        line = "./" * 200 + f"{split}-images/{split}.jpg\n"
        write_text(tmp_path / f"{split}.txt", line * (12 * 2**20 // len(line)))
    write_text(tmp_path / "classes.txt", "cat\n")
    assert splits(tmp_path) == ("train", "val")
    assert len(open_dataset(tmp_path, "train")) == 1


def two_lists(root, train, val):
    folder = yolo_folder(root, rows="1 0.5 0.5 0.5 0.5\n", data="")
    for split, names in (("train", train), ("val", val)):
        write_text(folder / "labels" / split / "classes.txt", "".join(f"{name}\n" for name in names))
    return folder


def test_lists_of_classes_beside_the_labels_must_agree(tmp_path):
    """labelImg writes one into each folder; the first that was found counted for the labels of all."""
    same = two_lists(tmp_path / "same", ["cat", "dog"], ["cat", "dog", "owl"])
    assert open_dataset(same, "val").class_names == ("cat", "dog", "owl")
    swapped = two_lists(tmp_path / "swapped", ["cat", "dog"], ["dog", "cat"])
    with pytest.raises(DatasetError, match=r"train/classes\.txt: numbers the classes otherwise than labels/val/"):
        open_dataset(swapped, "val")
    write_text(swapped / "classes.txt", "cat\ndog\n")
    assert open_dataset(swapped, "val").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("dog\nfish, big\ncat\n", ("dog", "fish, big", "cat")),
        ("dog, fish,cat\n", ("dog", "fish", "cat")),
        ("dog,\nfish,\ncat\n\n", ("dog", "fish", "cat")),
    ],
)
def test_commas_divide_a_list_of_one_line_alone(tmp_path, text, names):
    folder = yolo_folder(tmp_path, rows="2 0.5 0.5 0.5 0.5\n", data="")
    write_text(folder / "classes.txt", text)
    assert open_dataset(folder, "train").class_names == names


def test_an_empty_line_among_numbered_classes_is_refused(tmp_path):
    folder = yolo_folder(tmp_path, data="")
    write_text(folder / "classes.txt", "dog\n\ncat\n")
    with pytest.raises(DatasetError, match=r"classes\.txt: line 2 of the class names is empty"):
        open_dataset(folder, "train")


def test_an_image_without_a_readable_size_can_be_passed_over(tmp_path, caplog):
    folder = yolo_folder(tmp_path)
    (folder / "images" / "train" / "cut.jpg").write_bytes(b"")
    with pytest.raises(AnnotationError, match=r"cut\.jpg.*Or pass over a few.*data\.bad_images=skip"):
        open_dataset(folder, "train")
    assert len(open_dataset(folder, "train", bad_images="skip")) == 1
    assert "left out 1 image that cannot be decoded" in caplog.text
    (folder / "images" / "train" / "too.jpg").write_bytes(b"")
    with pytest.raises(AnnotationError, match="2 bad files"):
        open_dataset(folder, "train", bad_images="skip")
