from pathlib import Path

import numpy as np
import pytest

from ssd.audit.page.distributions import class_section, size_section
from ssd.audit.page.page import dataset_page
from ssd.audit.readiness import Readiness, judge
from ssd.audit.report import Report, examine
from ssd.audit.splits import Reading
from tests.audit.made import boxes, good, sound, voc_splits
from tests.data.made import xml, xml_object
from tests.report.pages import Tree, read

# Images are 40x20 pixels: at an input of 300 a pixel is 7.5 wide and 15 high.
SQUARE, TALL, LARGE = (1, 1, 5, 3), (1, 1, 5, 5), (1, 1, 13, 7)  # 30x30, 30x60 and 90x90 at the input


def looked_through(folder: Path, **options: object) -> Report:
    return examine(folder, Reading(), boxes(), **options)


def page(report: Report, verdict: Readiness | None = None) -> Tree:
    grey = np.full((30, 30, 3), 128, np.uint8)
    return read(dataset_page(report, verdict or judge(report), lambda dataset: grey))


@pytest.fixture
def report(tmp_path: Path) -> Report:
    both = xml(xml_object("cat", SQUARE), xml_object("dog", TALL))
    return looked_through(voc_splits(tmp_path / "cells", train={"a": both}, val={"b": xml(xml_object("cat", LARGE))}))


def test_sound_data_has_every_section_and_says_so(tmp_path: Path) -> None:
    tree = page(looked_through(sound(tmp_path / "cells")))
    assert tree.ids() == ["problems", "classes", "sizes", "reach", "augmented"]
    assert {
        "Data set: cells",
        "the validation set val has 1 image: its figures say little; use ten or more",
        "8,732",
        "24,564",
    } <= set(tree.text)
    assert any(text.startswith("Training can start") for text in tree.text)
    assert "n/a / n/a" in tree.text  # there are no large objects


def test_a_bad_object_stops_training_and_is_counted(tmp_path: Path) -> None:
    bad = xml(xml_object(), xml_object(box=(5, 3, 5, 9)))
    tree = page(looked_through(voc_splits(tmp_path / "cells", train={"a": bad}, val={"b": good()})))
    assert any(text.startswith("Training would stop: 1 no_area") for text in tree.text)
    place = tree.text.index("no_area")
    assert tree.text[place - 1 : place + 3] == ["train", "no_area", "stops", "1"]
    assert "train: no_area" in tree.text


def test_fitted_boxes_have_a_section(tmp_path: Path) -> None:
    folder = voc_splits(tmp_path / "cells", train={"a": good()}, val={"b": good()})
    tree = page(looked_through(folder, fit_boxes=True))
    assert "fit" in tree.ids()
    assert {"train (fitted to)", "val (held out)", "fitted"} <= set(tree.text)


def test_sizes_fall_into_bins_beside_the_default_boxes(report: Report) -> None:
    sizes, ratios, percentiles = size_section(report).blocks
    # 30 and sqrt(30 * 60) = 42.4 lie in the half octaves that end at 32 and 45.3
    assert sizes.svg.count("train: 0.50") == 2
    assert sizes.svg.count("val: 1.00") == 1
    assert sizes.svg.count("default box: ") == 6
    assert ratios.svg.count("default box: ") == 5  # 1, 2, 3 and their inverses
    assert percentiles.rows[1] == ["val", *["90.0"] * 7]


def test_a_class_that_a_split_lacks_has_a_row(report: Report) -> None:
    table, chart = class_section(report).blocks
    assert [[getattr(cell, "text", cell) for cell in row] for row in table.rows] == [
        ["cat", "1", "1", "1", "1"],
        ["dog", "1", "1", "0", "0"],
    ]
    # In train each class is half of the objects, in val the cat is all of them.
    assert [[cell.bar for cell in row[1::2]] for row in table.rows] == [[0.5, 1.0], [0.5, 0.0]]
    assert (chart.svg.count("train: 1.00"), chart.svg.count("val: 1.00")) == (1, 1)  # images with two and one objects


def test_a_folder_without_a_readable_annotation_is_a_page(tmp_path: Path) -> None:
    folder = voc_splits(tmp_path / "cells", train={"a": "<"}, val={"b": "<"})
    assert page(looked_through(folder)).ids() == ["problems"]


def test_names_of_strangers_stay_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    annotation = xml(xml_object(evil.replace("<", "&lt;").replace(">", "&gt;")))
    report = looked_through(voc_splits(tmp_path / "cells", train={"a": annotation}, val={"b": annotation}))
    tree = page(report, Readiness(stops=True, line=evil, cautions=(evil,)))
    assert tree.text.count(evil) >= 2
    assert f"{evil}." in tree.text
