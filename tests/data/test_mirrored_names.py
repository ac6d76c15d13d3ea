"""Classes that are mirror images of each other are named, in the check of the data and before training."""

import logging
from pathlib import Path

import pytest

import ssd
from ssd.data.mirrored_names import mirror_advice, mirrored_names
from ssd.experiment.config import AugmentConfig, Config, DataConfig
from ssd.experiment.data import open_split, report_folder
from tests.data.made import coco_content, coco_folder


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["turn_left", "turn_right", "straight"], [("turn_left", "turn_right")]),
        (["Right hand", "left hand"], [("left hand", "Right hand")]),
        (["hand-L", "hand-R", "lorry", "rolly"], [("hand-L", "hand-R")]),
        (["leftarrow", "rightarrow", "left", "right"], [("leftarrow", "rightarrow"), ("left", "right")]),
        (["left", "straight"], []),
        (["bright", "bleft"], [("bleft", "bright")]),
        (["cat", "dog", "l", "rat"], []),
        ([], []),
    ],
)
def test_names_that_differ_by_left_and_right_are_paired(names: list[str], pairs: list[tuple[str, str]]) -> None:
    assert mirrored_names(names) == pairs


def folder(tmp_path: Path) -> Path:
    content = coco_content()
    for category, name in zip(content["categories"], ("turn left", "turn right"), strict=False):
        category["name"] = name
    for split in ("train", "val"):
        coco_folder(tmp_path / "data", content, split)
    return tmp_path / "data"


@pytest.mark.parametrize("mirror", [True, False])
def test_the_check_and_the_training_name_the_key_where_images_are_mirrored(mirror, tmp_path, caplog) -> None:
    data = folder(tmp_path)
    checked = ssd.check_data(data, overrides={"augment.mirror": mirror})
    said = "the classes 'turn left' and 'turn right' are told apart by left and right: set augment.mirror=false"
    assert (said in checked.readiness.cautions) == mirror
    config = Config(data=DataConfig(folder=str(data)), augment=AugmentConfig(mirror=mirror))
    with caplog.at_level(logging.WARNING):
        report_folder(config, open_split(config, "train"), open_split(config, "val"))
    assert (said in caplog.text) == mirror


def test_more_pairs_are_counted() -> None:
    assert "'a left' and 'a right' and 1 more are told" in str(
        mirror_advice(["a left", "a right", "b left", "b right"])
    )
