import re

import pytest

from ssd.data.dataset import open_dataset, scan
from ssd.data.formats.registry import splits
from ssd.data.formats.unused import find_unused
from ssd.errors import AnnotationError, DatasetError
from tests.data.made import voc_folder, write_image, write_text, xml, xml_object
from tests.work import counted


def boxes_of(folder, **options):
    return open_dataset(folder, "train", **options).records[0].boxes.tolist()


def test_offset_1_moves_all_four_corners(tmp_path):
    assert boxes_of(voc_folder(tmp_path, {"a": xml(xml_object(box=(2, 3, 12, 13)))})) == [[1, 2, 11, 12]]


def test_offset_0_takes_the_numbers_as_they_are(tmp_path):
    assert boxes_of(voc_folder(tmp_path, {"a": xml(xml_object())}), voc_offset="0") == [[2, 3, 12, 13]]


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text.replace("<annotation>", '<annotation xmlns="http://example.org/voc">'),
        lambda text: re.sub(r"</?\w+", lambda tag: tag[0].upper(), text),
        lambda text: re.sub(r"</?\w+", lambda tag: tag[0].title(), text).replace("Annotation", "annotation"),
    ],
)
def test_a_namespace_and_capitals_in_tags_change_nothing(tmp_path, written):
    folder = voc_folder(tmp_path, {"a": written(xml(xml_object()))})
    assert boxes_of(folder) == [[1, 2, 11, 12]]


@pytest.mark.parametrize("classes", [[], ["cat", "cat"]])
def test_a_list_of_classes_names_each_once(tmp_path, classes):
    folder = voc_folder(tmp_path, {"a": xml(xml_object())})
    with pytest.raises(DatasetError, match=r"data.classes: \[.*\] is no list of classes, each named once"):
        open_dataset(folder, "train", classes=classes)


def test_a_file_that_counts_from_0_is_cut_at_0(tmp_path):
    assert boxes_of(voc_folder(tmp_path, {"a": xml(xml_object(box=(0, 0, 12, 13)))})) == [[0, 0, 11, 12]]


@pytest.mark.parametrize(("other", "expected"), [((0, 3, 5, 5), [2, 3, 12, 13]), ((1, 3, 5, 5), [1, 2, 11, 12])])
def test_offset_auto_looks_at_the_whole_folder(tmp_path, other, expected):
    folder = voc_folder(tmp_path, {"a": xml(xml_object())})
    voc_folder(tmp_path, {"b": xml(xml_object(box=other))}, split="val")
    assert boxes_of(folder, voc_offset="auto") == [expected]


@pytest.mark.parametrize(("text", "value"), [("5.7", 5.7), (" 5 ", 5.0), ("1e0", 1.0)])
def test_coordinates_may_be_any_number(tmp_path, text, value):
    folder = voc_folder(tmp_path, {"a": xml(xml_object(box=(text, 3, 12, 13)))})
    assert boxes_of(folder, voc_offset="0")[0][0] == pytest.approx(value)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (xml_object(box=("12,5", 3, 12, 13)), "object 1 (cat): <xmin> is '12,5', not a number"),
        (xml_object(box=("nan", 3, 12, 13)), "object 1 (cat): box nan 2 11 12 is not finite"),
        (xml_object(box=(2, 3, "1e400", 13)), "object 1 (cat): box 1 2 inf 12 is not finite"),
        (xml_object(box=(9, 3, 9, 13)), "object 1 (cat): box 8 2 8 12 has no area"),
        (xml_object(box=(9, 3, 4, 13)), "object 1 (cat): box 8 2 3 12 has its corners swapped"),
        ("<object><name>cat</name></object>", "object 1 (cat): has no <bndbox>"),
        ("<object><bndbox/></object>", "object 1: has no <name>"),
        ("<object><name>cat</name><polygon/></object>", "object 1 (cat): has no <bndbox>"),
        ("<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>", "object 1 (cat): has no <ymin>"),
    ],
)
def test_a_bad_object_is_named_and_may_be_dropped(tmp_path, part, message):
    folder = voc_folder(tmp_path, {"a": xml(part, xml_object())})
    with pytest.raises(AnnotationError, match="bad_objects=drop") as caught:
        open_dataset(folder, "train")
    assert f"Annotations/a.xml: {message}" in str(caught.value)
    dataset = open_dataset(folder, "train", bad_objects="drop")
    assert len(dataset.records[0].boxes) == 1
    assert len(dataset.dropped) == 1


def test_missing_difficult_is_0_and_missing_size_comes_from_the_image(tmp_path):
    folder = voc_folder(tmp_path, {"a": xml(xml_object(), xml_object(extra="<difficult>1</difficult>"), size=None)})
    (record,) = open_dataset(folder, "train").records
    assert record.difficult.tolist() == [False, True]
    assert (record.width, record.height) == (40, 20)


@pytest.mark.parametrize("size", [(0, 0), (10**20, 20)])
def test_a_size_that_cannot_be_comes_from_the_image(tmp_path, size):
    (record,) = open_dataset(voc_folder(tmp_path, {"a": xml(xml_object(), size=size)}), "train").records
    assert (record.width, record.height) == (40, 20)


BOMB = '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><annotation>&y;</annotation>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'<!DOCTYPE annotation SYSTEM "http://127.0.0.1:9/x.dtd"><annotation/>', "refused for safety"),
        (b"<!DOCTYPE annotation><annotation/>", "refused for safety"),
        (BOMB.encode(), "refused for safety"),
        (b"<annotation><name>a & b</name></annotation>", "not valid XML"),
        (b"", "not valid XML"),
        ('<?xml version="1.0" encoding="GBK"?><annotation>\u732b</annotation>'.encode("gbk"), "encoding"),
        (b"<annotation>" + b" " * (10 * 2**20) + b"</annotation>", "more than 10,485,760"),
    ],
    ids=["outside reference", "document type", "entities", "raw ampersand", "empty", "encoding", "too large"],
)
def test_a_file_that_cannot_be_trusted_or_read_is_named_at_once(tmp_path, content, message):
    folder = voc_folder(tmp_path, {"a": xml(xml_object()), "b": ""})
    (folder / "Annotations" / "b.xml").write_bytes(content)
    with counted() as work, pytest.raises(AnnotationError, match=message) as caught:
        open_dataset(folder, "train", bad_objects="drop")
    assert work.calls < 100_000
    assert "Annotations/b.xml" in str(caught.value)


def test_a_byte_order_mark_is_fine(tmp_path):
    folder = voc_folder(tmp_path, {"a": xml(xml_object())})
    path = folder / "Annotations" / "a.xml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(boxes_of(folder)) == 1


@pytest.mark.parametrize("name", ["Bild ä 日本.JPG", "x.jpeg", "x.PNG", "two words.jpg"])
def test_images_are_found_under_any_name_and_suffix(tmp_path, name):
    picture = write_image(tmp_path / "JPEGImages" / name)
    write_text(tmp_path / "Annotations" / f"{picture.stem}.xml", xml(xml_object()))
    write_text(tmp_path / "ImageSets" / "Main" / "train.txt", picture.stem + "\n")
    dataset = open_dataset(tmp_path, "train")
    assert dataset.records[0].path == str(picture)
    assert dataset.load(0).image.shape == (20, 40, 3)


def test_a_image_outside_the_folder_is_refused_unless_allowed(tmp_path):
    folder = voc_folder(tmp_path / "set", {"a": xml(xml_object(), filename="../../secret.jpg")})
    (folder / "JPEGImages" / "a.jpg").rename(tmp_path / "secret.jpg")
    with pytest.raises(AnnotationError, match=r"'../../secret.jpg' outside the data folder"):
        open_dataset(folder, "train")
    assert len(open_dataset(folder, "train", allow_outside=True)) == 1


def test_a_list_cannot_reach_annotations_outside(tmp_path):
    folder = voc_folder(tmp_path / "set", {"a": xml(xml_object())})
    write_text(tmp_path / "b.xml", xml(xml_object()))
    write_text(folder / "ImageSets" / "Main" / "train.txt", "a\n../../b\n")
    with pytest.raises(AnnotationError, match="outside the data folder"):
        open_dataset(folder, "train")


def test_missing_images_annotations_and_double_names_are_listed_together(tmp_path):
    folder = voc_folder(tmp_path, {"a": xml(xml_object()), "b": xml(xml_object())})
    (folder / "JPEGImages" / "b.jpg").unlink()
    write_text(folder / "ImageSets" / "Main" / "train.txt", "a\na\nb\nc\n")
    _, problems = scan(folder, "train")
    assert [(problem.path, problem.kind) for problem in problems] == [
        ("ImageSets/Main/train.txt", "listed_twice"),
        ("Annotations/b.xml", "unreadable"),
        ("Annotations/c.xml", "unreadable"),
    ]


def test_class_names_come_from_every_split(tmp_path):
    folder = voc_folder(tmp_path, {"a": xml(xml_object("dog"))})
    voc_folder(tmp_path, {"b": xml(xml_object("cat"))}, split="val")
    assert open_dataset(folder, "train").class_names == ("cat", "dog")
    assert open_dataset(folder, "val").class_names == ("cat", "dog")


def test_a_list_of_classes_in_the_folder_gives_their_order(tmp_path):
    folder = voc_folder(tmp_path, {"a": xml(xml_object("dog"))})
    write_text(folder / "labels.txt", "dog\ncat\n")
    assert open_dataset(folder, "train").class_names == ("dog", "cat")


def test_unknown_classes_are_listed_with_counts_and_the_nearest_known(tmp_path):
    objects = [xml_object("Dog "), xml_object("perosn"), xml_object("perosn")]
    folder = voc_folder(tmp_path, {"a": xml(*objects)})
    with pytest.raises(AnnotationError) as caught:
        open_dataset(folder, "train", classes=["dog", "person"])
    assert "'perosn' x2 (nearest known: 'person'), 'Dog' x1 (nearest known: 'dog')" in str(caught.value)


def test_lists_of_one_class_are_no_splits(tmp_path):
    folder = voc_folder(tmp_path, {"a": xml(xml_object())})
    write_text(folder / "ImageSets" / "Main" / "cat_train.txt", "a  1\nb -1\n")
    assert splits(folder) == ("train",)


def test_a_flat_folder_is_divided_the_same_way_every_time(tmp_path):
    for number in range(30):
        write_image(tmp_path / f"{number:02}.jpg")
        write_text(tmp_path / f"{number:02}.xml", xml(xml_object()))
    write_image(tmp_path / "unlabelled.jpg")
    train, val = (open_dataset(tmp_path, split) for split in ("train", "val"))
    ids = [{record.image_id for record in dataset.records} for dataset in (train, val)]
    assert ids[0].isdisjoint(ids[1])
    assert len(ids[0] | ids[1]) == len(open_dataset(tmp_path, "all")) == 30
    assert 1 <= len(val) <= 8
    _, problems = scan(tmp_path, "train")
    assert [str(problem) for problem in problems] == ["unlabelled.jpg: has no XML file and is left out of 'train'"]


def test_a_folder_for_each_split_is_read(tmp_path):
    for split in ("train", "valid"):
        write_image(tmp_path / split / f"{split}.jpg")
        write_text(tmp_path / split / f"{split}.xml", xml(xml_object(split)))
    assert splits(tmp_path) == ("train", "valid")
    dataset = open_dataset(tmp_path, "valid")
    assert [record.image_id for record in dataset.records] == ["valid"]
    assert dataset.class_names == ("train", "valid")


LISTED = [  # folders of annotations and of images, lists, and what a line has before the name
    (("train", "val"), ("train", "val"), ("train", "val"), ""),
    (("train", "val"), ("train", "val"), ("train", "val"), "{}/"),
    (("train", "val"), ("train", "val"), ("train", "val"), "JPEGImages/{}/"),
    (("Train", "Validation"), ("Train", "Validation"), ("Train", "Validation"), "{}/"),
    (("train", "validation"), ("train", "valid"), ("train", "val"), ""),
    (("train2017", "val2017"), ("train2017", "val2017"), ("train", "val"), ""),
]


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("annotations", "images", "lists", "before"), LISTED)
def test_a_list_means_the_folder_of_its_split(tmp_path, annotations, images, lists, before, same):
    for place, (inner, pictures, name) in enumerate(zip(annotations, images, lists, strict=True)):
        stem = "0" if same else f"{place}"
        image = write_image(tmp_path / "JPEGImages" / pictures / f"{stem}.jpg", 40 + place)
        text = xml(xml_object(box=(2 + place, 3, 12, 13)), size=(40 + place, 20), filename=image.name)
        write_text(tmp_path / "Annotations" / inner / f"{stem}.xml", text)
        write_text(tmp_path / "ImageSets" / "Main" / f"{name}.txt", f"{before.format(inner)}{stem}\n")
    for place, name in enumerate(lists):
        (record,) = open_dataset(tmp_path, name).records
        assert record.path == str(tmp_path / "JPEGImages" / images[place] / f"{0 if same else place}.jpg")
        assert record.boxes.tolist() == [[1 + place, 2, 11, 12]]
    assert find_unused(tmp_path) == []


def two_parts(root):
    """Images of both splits, in folders that each hold a pair; `a.jpg` is in both, `b.jpg` and `c.jpg` in one."""
    for split, names in (("train", "ab"), ("val", "ac")):
        for name in names:
            write_image(root / split / "images" / f"{name}.jpg")
            write_text(root / split / "xml" / f"{name}.xml", xml(xml_object()))


def test_a_list_of_several_folders_takes_each_name_from_the_only_one_that_has_it(tmp_path):
    two_parts(tmp_path)
    write_text(tmp_path / "ImageSets" / "Main" / "trainval.txt", "b\nc\nval/a\n")
    records = open_dataset(tmp_path, "trainval").records
    assert [record.path.removeprefix(f"{tmp_path}/") for record in records] == [
        "train/images/b.jpg",
        "val/images/c.jpg",
        "val/images/a.jpg",
    ]
    write_text(tmp_path / "mine.txt", "val/images/a.jpg\ntrain/images/b.jpg\n")
    assert len(open_dataset(tmp_path, "mine.txt")) == 2


def test_a_name_that_two_folders_have_is_asked_about_and_one_that_none_has_is_no_file(tmp_path):
    two_parts(tmp_path)
    write_text(tmp_path / "ImageSets" / "Main" / "trainval.txt", "a\nd\n")
    with pytest.raises(AnnotationError) as caught:
        open_dataset(tmp_path, "trainval")
    assert "a.xml: is in train and val. Write the folder before the name, such as train/a" in str(caught.value)
    assert "d.xml: no such file" in str(caught.value)


def test_a_folder_without_objects_has_no_classes(tmp_path):
    with pytest.raises(DatasetError, match="no object is annotated"):
        open_dataset(voc_folder(tmp_path, {"a": xml()}), "train")


def test_the_two_objects_without_area_among_bccds_thousands_are_left_out(bccd, caplog):
    with caplog.at_level("WARNING", "ssd.data"):
        dataset = open_dataset(bccd, "trainval")
    assert "left out 2 bad objects" in caplog.text
    assert "BloodImage_00338.xml: object 13 (RBC)" in caplog.text
    assert "BloodImage_00343.xml: object 4 (RBC)" in caplog.text
    assert len(dataset) == 292
    assert len(dataset.dropped) == 2
    assert dataset.class_names == ("Platelets", "RBC", "WBC")
    sample = dataset.load(0)
    assert sample.image.shape == (480, 640, 3)
    assert min(record.boxes.min() for record in dataset.records) >= 0


def test_two_annotations_that_are_found_as_one_image_are_said(tmp_path):
    for camera in ("cam1", "cam2"):
        write_text(tmp_path / "Annotations" / camera / "1.xml", xml(xml_object()))
    write_image(tmp_path / "JPEGImages" / "cam2" / "1.jpg")
    with pytest.raises(
        AnnotationError, match=r"cam2/1.xml and Annotations/cam1/1.xml are both found as JPEGImages/cam2"
    ):
        open_dataset(tmp_path, "all")


@pytest.mark.parametrize(("written", "found"), [("a/0.jpg", "a"), ("b\\0.jpg", "b"), ("/data/x/b/0.jpg", None)])
def test_the_written_name_tells_images_of_one_name_apart(tmp_path, written, found):
    for name in ("a", "b"):
        write_image(tmp_path / "images" / name / "0.jpg")
    write_text(tmp_path / "Annotations" / "0.xml", xml(xml_object(), filename=written))
    if found is None:
        with pytest.raises(AnnotationError, match="two images are called so"):
            open_dataset(tmp_path, "all")
    else:
        (record,) = open_dataset(tmp_path, "all").records
        assert record.path == str(tmp_path / "images" / found / "0.jpg")


def test_copies_that_only_their_annotations_name_stay_on_one_side(tmp_path):
    for number in range(24):
        write_image(tmp_path / "JPEGImages" / f"{'ab'[number % 2]}{number // 2}.jpg", 40 + number // 2)
        text = xml(xml_object(), size=(40 + number // 2, 20), filename=f"{'ab'[number % 2]}{number // 2}.jpg")
        write_text(tmp_path / "Annotations" / f"{number:05}.xml", text)
    train, val = (open_dataset(tmp_path, split) for split in ("train", "val"))
    widths = [{record.width for record in part.records} for part in (train, val)]
    assert len(train) + len(val) == 24
    assert not widths[0] & widths[1]


def test_splits_may_have_folders_below_them(tmp_path):
    for split, count in (("train", 6), ("val", 4)):
        for number in range(count):
            name = f"{split}/cam{number % 2}/{split}{number}"
            write_image(tmp_path / "JPEGImages" / f"{name}.jpg")
            write_text(tmp_path / "Annotations" / f"{name}.xml", xml(xml_object()))
    assert splits(tmp_path) == ("train", "val")
    assert [len(open_dataset(tmp_path, split)) for split in ("train", "val")] == [6, 4]
