import hashlib
import logging

import pytest

from ssd.audit.splits import Reading, open_splits
from ssd.data.dataset import open_dataset, scan
from ssd.data.formats.recognition import recognise
from ssd.data.formats.registry import default_split
from ssd.data.shapes.dataset import shapes
from ssd.errors import AnnotationError, DatasetError, ImageDecodeError
from tests.data.made import coco_content, coco_folder, voc_folder, write_image, write_text, xml, xml_object


def test_the_format_is_recognised(tmp_path):
    assert recognise(voc_folder(tmp_path / "voc", {"a": xml(xml_object())})) == "voc"
    assert recognise(coco_folder(tmp_path / "coco", coco_content())) == "coco"
    write_text(tmp_path / "yolo" / "data.yaml", "names: [a]")
    assert recognise(tmp_path / "yolo") == "yolo"


def test_a_voc_folder_with_a_list_of_classes_is_voc(tmp_path):
    folder = voc_folder(tmp_path / "voc", {"a": xml(xml_object())})
    write_text(folder / "classes.txt", "cat\ndog\n")
    assert recognise(folder) == "voc"
    assert open_dataset(folder, "train").class_names == ("cat", "dog")
    flat = tmp_path / "flat"
    write_text(flat / "classes.txt", "cat\n")
    write_image(flat / "a.jpg")
    write_text(flat / "a.xml", xml(xml_object()))
    assert recognise(flat) == "voc"
    write_text(tmp_path / "yolo" / "classes.txt", "cat\n")
    write_image(tmp_path / "yolo" / "a.jpg")
    write_text(tmp_path / "yolo" / "a.txt", "0 0.5 0.5 0.5 0.5\n")
    assert recognise(tmp_path / "yolo") == "yolo"


def test_a_image_may_be_loaded_smaller_and_its_size_is_checked_all_the_same(tmp_path):
    folder = voc_folder(tmp_path / "voc", {"a": xml(xml_object())})
    (sample,) = (open_dataset(folder, "train").load(0, 4),)
    assert (sample.image.shape, sample.shrink) == ((5, 10, 3), 4)
    assert sample.boxes.tolist() == open_dataset(folder, "train").records[0].boxes.tolist()
    wrong = voc_folder(tmp_path / "wrong", {"a": xml(xml_object(), size=(39, 20))})  # 39 and 40 give 10 pixels both
    for shrink in (1, 4):
        with pytest.raises(AnnotationError, match="says 39x20, the upright image has 40x20"):
            open_dataset(wrong, "train").load(0, shrink)
    assert shapes("train", 1, 64).load(0, 4).shrink == 1


def test_a_folder_of_no_known_format_is_described(tmp_path):
    folder = write_text(tmp_path / "two" / "floors" / "up" / "notes.md", "").parent  # data sets are sought above, too
    with pytest.raises(DatasetError, match=r"there is: notes\.md\. Looked for VOC: Annotations"):
        recognise(folder)


def test_the_folder_below_is_suggested(tmp_path):
    inner = voc_folder(tmp_path / "VOC2007", {"a": xml(xml_object())})
    with pytest.raises(DatasetError) as caught:
        recognise(tmp_path)
    assert f"Did you mean {inner}?" in str(caught.value)


@pytest.mark.parametrize("inside", ["JPEGImages", "ImageSets/Main"])
def test_the_data_set_that_holds_the_folder_is_suggested(inside, tmp_path):
    folder = voc_folder(tmp_path / "VOC2007", {"a": xml(xml_object())})
    write_text(tmp_path / "other.yaml", "[not, a, data, set]")
    (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    with pytest.raises(DatasetError) as caught:
        recognise(folder / inside)
    assert f"Did you mean {folder}?" in str(caught.value)


def test_two_formats_at_once_need_a_choice(tmp_path):
    folder = coco_folder(tmp_path, coco_content())
    write_text(folder / "data.yaml", "names: [a]")
    with pytest.raises(DatasetError, match=r"coco and yolo at once\. Say which: data\.format=coco"):
        open_dataset(folder, "train")
    assert len(open_dataset(folder, "train", format="coco")) == 2


def test_missing_things_are_named(tmp_path):
    with pytest.raises(DatasetError, match="no such data folder"):
        open_dataset(tmp_path / "nowhere", "train")
    with pytest.raises(DatasetError, match="is a file, not a folder"):
        open_dataset(write_text(tmp_path / "x.txt", ""), "train")
    with pytest.raises(DatasetError, match="no data folder given"):
        open_dataset(None, "train")
    with pytest.raises(DatasetError, match=r"unknown format 'vcc'. Known: auto, voc"):
        open_dataset(tmp_path, "train", format="vcc")


def test_an_unknown_split_lists_the_known_ones(tmp_path):
    folder = voc_folder(tmp_path, {"a": xml(xml_object())}, split="val")
    with pytest.raises(DatasetError, match=r"no split 'vall'. There is: val. Did you mean 'val'?"):
        open_dataset(folder, "vall")
    with pytest.raises(DatasetError, match=r"no split '\.\./val'"):
        open_dataset(folder, "../val")


def test_an_empty_split_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="split 'train' has no images"):
        open_dataset(voc_folder(tmp_path, {}), "train", format="voc")


def test_a_split_whose_images_are_of_a_kind_that_is_not_read_says_so(tmp_path):
    for name in ("a", "b"):
        write_text(tmp_path / "train" / "images" / f"{name}.HEIC", "")
        write_text(tmp_path / "train" / "labels" / f"{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    write_text(tmp_path / "data.yaml", "train: train/images\nnames: [cat]\n")
    with pytest.raises(DatasetError, match=r"no images; there are 2 files of kinds that are not read; .*\. Convert to"):
        open_dataset(tmp_path, "train")
    opened = open_splits(tmp_path, Reading())
    assert {problem.kind for split in opened.splits for problem in split.problems} == {"unread_images"}


@pytest.mark.parametrize(
    ("there", "train", "val"),
    [
        (("train", "val", "trainval", "test"), "train", "val"),
        (("trainval", "test"), "trainval", "test"),
        (("train", "test"), "train", "test"),
        (("train", "valid"), "train", "valid"),
        (("train2014", "train2017", "val2017", "val2014"), "train2017", "val2017"),
    ],
)
def test_the_usual_splits_are_chosen(tmp_path, there, train, val):
    for split in there:
        voc_folder(tmp_path, {"a": xml(xml_object())}, split)
    assert default_split(tmp_path, "auto", "train") == train
    assert default_split(tmp_path, "auto", "val") == val


def test_a_single_training_split_is_divided(tmp_path):
    folder = voc_folder(tmp_path, {f"{n}": xml(xml_object()) for n in range(12)})
    names = default_split(folder, "auto", "train"), default_split(folder, "auto", "val")
    assert names == ("train-part", "val-part")
    train, val = (open_dataset(folder, name) for name in names)
    assert (len(train), len(val)) == (9, 3)
    assert len(open_dataset(folder, "train")) == 12


def test_without_a_usual_training_split_one_must_be_named(tmp_path):
    folder = voc_folder(tmp_path, {"a": xml(xml_object())}, "val")
    with pytest.raises(DatasetError, match=r"Name one with data.train=val; there is: val"):
        default_split(folder, "auto", "train")


def test_a_image_of_another_size_than_annotated_is_an_error(tmp_path):
    dataset = open_dataset(voc_folder(tmp_path, {"a": xml(xml_object(), size=(41, 20))}), "train")
    with pytest.raises(AnnotationError, match=r"a.jpg: the annotation says 41x20, the upright image has 40x20"):
        dataset.load(0)
    _, problems = scan(tmp_path, "train", check_images=True)
    assert [problem.kind for problem in problems] == ["size_differs"]


def test_annotation_before_exif_rotation_is_told(tmp_path):
    from PIL import Image

    folder = voc_folder(tmp_path, {"a": xml(xml_object(), size=(40, 20))})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(folder / "JPEGImages" / "a.jpg", exif=exif)
    with pytest.raises(AnnotationError, match="annotated before EXIF rotation"):
        open_dataset(folder, "train").load(0)


def test_a_damaged_image_is_found_by_the_scan(tmp_path):
    folder = voc_folder(tmp_path, {"a": xml(xml_object())})
    (folder / "JPEGImages" / "a.jpg").write_bytes(b"")
    with pytest.raises(ImageDecodeError, match="empty"):
        open_dataset(folder, "train").load(0)
    _, problems = scan(folder, "train", check_images=True)
    assert [(problem.path, problem.level) for problem in problems] == [("JPEGImages/a.jpg", "file")]


def test_dropping_and_cutting_are_logged_with_counts(tmp_path, caplog):
    objects = [xml_object(box=(9, 3, 9, 9)), xml_object(box=(9, 3, 90, 9)), xml_object(box=(9, 3, 80, 9))]
    folder = voc_folder(tmp_path, {"a": xml(*objects)})
    with caplog.at_level(logging.WARNING, "ssd.data"):
        dataset = open_dataset(folder, "train", bad_objects="drop")
    assert len(dataset.records[0].boxes) == 2
    assert "left out 1 bad object:" in caplog.text
    assert "clipped: 2, the first: Annotations/a.xml: object 2 (cat): box 8 2 89 8 was cut" in caplog.text


def test_reading_leaves_the_folder_as_it_was(tmp_path):
    def tree():
        paths = sorted(path for path in tmp_path.rglob("*"))
        return [(path, path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]

    voc_folder(tmp_path / "voc", {"a": xml(xml_object())})
    coco_folder(tmp_path / "coco", coco_content())
    write_image(tmp_path / "yolo" / "images" / "train" / "a.jpg")
    write_text(tmp_path / "yolo" / "data.yaml", "names: [a]\ntrain: images/train\n")
    before = tree()
    for name in ("voc", "coco", "yolo"):
        open_dataset(tmp_path / name, "train").load(0)
        scan(tmp_path / name, "train", check_images=True)
    assert tree() == before
