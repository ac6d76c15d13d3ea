import dataclasses

import numpy as np
import pytest

from ssd.audit.page.distributions import ClassRow, SplitFigures, Wrong, class_section, size_section
from ssd.audit.page.page import DatasetFigures, Fitted, Reached, dataset_page
from ssd.report.blocks import Image
from tests.report.made import JPEG
from tests.report.pages import read

SIZES = {"all": 0.9, "small": None, "medium": 0.8, "large": 1.0}


def split(name: str, sides: list[tuple[float, float]], *wrong: Wrong) -> SplitFigures:
    return SplitFigures(
        name=name,
        images=3,
        objects=len(sides),
        empty=1,
        classes=[ClassRow("cat", len(sides), 2), ClassRow("dog", 0, 0)],
        sides=np.array(sides, float).reshape(-1, 2),
        per_image=[0, 1, 40],
        wrong=wrong,
    )


@pytest.fixture
def figures() -> DatasetFigures:
    wrong = Wrong("no_area", 1, "stops", ["a.xml: object 2 (cat): box 5 1 5 9 has no area"])
    return DatasetFigures(
        folder="/data/cells",
        verdict="training would stop: 1 no_area",
        stops=True,
        cautions=["one image in more than one split"],
        splits=[split("train", [(30, 30), (60, 20)], wrong), split("val", [(100, 100)])],
        input_size=300,
        box_sizes=[30.0, 60.0, 111.0],
        box_ratios=[1.0, 2.0, 0.5],
        reached=[Reached("SSD300 voc", 8732, SIZES, SIZES), Reached("SSD512 voc", 24564, SIZES, SIZES)],
        remarks=["3 objects get their second choice"],
        folder_problems=[],
        wrong_images=[Image(JPEG, "no_area", "a.jpg")],
        hardest=[Image(JPEG, "cat: IoU 0.12", "4 x 4 at the input, b.jpg")],
        copies=["in several splits: train/a.jpg = val/b.jpg"],
        augmented=Image(JPEG, "Augmented training images"),
        fit=Fitted(["train (fitted to)"], {"fitted": [0.99]}, "Worth trying.", "model:\n  min_sizes: [0.1]\n"),
    )


def test_every_section_is_there(figures: DatasetFigures) -> None:
    tree = read(dataset_page(figures))
    assert tree.ids() == ["problems", "classes", "sizes", "reach", "fit", "augmented"]
    for text in ("Data set: cells", "Training would stop: 1 no_area.", "24,564", "Worth trying.", "cat: IoU 0.12"):
        assert text in tree.text
    assert any("min_sizes" in text for text in tree.text)
    assert "n/a / n/a" in tree.text


def test_sizes_fall_into_bins_beside_the_default_boxes(figures: DatasetFigures) -> None:
    sizes, ratios, percentiles = size_section(figures.splits, 300, figures.box_sizes, figures.box_ratios).blocks
    # sqrt(60 * 20) is 34.6: both objects of train lie between 22.6 and 45.3, one in each half octave
    assert sizes.svg.count("train: 0.50") == 2
    assert sizes.svg.count("val: 1.00") == 1
    assert sizes.svg.count("default box: ") == 3
    assert ratios.svg.count("default box: ") == 3
    assert percentiles.rows[1] == ["val", *["100.0"] * 7]


def test_a_class_that_a_split_lacks_has_a_row(figures: DatasetFigures) -> None:
    table, chart = class_section(figures.splits).blocks
    assert [[getattr(cell, "text", cell) for cell in row] for row in table.rows] == [
        ["cat", "2", "2", "1", "2"],
        ["dog", "0", "0", "0", "0"],
    ]
    assert chart.svg.count("train: 0.33") == 3  # images with 0, 1 and 33 to 64 objects


def test_sound_data_says_so(figures: DatasetFigures) -> None:
    sound = dataclasses.replace(
        figures,
        stops=False,
        verdict="training can start",
        cautions=[],
        splits=[split("train", [(9, 9)])],
        wrong_images=[],
        copies=[],
        fit=None,
    )
    tree = read(dataset_page(sound))
    assert {"None found.", "Training can start."} <= set(tree.text)


def test_a_folder_without_anything_is_a_page(figures: DatasetFigures) -> None:
    bare = dataclasses.replace(
        figures, splits=[], reached=[], remarks=[], wrong_images=[], hardest=[], copies=[], augmented=None, fit=None
    )
    assert read(dataset_page(bare)).ids() == ["problems"]
    empty = dataclasses.replace(bare, splits=[dataclasses.replace(split("train", []), classes=[], per_image=[])])
    assert read(dataset_page(empty)).ids() == ["problems"]


def test_names_of_strangers_stay_text(figures: DatasetFigures) -> None:
    evil = "<script>alert(1)</script>"
    one = dataclasses.replace(split(evil, [(9, 9)], Wrong(evil, 1, evil, [evil])), classes=[ClassRow(evil, 1, 1)])
    tree = read(dataset_page(dataclasses.replace(figures, folder=evil, verdict=evil, splits=[one], copies=[evil])))
    assert tree.text.count(evil) > 5
