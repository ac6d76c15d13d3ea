from pathlib import Path

import pytest

from ssd.commands.check_data import main
from tests.audit.made import repaint, sound, voc_splits
from tests.commands.test_check_data import content
from tests.data.made import xml, xml_object
from tests.report.browser import open_page
from tests.report.pages import Tree, check

SECTIONS = ["problems", "classes", "sizes", "reach", "fit", "augmented"]


def images(tree: Tree) -> list[str]:
    return [attributes["alt"] or "" for tag, attributes in tree.tags if tag == "img"]


def test_every_section_of_a_sound_folder_and_nothing_else_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, page = sound(tmp_path / "data"), tmp_path / "page.html"
    before = content(folder)
    assert main([str(folder), "--quiet", "--fit-boxes", "--report", str(page)]) == 0
    tree = check(page.read_text())
    assert tree.ids() == SECTIONS
    assert images(tree)[-1] == "Augmented training images of train"
    assert "the validation set val has 1 image: its figures say little; use ten or more" in tree.text
    assert f"report: {page}" in capsys.readouterr().err
    assert content(folder) == before


def test_problems_are_shown_with_their_images(tmp_path: Path) -> None:
    bad = xml(xml_object(), xml_object(box=(5, 3, 5, 9)), xml_object(box=(50, 50, 60, 60)), xml_object())
    folder = voc_splits(tmp_path / "data", train={"a": bad, "b": "<xml", "c": xml(xml_object())}, val={"d": bad})
    broken = folder / "JPEGImages" / "c.jpg"
    broken.write_bytes(broken.read_bytes()[:-50])
    page = tmp_path / "page.html"
    assert main([str(folder), "--quiet", "--report", str(page)]) == 1
    tree = check(page.read_text())
    shown = [alt.split(":")[0] for alt in images(tree)]
    assert {"no_area", "outside", "repeated"} <= set(shown)
    assert "undecodable" not in shown  # there is nothing to show, but it is listed
    assert {"train: undecodable", "train: unreadable", "train: no_area", "val: outside"} <= set(tree.text)
    assert any("Training would stop" in text for text in tree.text)


def test_class_names_from_annotations_cannot_run(tmp_path: Path) -> None:
    evil = xml(xml_object("&lt;script&gt;alert(1)&lt;/script&gt;"))
    folder, page = voc_splits(tmp_path / "data", train={"a": evil}, val={"b": evil}), tmp_path / "page.html"
    main([str(folder), "--quiet", "--report", str(page)])
    assert "<script>alert(1)</script>" in check(page.read_text()).text


def test_a_folder_where_nothing_can_be_read_is_a_page(tmp_path: Path) -> None:
    folder, page = voc_splits(tmp_path / "data", train={"a": "<"}, val={"b": "<"}), tmp_path / "page.html"
    assert main([str(folder), "--quiet", "--fit-boxes", "--report", str(page)]) == 1
    assert check(page.read_text()).ids() == ["problems"]


def test_copies_and_what_is_hard_to_reach_are_on_the_page(tmp_path: Path) -> None:
    small = xml(xml_object(box=(2, 2, 3, 3)), xml_object(box=(8, 1, 38, 3)))
    folder = voc_splits(tmp_path / "data", train={"a": small}, val={"b": small})
    for name in "ab":
        repaint(folder / "JPEGImages" / f"{name}.jpg", seed=1)
    page = tmp_path / "page.html"
    main([str(folder), "--quiet", "--report", str(page)])
    tree = check(page.read_text())
    assert any("in several splits: train/" in text for text in tree.text)
    assert {"train JPEGImages/a.jpg", "val JPEGImages/b.jpg"} <= set(images(tree))
    assert any("IoU 0." in alt for alt in images(tree))


@pytest.mark.slow
def test_blood_cells_in_a_browser(bccd: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main([str(bccd), "--quiet", "--report", str(page)]) == 0  # its one bad box is left out, and stops nothing
    opened = open_page(page, tmp_path / "profile")
    assert opened.console == []
    assert Tree(opened.html).ids() == ["problems", "classes", "sizes", "reach", "augmented"]
