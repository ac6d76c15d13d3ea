"""What a new user met in an hour with folders made for it: read rightly, or answered with what works."""

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from pycocotools import mask as mask_tools

from ssd.commands.check_data import main
from ssd.commands.detect import main as detect
from ssd.data.dataset import open_dataset, scan
from ssd.data.formats import other_tools
from ssd.data.formats.other_tools import name_tool
from ssd.data.formats.recognition import recognise
from ssd.data.formats.registry import default_split, splits
from ssd.errors import AnnotationError, ArgumentError, ConfigError, DatasetError
from ssd.experiment.config_file import load
from ssd.inference.bulk.sources import find_sources
from tests.commands.small_detector import save_small_weights
from tests.data.made import write_text, xml, xml_object
from tests.field.folders import BOX, ROW, coco, coco_images, image, voc_pair, yolo_pair

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"


def boxes(folder, split="all", **options):
    """Every image's file name and its boxes."""
    return {Path(record.path).name: record.boxes.tolist() for record in open_dataset(folder, split, **options).records}


def outline(polygons, **changes):
    return {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": polygons} | changes


# COCO with outlines alone

OUTLINES = {
    "no bbox": outline([[2, 3, 12, 3, 12, 13, 2, 13]]),
    "bbox is empty": outline([[2, 3, 12, 13, 7, 5]], bbox=[]),
    "bbox is null": outline([[2, 3, 12, 13, 7, 5]], bbox=None),
    "several parts": outline([[2, 3, 4, 5, 3, 4], [12, 13, 10, 11, 9, 12]]),
}


@pytest.mark.parametrize("name", list(OUTLINES))
def test_the_box_of_an_annotation_without_bbox_is_around_its_polygons(tmp_path, name):
    write_text(tmp_path / "my-project.json", coco(coco_images(tmp_path, 1), annotations=[OUTLINES[name]]))
    dataset, problems = scan(tmp_path, "all")
    assert dataset.records[0].boxes.tolist() == [BOX]
    assert [(problem.kind, problem.level) for problem in problems] == [("no_bbox", "note")]
    assert "1 annotations have no bbox" in problems[0].message


MASK = {"size": [20, 40], "counts": [43, *[10, 10] * 9, 10, 567]}  # ten rows from the fourth on, of columns 2 to 11


@pytest.mark.parametrize("compressed", [False, True])
def test_the_box_of_an_annotation_without_bbox_is_around_its_mask(tmp_path, compressed):
    mask = mask_tools.frPyObjects(MASK, 20, 40) if compressed else MASK
    text = {"size": mask["size"], "counts": mask["counts"].decode() if compressed else mask["counts"]}
    write_text(tmp_path / "a.json", coco(coco_images(tmp_path, 1), annotations=[outline(text)]))
    dataset, problems = scan(tmp_path, "all")
    assert dataset.records[0].boxes.tolist() == [BOX]
    assert [(problem.kind, problem.level) for problem in problems] == [("no_bbox", "note")]


@pytest.mark.parametrize("segmentation", [[], [[2, 3]], [[2, 3, 12, 13, 7]], {"counts": [1], "size": [20, 40]}, [2, 3]])
def test_an_annotation_without_bbox_and_polygon_stops(tmp_path, segmentation):
    write_text(tmp_path / "a.json", coco(coco_images(tmp_path, 1), annotations=[outline(segmentation)]))
    assert [(problem.kind, problem.level) for problem in scan(tmp_path, "all")[1]] == [("no_box", "object")]


def test_absolute_paths_of_another_machine_in_one_flat_folder(tmp_path):
    names = coco_images(tmp_path, 12)
    write_text(tmp_path / "labels_my-project.json", coco([f"/home/anna/Desktop/{name}" for name in names]))
    assert boxes(tmp_path) == {name: [BOX] for name in names}


# XML beside images, sorted by date


@pytest.mark.parametrize("places", [("2024/04/01", "2024/04/02", "2024/05/01"), ("berlin/cam 1", "paris/cam[2]", "x")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_xml_beside_images_some_folders_down_is_read_from_the_top(tmp_path, places, encoding):
    for number, place in enumerate(places):
        image(tmp_path / place / f"IMG_{number}.JPG", number)
        text = xml(xml_object(box=(3, 4, 13, 14)), filename=f"IMG_{number}.JPG")
        (tmp_path / place / f"IMG_{number}.xml").write_bytes(text.encode(encoding))
    assert recognise(tmp_path) == "voc"
    assert boxes(tmp_path) == {f"IMG_{number}.JPG": [BOX] for number in range(3)}


def test_a_folder_of_several_data_sets_is_none_itself(tmp_path):
    for name in ("a", "b"):
        voc_pair(tmp_path / "sets" / name / "Annotations", tmp_path / "sets" / name / "JPEGImages", 2)
    with pytest.raises(DatasetError, match=r"Did you mean .*/sets/a\? \(beside it, each a data set of its own: b\)"):
        recognise(tmp_path)


def test_stray_xml_without_images_makes_no_voc_folder(tmp_path):
    yolo_pair(tmp_path / "labels", tmp_path / "images")
    write_text(tmp_path / "project" / "build" / "pom.xml", "<project/>")
    assert recognise(tmp_path) == "yolo"


# Names of splits


@pytest.mark.parametrize(("train", "val"), [("Training", "Testing"), ("TRAIN", "Validation"), ("training", "val")])
def test_splits_are_known_by_any_usual_name(tmp_path, train, val):
    for name in (train, val):
        voc_pair(tmp_path / name / "Labels", tmp_path / name / "Images", 3, suffix=".JPEG")
    assert splits(tmp_path) == tuple(sorted((train, val)))
    assert [default_split(tmp_path, "auto", which) for which in ("train", "val")] == [train, val]
    assert boxes(tmp_path, train) == {f"im{number}.JPEG": [BOX] for number in range(3)}


def test_labels_beside_images_in_splits_in_any_case(tmp_path):
    for name in ("Train", "Testing"):
        yolo_pair(tmp_path / name, tmp_path / name, 3)
    write_text(tmp_path / "classes.txt", "cat\n")
    assert splits(tmp_path) == ("Testing", "Train")
    assert boxes(tmp_path, "Train") == {f"im{number}.jpg": [pytest.approx(BOX, abs=1e-4)] for number in range(3)}


@pytest.mark.parametrize(("images", "labels"), [("{}_images", "{}_labels"), ("img {}", "txt-labels-{}")])
def test_yolo_in_folders_named_after_split_and_part(tmp_path, images, labels):
    for name in ("train", "val"):
        yolo_pair(tmp_path / labels.format(name), tmp_path / images.format(name), 3)
    write_text(tmp_path / "classes.txt", "cat\n")
    assert recognise(tmp_path) == "yolo"
    assert splits(tmp_path) == ("train", "val")
    for name in ("train", "val"):
        assert boxes(tmp_path, name) == {f"im{number}.jpg": [pytest.approx(BOX, abs=1e-4)] for number in range(3)}


def test_voc_in_folders_named_after_split_and_part_keeps_its_test_images_apart(tmp_path):
    for name, count in (("train", 3), ("test", 2)):
        voc_pair(tmp_path / f"{name}_xml", tmp_path / f"{name}_img", count)
    assert splits(tmp_path) == ("test", "train")
    assert [default_split(tmp_path, "auto", which) for which in ("train", "val")] == ["train", "test"]
    assert boxes(tmp_path, "test") == {"im0.jpg": [BOX], "im1.jpg": [BOX]}


def test_coco_json_of_any_name_in_each_split(tmp_path):
    for name in ("train", "Val"):
        write_text(tmp_path / name / f"{name}_cells.json", coco(coco_images(tmp_path / name / "imgs", 2)))
    assert splits(tmp_path) == ("Val", "train")
    assert boxes(tmp_path, "Val") == {"im0.jpg": [BOX], "im1.jpg": [BOX]}


# Labels in a folder with more in its name, lists of images, other scripts, line ends of Windows


@pytest.mark.parametrize("labels", ["labels_yolo", "YOLO labels", "labels-txt", "my_annotations"])
def test_a_folder_with_labels_in_its_name_is_looked_into(tmp_path, labels):
    for number in range(12):
        name = f"图片 {number}😀"
        image(tmp_path / "imgs" / f"{name}.jpg", number)
        write_text(tmp_path / labels / f"{name}.txt", ROW.replace("\n", "\r\n"))
    for split, numbers in (("train", range(9)), ("val", range(9, 12))):
        lines = [f"imgs/图片 {number}😀.jpg" for number in numbers]
        write_text(tmp_path / f"{split}.txt", "\r\n".join(lines) + "\r\n")
    write_text(tmp_path / "classes.names", "血小板🩸\r\n")
    assert recognise(tmp_path) == "yolo"
    dataset, problems = scan(tmp_path, "train")
    assert (dataset.class_names, len(dataset), problems) == (("血小板🩸",), 9, [])
    assert [record.boxes.tolist() for record in dataset.records] == [[pytest.approx(BOX, abs=1e-4)]] * 9
    assert len(boxes(tmp_path, "val")) == 3


def test_of_two_such_folders_none_is_taken(tmp_path):
    for name in ("labels_a", "labels_b"):
        yolo_pair(tmp_path / name, tmp_path / "images", 3)
    with pytest.raises(DatasetError, match="there is: images, labels_a, labels_b"):
        recognise(tmp_path)


def test_what_macos_leaves_is_no_data_set(tmp_path):
    yolo_pair(tmp_path / "set" / "train" / "labels", tmp_path / "set" / "train" / "images")
    write_text(tmp_path / "__MACOSX" / "set" / "train" / "labels" / "im0.txt", ROW)
    write_text(tmp_path / "set" / ".DS_Store", "Bud1")
    with pytest.raises(DatasetError) as caught:
        recognise(tmp_path)
    assert caught.value.remedy == f"Did you mean {tmp_path / 'set'}? Pass {tmp_path / 'set'}"


# What is advised works when it is typed


def test_check_data_takes_folder_and_keys_as_train_does(tmp_path, capsys):
    folder = tmp_path / "wrap" / "my set=1"
    voc_pair(folder / "Annotations", folder / "JPEGImages")
    assert main([str(tmp_path / "wrap"), "--quiet"]) == 2
    advice = shlex.split(capsys.readouterr().err.split("Pass ")[1])
    assert main([*advice, "--quiet"]) == 0
    assert main([*advice, "--quiet", "data.bad_objects=drop", "model.input_size=160"]) == 0
    assert main([str(folder), "model.input_size=160", "--quiet"]) == 0
    assert "SSD300 fine" not in capsys.readouterr().out.split("verdict")[-1]
    assert main([str(folder), str(tmp_path), "--quiet"]) == 2
    assert "more than one folder. Name one." in capsys.readouterr().err


# Formats that are not read

FLAT_KITTI = "RBC 0.0 0 0.0 12 13 22 33 0 0 0 0 0 0 0"
KITTI = "Car 0.00 0 -1.57 2.00 3.00 12.00 13.00 1.5 1.6 3.9 -2.1 1.6 8.4 -1.59"
OTHERS = {
    "KITTI": ("training/label_2/000000.txt", KITTI),
    "the OIDv4 toolkit": ("OID/Dataset/train/Playing card/Label/a.txt", "Playing card 2.0 3.0 12.0 13.0"),
    "DOTA (rotated boxes)": ("labelTxt/P0001.txt", "imagesource:GoogleEarth\ngsd:0.1\n2 3 12 3 12 13 2 13 ship 0"),
    "VisDrone": ("annotations/0.txt", "684,8,273,116,0,0,0,0\n406,119,265,70,1,4,0,1,"),
    "MOTChallenge": ("gt/gt.txt", "1,1,912,484,97,109,1,1,1\n2,-1,912,484,97,109,0.9,-1,-1,-1"),
    "keras-yolo3": ("train.txt", "images/a b.jpg 2,3,12,13,0 4,5,6,7,1"),
    "Hugging Face": ("data/train/metadata.jsonl", '{"file_name": "a.jpg", "objects": {"bbox": [], "categories": []}}'),
    "TensorFlow (TFRecord)": ("a/b/c/train.record", "\x00"),
}  # fmt: skip


@pytest.mark.parametrize("tool", list(OTHERS))
def test_text_formats_are_named_wherever_they_lie(tmp_path, tool):
    name, text = OTHERS[tool]
    image(tmp_path / "pictures" / "a.jpg")
    write_text(tmp_path / name, text + "\n")
    with pytest.raises(DatasetError) as caught:
        recognise(tmp_path)
    assert f"holds {name}, which is {tool}'s own format" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("cat 0.175 0.4 0.25 0.5", "which is YOLO with names for numbers. Write each class as its number"),
        ("red cat 0.175 0.4 0.25 1", "which is YOLO with names for numbers. Write each class as its number"),
        ("0,0.175,0.4,0.25,0.5", "which is YOLO with commas. Write spaces between the numbers."),
        ("0; 0.175; .4; 0.25; 0.5", "which is YOLO with commas. Write spaces between the numbers."),
    ],
)
def test_yolo_rows_with_a_detail_of_their_own_are_named(tmp_path, row, said):
    image(tmp_path / "images" / "im0.jpg")
    write_text(tmp_path / "labels" / "im0.txt", f"{row}\n{row}\n")
    with pytest.raises(DatasetError) as caught:
        recognise(tmp_path)
    assert f"holds labels/im0.txt, {said}" in str(caught.value)


def test_kitti_without_its_third_dimension_is_no_yolo(tmp_path):
    write_text(tmp_path / "label_2" / "0.txt", FLAT_KITTI + "\n")
    with pytest.raises(DatasetError, match="which is KITTI's own format"):
        recognise(tmp_path)


def test_a_score_after_the_box_is_named(tmp_path):
    yolo_pair(tmp_path / "labels", tmp_path / "images", 1)
    write_text(tmp_path / "labels" / "im0.txt", ROW.replace("\n", " 0.98\n"))
    (problem,) = [problem for problem in scan(tmp_path, "all")[1] if problem.kind == "no_box"]
    assert "looks like a score of predictions" in problem.message


def test_images_alone_and_archives_are_said(tmp_path):
    image(tmp_path / "DCIM" / "100APPLE" / "a.JPG")
    write_text(tmp_path / "README.md", "holiday")
    with pytest.raises(DatasetError, match=r"holds 1 images and no annotations\. Draw boxes"):
        recognise(tmp_path)
    archive = write_text(tmp_path / "set.zip", "PK")
    with pytest.raises(DatasetError, match=r"is an archive, not a folder\. Unpack it"):
        recognise(archive)
    with pytest.raises(DatasetError, match=r"holds set\.zip, which is an archive\. Unpack it"):
        recognise(tmp_path)


def test_the_advice_for_boxes_of_the_stored_image_makes_them_right(tmp_path):
    """Removing the tag, as exiftool does, gives the image for which the boxes were drawn."""
    path = tmp_path / "JPEGImages" / "a.jpg"
    path.parent.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    text = xml(xml_object(box=(3, 4, 13, 14)), filename="a.jpg", size=(40, 20))
    write_text(tmp_path / "Annotations" / "a.xml", text)
    with pytest.raises(AnnotationError, match="exiftool -Orientation= IMAGES"):
        open_dataset(tmp_path, "all").load(0)
    Image.new("RGB", (40, 20)).save(path)
    assert open_dataset(tmp_path, "all").load(0).image.shape[:2] == (20, 40)
    assert boxes(tmp_path) == {"a.jpg": [BOX]}


@pytest.mark.parametrize("text", ["cat\ndog\n", ROW, "images/a.jpg\n", "see chapter 1 2 3 4\nand more\n", ""])
def test_other_text_is_no_tools_format(tmp_path, text):
    write_text(tmp_path / "some.txt", text)
    assert name_tool(tmp_path, deep=True) is None


def recipe(folder, line, monkeypatch):
    """Run the recipe's script in a folder, with the one line for its format."""
    section = RECIPES.read_text().split("## Boxes in a table or in text files")[1]
    code = re.search(r"```python\n(.*?)```", section, re.S)[1]
    chosen = next(found for found in re.findall(r"^(?:# )?(splits = .*)$", code, re.M) if line in found)
    code = re.sub(r"^(# )?splits = .*\n", "", code, flags=re.M)
    monkeypatch.chdir(folder)
    exec(code.replace("classes = sorted", f"{chosen}\nclasses = sorted", 1), {})


def test_the_recipe_reads_tables(tmp_path, monkeypatch):
    for split in ("train", "test"):
        image(tmp_path / "images" / split / f"{split}.jpg")
        rows = f"filename,width,height,class,xmin,ymin,xmax,ymax\n{split}.jpg,40,20,{split} cat,2,3,12,13\n"
        write_text(tmp_path / f"{split}_labels.csv", rows)
    recipe(tmp_path, "table", monkeypatch)
    assert (boxes(tmp_path, "train"), boxes(tmp_path, "test")) == ({"train.jpg": [BOX]}, {"test.jpg": [BOX]})
    assert open_dataset(tmp_path, "test").class_names == ("test cat", "train cat")


def test_the_recipe_joins_an_image_of_several_classes(tmp_path, monkeypatch):
    for name, row in (("King", "King 2.0 3.0 12.0 13.0"), ("Card queen", "Card queen 4.0 5.0 14.0 15.0")):
        image(tmp_path / "train" / name / "a.jpg")
        write_text(tmp_path / "train" / name / "Label" / "a.txt", row + "\n")
    recipe(tmp_path, "oidv4", monkeypatch)
    assert boxes(tmp_path, "train") == {"a.jpg": [[4, 5, 14, 15], BOX]}
    assert open_dataset(tmp_path, "train").class_names == ("Card queen", "King")


def test_the_recipe_reads_kitti(tmp_path, monkeypatch):
    image(tmp_path / "training" / "image_2" / "000000.png")
    write_text(tmp_path / "training" / "label_2" / "000000.txt", KITTI + "\n")
    recipe(tmp_path, "kitti", monkeypatch)
    assert json.loads((tmp_path / "annotations" / "instances_all.json").read_text())["categories"][0]["name"] == "Car"
    assert boxes(tmp_path) == {"000000.png": [BOX]}


def test_the_recipe_reads_hugging_faces_folders(tmp_path, monkeypatch):
    image(tmp_path / "train" / "a.jpg")
    row = {"file_name": "a.jpg", "objects": {"bbox": [[2, 3, 10, 10]], "categories": [4]}}
    write_text(tmp_path / "train" / "metadata.jsonl", json.dumps(row) + "\n")
    recipe(tmp_path, "hugging_face", monkeypatch)
    assert boxes(tmp_path, "train") == {"a.jpg": [BOX]}
    assert open_dataset(tmp_path, "train").class_names == ("4",)


BDD_BOX = {"category": "car", "box2d": {"x1": 2, "y1": 3, "x2": 12, "y2": 13}}
CORNERS = [[2, 3], [12, 3], [12, 13]]
FOREIGN = {  # the line of the recipe: files, the place of the image, and the split
    "bdd100k([path])": (
        {"labels/bdd100k_labels_images_train.json": [{"name": "a.jpg", "labels": [BDD_BOX, {"category": "lane"}]}]},
        "images/100k/train/a.jpg",
        "train",
    ),
    'path.glob("*.json")': (
        {"labels/100k/val/a.json": {"name": "a", "frames": [{"objects": [BDD_BOX]}]}},
        "images/100k/val/a.jpg",
        "val",
    ),
    "cityscapes(": (
        {
            "gtFine/val/ulm/u_1_gtFine_polygons.json": {
                "imgHeight": 20,
                "imgWidth": 40,
                "objects": [{"label": "car", "polygon": CORNERS}, {"label": "road", "polygon": CORNERS}],
            }
        },
        "leftImg8bit/val/ulm/u_1_leftImg8bit.png",
        "val",
    ),
    "supervisely(": (
        {
            "ds/ann/a.jpg.json": {
                "description": "",
                "tags": [],
                "size": {"height": 20, "width": 40},
                "objects": [{"classTitle": "car", "points": {"exterior": CORNERS[::2]}}],
            }
        },
        "ds/img/a.jpg",
        "all",  # one file whose name tells no split
    ),
    "wider_face(": (
        {
            "wider_face_split/wider_face_train_bbx_gt.txt": (
                "0--Parade/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n0--Parade/a.jpg\n1\n2 3 10 10 0 0 0 0 0 0 \n"
            )
        },
        "WIDER_train/images/0--Parade/a.jpg",
        "train",
    ),
    "column(": (
        {"train.csv": 'image_id,width,height,bbox,source\na,40,20,"[2, 3, 10, 10]",x\n'},
        "train/a.jpg",
        "train",
    ),
    "dota(": (
        {"train/labelTxt/a.txt": "imagesource:x\ngsd:0.1\n2.0 3.0 12.0 3.0 12.0 13.0 2.0 13.0 small-vehicle 0\n"},
        "train/images/a.png",
        "train",
    ),
    "visdrone(": (
        {"VisDrone2019-DET-train/annotations/a.txt": "2,3,10,10,1,4,0,0\n0,0,5,5,0,0,0,0\n"},
        "VisDrone2019-DET-train/images/a.jpg",
        "train",
    ),
    "mot(": (
        {"train/MOT17-02/gt/gt.txt": "1,1,2,3,10,10,1,1,0.9\n1,2,0,0,5,5,0,7,1\n"},
        "train/MOT17-02/img1/000001.jpg",
        "all",
    ),
    "keras_yolo3(": ({"train.txt": "images/my a.jpg 2,3,12,13,0\n"}, "images/my a.jpg", "train"),
}


@pytest.mark.parametrize(("line", "files", "place", "split"), [(line, *rest) for line, rest in FOREIGN.items()])
def test_the_recipe_reads_data_sets_with_a_format_of_their_own(tmp_path, monkeypatch, line, files, place, split):
    image(tmp_path / place)
    for name, content in files.items():
        write_text(tmp_path / name, content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DatasetError, match=r"which is .*\. Write it as COCO with the script in docs/recipes\.md"):
        recognise(tmp_path)
    recipe(tmp_path, line, monkeypatch)
    assert boxes(tmp_path, split) == {Path(place).name: [BOX]}


def test_every_format_that_is_sent_to_the_recipe_has_a_reader_there():
    section = RECIPES.read_text().split("## Boxes in a table or in text files")[1]
    readers = {name.replace("_", "") for name in re.findall(r"^def (\w+)\(", section, re.M)}
    names = {"the OIDv4 toolkit": "oidv4", "DOTA (rotated boxes)": "dota", "MOTChallenge": "mot"}
    tools = [tool for _, tool in (*other_tools._ROWS, *other_tools._KEYS) if tool.remedy == other_tools.CONVERT]
    wanted = {re.sub(r"\W", "", names.get(tool.name, tool.name)).lower() for tool in tools}
    assert len(tools) >= 9
    assert wanted <= readers


def test_the_recipe_stops_where_it_finds_nothing(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="no boxes were found"):
        recipe(tmp_path, "table", monkeypatch)
    assert not list(tmp_path.iterdir())


def test_sku_110ks_rows_have_the_size_of_the_image(tmp_path):
    image(tmp_path / "images" / "a.jpg")
    write_text(tmp_path / "annotations" / "annotations_train.csv", "a.jpg,2,3,12,13,object,40,20\n")
    assert boxes(tmp_path, "train") == {"a.jpg": [BOX]}


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_files_of_windows_are_read(tmp_path, encoding):
    image(tmp_path / "images" / "im0.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "im0.txt").write_bytes(ROW.replace("\n", "\r\n").encode(encoding))
    (tmp_path / "classes.txt").write_bytes("größe\r\n红细胞\r\n".encode(encoding))
    assert open_dataset(tmp_path, "all").class_names == ("größe", "红细胞")
    assert boxes(tmp_path) == {"im0.jpg": [pytest.approx(BOX, abs=1e-4)]}


def test_other_encodings_are_answered_with_how_to_save(tmp_path):
    yolo_pair(tmp_path / "yolo" / "labels", tmp_path / "yolo" / "images", 1)
    (tmp_path / "yolo" / "classes.txt").write_bytes("红细胞\n".encode("gbk"))
    with pytest.raises(
        AnnotationError, match=r"classes\.txt: is not UTF-8 text .*\. Save it as UTF-8 in a text editor\."
    ):
        open_dataset(tmp_path / "yolo", "all")
    image(tmp_path / "voc" / "JPEGImages" / "a.jpg")
    (tmp_path / "voc" / "Annotations").mkdir()
    text = xml(xml_object("größe", box=(3, 4, 13, 14)), filename="a.jpg")
    (tmp_path / "voc" / "Annotations" / "a.xml").write_bytes(text.encode("cp1252"))
    with pytest.raises(AnnotationError, match=r"is not valid XML .*\. Save it as UTF-8 in a text editor"):
        open_dataset(tmp_path / "voc", "all")


def test_what_is_wrong_in_data_yaml_is_answered_with_what_to_write(tmp_path):
    yolo_pair(tmp_path / "labels" / "train", tmp_path / "images" / "train", 8)
    file = write_text(tmp_path / "data.yaml", "train: images/train\nval: images/val\nnames: cat, dog\n")
    with pytest.raises(DatasetError, match=r"names is 'cat, dog'\. .*: names: \[cat, dog\]\."):
        open_dataset(tmp_path, "train")
    write_text(file, "train: images/train\nval: images/val\nnames: [cat, dog]\n")
    with pytest.raises(DatasetError, match=r"or delete its line: a single split is divided\."):
        open_dataset(tmp_path, "val")
    write_text(file, "train: images/train\nnames: [cat, dog]\n")
    parts = [set(boxes(tmp_path, default_split(tmp_path, "auto", which))) for which in ("train", "val")]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 8


# A key without its group, photographs in many folders


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("epochs=1", "'train.epochs'"),
        ("train.lr=0.1", "'optim.lr'"),
        ("model.batch_size=2", "'train.batch_size'"),
        ("width=0.5", "'model.width'"),
        ("train.epoch=1", "'train.epochs'"),
        ("batch=2", "'train.batch_size'"),
        ("weight_decy=0", "'optim.weight_decay'"),
    ],
)
def test_a_key_under_another_group_is_answered_with_its_own(override, meant):
    with pytest.raises(ConfigError, match=rf"unknown key .*\. Did you mean {re.escape(meant)}\?"):
        load(overrides=[override])


def test_photographs_in_many_folders_are_found_as_advised(tmp_path):
    for number in range(3):
        image(tmp_path / "2024" / f"0{number}" / "a.JPG")
    with pytest.raises(
        ArgumentError, match=r"Did you mean .*/2024/00\? There are 3 such folders .*: --recursive looks"
    ):
        find_sources([str(tmp_path)])
    assert len(find_sources([str(tmp_path)], recursive=True)) == 3


def test_a_search_that_finds_nothing_names_the_threshold(tmp_path, capsys):
    weights = save_small_weights(tmp_path / "small.safetensors")
    photo = image(tmp_path / "a.jpg")
    words = [str(photo), "--weights", str(weights), "--backend", "torch", "--quiet"]
    assert detect([*words, "--output", str(tmp_path / "none"), "--score-threshold", "1"]) == 0
    assert "a lower one shows more: --score-threshold 0.1" in capsys.readouterr().err
    assert detect([*words, "--output", str(tmp_path / "some"), "--score-threshold", "0.01"]) == 0
    assert "a lower one" not in capsys.readouterr().err
