"""File names in two Unicode forms: annotations of one program, images as macOS names them."""

import json
import unicodedata

import pytest

from ssd.data.dataset import scan
from ssd.data.formats.recognition import recognise
from ssd.inference.bulk.coco_ids import ids_of_file
from tests.data.made import write_text, xml, xml_object
from tests.field.folders import BOX, ROW, coco, image

COMPOSED = [f"Käfer né{number}" for number in range(4)]
DECOMPOSED = [unicodedata.normalize("NFD", name) for name in COMPOSED]
FORMS = [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)]


def voc(folder, written):
    for name in written:
        write_text(folder / "Annotations" / f"{name}.xml", xml(xml_object(box=(3, 4, 13, 14)), filename="other.jpg"))


def voc_by_file_name(folder, written):
    for number, name in enumerate(written):
        text = xml(xml_object(box=(3, 4, 13, 14)), filename=f"{name}.jpg")
        write_text(folder / "Annotations" / f"{number}.xml", text)


def voc_list(folder, written):
    voc(folder, [unicodedata.normalize("NFD" if name in COMPOSED else "NFC", name) for name in written])
    write_text(folder / "ImageSets" / "Main" / "train.txt", "\n".join(written))


def as_coco(folder, written):
    write_text(folder / "annotations" / "instances_train.json", coco([f"{name}.jpg" for name in written]))


def coco_of_another_folder(folder, written):
    names = [f"C:\\mine\\{name}.jpg" for name in written]
    write_text(folder / "annotations" / "instances_train.json", coco(names))


def csv(folder, written):
    rows = "".join(f"images/{name}.jpg,40,20,cat,2,3,12,13\n" for name in written)
    write_text(folder / "train.csv", f"filename,width,height,class,xmin,ymin,xmax,ymax\n{rows}")


def labelme(folder, written):
    shape = {"label": "cat", "points": [[2, 3], [12, 13]], "shape_type": "rectangle"}
    for number, name in enumerate(written):
        content = {"shapes": [shape], "imagePath": f"../images/{name}.jpg", "imageWidth": 40, "imageHeight": 20}
        write_text(folder / "train" / f"{number}.json", json.dumps({"version": "5.0", **content}))


def yolo(folder, written):
    write_text(folder / "data.yaml", "names: [cat]\ntrain: images\n")
    for name in written:
        write_text(folder / "labels" / f"{name}.txt", ROW)


def yolo_list(folder, written):
    yolo(folder, DECOMPOSED)
    write_text(folder / "data.yaml", "names: [cat]\ntrain: train.txt\n")
    write_text(folder / "train.txt", "\n".join(f"images/{name}.jpg" for name in written))


LAYOUTS = [voc, voc_by_file_name, voc_list, as_coco, coco_of_another_folder, csv, labelme, yolo, yolo_list]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("written", "stored"), FORMS, ids=["stored-by-macos", "written-by-macos"])
def test_an_image_is_found_under_its_name_in_the_other_form(layout, written, stored, tmp_path):
    for number, name in enumerate(stored):
        image(tmp_path / "images" / f"{name}.jpg", number)
    layout(tmp_path, written)
    split = "all" if layout in (voc, voc_by_file_name) else "train"
    dataset, problems = scan(tmp_path, split, format=recognise(tmp_path))
    assert [problem for problem in problems if problem.kind != "moved"] == []
    assert [record.boxes.tolist() for record in dataset.records] == [[pytest.approx(BOX, abs=1e-4)]] * 4


def test_a_folder_of_data_yaml_is_found_too(tmp_path):
    write_text(tmp_path / "data.yaml", f"names: [cat]\ntrain: {COMPOSED[0]}/images\n")
    image(tmp_path / DECOMPOSED[0] / "images" / "a.jpg")
    write_text(tmp_path / DECOMPOSED[0] / "labels" / "a.txt", ROW)
    dataset, problems = scan(tmp_path, "train")
    assert (len(dataset), problems) == (1, [])


@pytest.mark.parametrize(("written", "stored"), FORMS)
def test_a_list_of_images_names_them_in_either_form(written, stored, tmp_path):
    for number, name in enumerate(stored):
        image(tmp_path / "images" / f"{name}.jpg", number)
    as_coco(tmp_path, stored)
    write_text(tmp_path / "few.txt", "\n".join(f"images/{name}.jpg" for name in written[:2]))
    dataset, _ = scan(tmp_path, "few.txt")
    assert [record.path for record in dataset.records] == [str(tmp_path / f"images/{name}.jpg") for name in stored[:2]]


def test_of_two_images_that_differ_in_the_form_alone_each_is_found_under_its_own(tmp_path):
    both = [COMPOSED[0], DECOMPOSED[0]]
    for number, name in enumerate(both):
        image(tmp_path / "images" / f"{name}.jpg", number)
    as_coco(tmp_path, both)
    dataset, problems = scan(tmp_path, "train")
    assert problems == []
    assert [record.path for record in dataset.records] == [str(tmp_path / f"images/{name}.jpg") for name in both]


@pytest.mark.parametrize("layout", [as_coco, csv])
def test_a_name_that_two_images_could_have_is_refused(layout, tmp_path):
    mixed = unicodedata.normalize("NFC", "ä") + unicodedata.normalize("NFD", "é")
    for number, form in enumerate(("NFC", "NFD")):
        image(tmp_path / "images" / f"{unicodedata.normalize(form, mixed)}.jpg", number)
    layout(tmp_path, [mixed])
    dataset, problems = scan(tmp_path, "train")
    assert ([problem.level for problem in problems], len(dataset)) == (["file"], 0)


def test_one_label_file_for_two_images_is_refused(tmp_path):
    for number, name in enumerate((COMPOSED[0], DECOMPOSED[0], "other")):
        image(tmp_path / "images" / f"{name}.jpg", number)
    yolo(tmp_path, [COMPOSED[0], "other"])
    dataset, problems = scan(tmp_path, "train")
    assert len(dataset) == 1
    assert ["shares its name" in problem.message for problem in problems] == [True, True]


def test_ids_of_coco_results_are_those_of_the_image_in_either_form(tmp_path):
    write_text(tmp_path / "ids.json", coco([f"{name}.jpg" for name in COMPOSED]))
    ids = ids_of_file(tmp_path / "ids.json", ["cat"])
    assert [ids.of_image({"path": f"photos/{name}.jpg"}) for name in DECOMPOSED] == [1, 2, 3, 4]
