from pathlib import Path

import pytest

import ssd
from ssd.audit.rewrite import check_output
from ssd.data.formats.unused import find_unused
from ssd.errors import ArgumentError
from tests.audit.made import sound
from tests.data.made import write_image, write_text


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("top", ["absolute", "../set", "."])
def test_a_data_folder_with_paths_of_any_form_is_left_as_it_is(tmp_path, monkeypatch, top):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        for number in range(3):
            write_image(tmp_path / "set" / "images" / split / f"{split}{number}.png", 40 + number)
            write_text(tmp_path / "set" / "labels" / split / f"{split}{number}.txt", "0 0.5 0.5 0.5 0.5\n")
            write_text(tmp_path / "set" / "images" / split / f"{split}{number}.json", "the user's own")
    path = tmp_path / "set" if top == "absolute" else top
    write_text(tmp_path / "set" / "data.yaml", f"path: {path}\ntrain: images/train\nval: images/val\nnames: [cat]\n")
    before = snapshot(tmp_path / "set")
    assert [problem.kind for problem in find_unused("set")] == ["not_read"] * 2  # the JSON files
    check = ssd.check_data("set")
    check.rewrite(["labelme", "voc"], "out")
    assert snapshot(tmp_path / "set") == before
    assert sorted(name for name in snapshot(tmp_path / "out") if name.endswith((".json", ".xml"))) == sorted(
        f"{kind}{split}/images/{split}/{split}{number}.{suffix}"
        for kind, suffix in (("", "json"), ("Annotations/", "xml"))
        for split in ("train", "val")
        for number in range(3)
    )


def test_the_data_folder_is_no_place_to_write_to(tmp_path):
    folder = sound(tmp_path / "data")
    yaml = write_text(folder / "data.yaml", "names: [cat]\n")
    for data in (folder, yaml):
        with pytest.raises(ArgumentError, match="lies in the data folder, which is not changed"):
            check_output(folder / "new", data, force=False)
    check_output(tmp_path / "new", yaml, force=False)
    before = snapshot(folder)
    with pytest.raises(ArgumentError, match="lies in the data folder, which is not changed"):
        ssd.check_data(folder, overrides={"data.format": "voc"}).rewrite(["voc"], folder)
    assert snapshot(folder) == before
