"""Folders in which nothing can be learned: training stops, and check-data says so."""

import json

import pytest

from ssd.audit.readiness import judge
from ssd.audit.report import examine
from ssd.audit.splits import Reading
from ssd.commands.train import main as train
from ssd.errors import DatasetError
from ssd.experiment.config_file import from_dict
from ssd.experiment.data import open_split
from tests.audit.made import boxes
from tests.data.made import coco_content, coco_folder, voc_folder, write_image, write_text, xml, xml_object


def yolo(root, rows):
    for split in ("train", "val"):
        write_image(root / "images" / split / f"{split}.jpg")
        if rows is not None:
            write_text(root / "labels" / split / f"{split}.txt", rows)
    write_text(root / "data.yaml", "names: [cat]\ntrain: images/train\nval: images/val\n")
    return root


def labels_elsewhere(root):
    yolo(root, None)
    write_text(root / "my_boxes" / "train.txt", "0 0.5 0.5 0.5 0.5\n")
    return root


def all_crowd(root):
    content = coco_content()
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    coco_folder(root, content, "train")
    return coco_folder(root, content, "val")


def all_bad(root):
    for split in ("train", "val"):
        voc_folder(root, {split: xml(xml_object(box=(5, 5, 5, 9)))}, split)
    return root


CASES = {
    "labels in a folder nobody looks into": (labels_elsewhere, {}, "no object in the 1 images"),
    "empty label files": (lambda root: yolo(root, ""), {}, "no object in the 1 images"),
    "label files of blank lines": (lambda root: yolo(root, "\n \n"), {}, "no object in the 1 images"),
    "every object dropped": (all_bad, {"bad_objects": "drop"}, "every object was bad and left out (1 no_area)"),
    "every annotation a crowd": (all_crowd, {}, "all 2 annotations are crowd regions"),
}


@pytest.mark.parametrize(("make", "options", "message"), CASES.values(), ids=list(CASES))
def test_nothing_to_learn_stops_training_before_it_starts(tmp_path, make, options, message):
    config = from_dict({"data": {"folder": str(make(tmp_path)), "format": "auto", **options}})
    with pytest.raises(DatasetError, match="nothing to learn") as caught:
        open_split(config, "train")
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("case", list(CASES))
def test_check_data_never_says_that_training_can_start_with_nothing_to_learn(tmp_path, case):
    make, options, _ = CASES[case]
    verdict = judge(examine(make(tmp_path), Reading(), boxes(), drop="bad_objects" in options))
    assert verdict.stops
    assert "training can start" not in verdict.line
    assert "no_objects" in verdict.line


def test_the_command_ends_with_one_line_and_makes_no_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(["--data", str(yolo(tmp_path / "set", "")), "model.backbone_weights=none", "--quiet"]) == 2
    assert "nothing to learn" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_one_object_is_enough(tmp_path):
    content = coco_content()
    content["annotations"][0]["iscrowd"] = 0
    folder = coco_folder(tmp_path, json.loads(json.dumps(content)))
    config = from_dict({"data": {"folder": str(folder), "format": "auto", "train": "train"}})
    assert len(open_split(config, "train")) == 2
