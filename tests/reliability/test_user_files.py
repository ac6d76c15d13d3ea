"""What the user has is read and never changed: data, weights, images, and files in the place of results."""

import hashlib
import os
from pathlib import Path

import pytest

from ssd.errors import ArgumentError
from ssd.system.files import refuse_existing
from tests.data.made import voc_folder, write_image, write_text, xml, xml_object
from tests.reliability.nursery import Nursery
from tests.training.runs import TINY

FOLDER_RUN = ("data.format=voc", *(word for word in TINY if not word.startswith("data.")))


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below a folder with its content's hash and the time of its last change."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def damaged_folder(root: Path) -> Path:
    """A VOC folder with objects that no loss survives, and an image cut short: what tempts a tool to repair."""
    good = xml(xml_object("cat", (2, 3, 30, 18)), xml_object("dog", (5, 5, 20, 15)))
    bad = xml(xml_object("cat", (2, 3, 30, 18)), xml_object("dog", (9, 9, 9, 12)), xml_object("dog", (20, 9, 4, 12)))
    voc_folder(root, {"a": good, "b": bad, "c": good, "d": good})
    write_text(root / "ImageSets" / "Main" / "val.txt", "a\nb\n")
    cut = write_image(root / "JPEGImages" / "unlisted.jpg")
    cut.write_bytes(cut.read_bytes()[:-20])
    return root


def test_checking_training_and_evaluating_change_nothing_in_the_data_folder(nursery: Nursery, tmp_path: Path) -> None:
    folder = damaged_folder(tmp_path / "data")
    os.utime(folder / "JPEGImages" / "a.jpg", (10**9, 10**9))
    before = tree(folder)
    (checked,) = nursery.run("check_data", str(folder), "--quiet", "--fix", "drop", "--deep")
    words = (*FOLDER_RUN, f"data.folder={folder}", "data.bad_objects=drop", "data.workers=0", "train.epochs=2")
    (trained,) = nursery.run("train", *words, "train.batch_size=2", f"output={tmp_path}/runs", "name=a", "--quiet")
    weights = tmp_path / "runs" / "a" / "best.safetensors"
    kept = hashlib.sha256(weights.read_bytes()).hexdigest()
    (evaluated,) = nursery.run("eval", str(weights), "--coco", "--quiet")
    (found,) = nursery.run("detect", str(folder / "JPEGImages" / "a.jpg"), "--weights", str(weights),
                           "--output", str(tmp_path / "found"), "--quiet")  # fmt: skip
    assert [ended.code for ended in (checked, trained, evaluated, found)] == [0] * 4, (checked, trained, evaluated)
    assert tree(folder) == before
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == kept


def test_bad_objects_stop_training_and_are_left_out_when_asked_to(nursery: Nursery, tmp_path: Path) -> None:
    folder = damaged_folder(tmp_path / "data")
    words = (*FOLDER_RUN, f"data.folder={folder}", "data.workers=0", "train.epochs=3", "train.batch_size=2")
    out = (f"output={tmp_path}/runs", "name=a", "--quiet")
    (stopped,) = nursery.run("train", *words, *out)
    assert stopped.code == 2
    assert "b.xml: object 2 (dog): box 9 9 9 12 has no area" in stopped.err.replace("8 8 8 11", "9 9 9 12")
    assert "b.xml: object 3 (dog)" in stopped.err
    assert "data.bad_objects=drop" in stopped.err
    (trained,) = nursery.run("train", *words, *out, "data.bad_objects=drop")
    assert trained.code == 0  # a loss that is not finite would be 2
    assert "left out 2 bad objects" in trained.err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("eval", ("weights", "--output")),
        ("eval", ("weights", "--results")),
        ("check_data", ("data", "--json")),
        ("check_data", ("data", "--preview")),
        ("train", ("--preview",)),
        ("benchmark", ("--json",)),
    ],
)
def test_a_result_never_replaces_a_file_that_is_there(
    nursery: Nursery, tmp_path: Path, command: str, words: tuple[str, ...]
) -> None:
    mine = write_text(tmp_path / "thesis.json", "mine")
    (ended,) = nursery.run(command, *words, str(mine))
    assert ended.code == 2
    assert ended.err.splitlines()[-1].endswith(
        "thesis.json: is there already. Name another file, or add --force (in Python: force=True)."
    )
    assert mine.read_text() == "mine"


def test_an_empty_file_may_take_a_result(tmp_path: Path) -> None:
    refuse_existing(write_text(tmp_path / "a.json", ""), force=False)


def test_force_replaces_files_and_no_folder(tmp_path: Path) -> None:
    mine = write_text(tmp_path / "a.json", "mine")
    refuse_existing(mine, str(mine), None, "", "-", tmp_path / "new.json", force=True)
    refuse_existing(tmp_path / "new.json", None, force=False)
    with pytest.raises(ArgumentError, match="is a folder"):
        refuse_existing(tmp_path, force=True)
