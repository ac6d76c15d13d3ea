"""Names of classes and files from strangers: shown escaped, and any that the file system allows works (rules 9, 10)."""

import json
import logging
import os

import pytest

import ssd
from ssd.commands import _shared
from ssd.commands.check_data import main as check_data
from ssd.commands.detect import main as detect
from ssd.commands.eval import main as evaluate
from ssd.errors import ConfigError
from ssd.inference.bulk.sources import find_sources, output_names
from ssd.report.text_table import aligned
from ssd.system.files import alone, clean_leftovers, write_atomic
from tests.commands.small_detector import read_rows, save_small_weights
from tests.data.made import write_text
from tests.field.folders import ROW, coco, coco_images, image

FORGED = "cat\x1b[2Jerror: forged\nverdict: fine"
SHOWN = r"cat\x1b[2Jerror: forged\nverdict: fine"


def is_shown_escaped(text: str) -> bool:
    """Whether a terminal would obey nothing in it, and no line of it is a name's."""
    lines = text.split("\n")
    return all(line.isprintable() for line in lines) and not any(line.startswith("verdict: fine") for line in lines)


@pytest.mark.parametrize("name", [FORGED, "a\u2028b", "\x07bell", "half \ud83d"])
def test_a_table_shows_names_escaped(name):
    lines = aligned([["class", "objects"], [name, "1"]]).split("\n")
    assert len(lines) == 2
    assert lines[1].isprintable()


def test_a_line_of_the_log_shows_names_escaped(monkeypatch, capsys):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    _shared.show_log()
    root.info("head rows copied for: %s", FORGED)
    try:
        raise ValueError("a bug keeps the lines of its traceback")
    except ValueError:
        root.exception("a bug")
    printed = capsys.readouterr().err.split("\n")
    assert printed[:3] == [f"head rows copied for: {SHOWN}", "a bug", "Traceback (most recent call last):"]


def test_check_data_shows_names_escaped(tmp_path, capsys):
    for split in ("train", "val"):
        names = coco_images(tmp_path / split)
        text = coco(names, categories=[{"id": 1, "name": FORGED}, {"id": 2, "name": "dog\x1b[31m"}])
        write_text(tmp_path / split / "_annotations.coco.json", text)
    check_data([str(tmp_path), "--quiet"])
    printed = capsys.readouterr()
    assert SHOWN in printed.out
    assert is_shown_escaped(printed.out)
    assert is_shown_escaped(printed.err)
    check_data([str(tmp_path), "--quiet", "--json", "-"])
    assert FORGED in [row["name"] for row in json.loads(capsys.readouterr().out)["splits"]["train"]["classes"]]


ODD = [
    os.fsdecode(b"im\xff"),
    os.fsdecode(b"\xe9t\xe9"),
    "-leading",
    "sp ace 'q\" \x1b[2J",
    "n" * 251,
    "猫",
    "two\nlines",
]


@pytest.mark.skipif(os.name != "posix", reason="such names cannot be made there")
def test_images_of_any_name_are_checked_evaluated_and_searched(tmp_path, capsys):
    weights = save_small_weights(tmp_path / "small.safetensors")
    data, found = tmp_path / "data", tmp_path / "found"
    for split in ("train", "val"):
        for number, name in enumerate(ODD):
            image(data / "images" / split / f"{name}.jpg", number + 100 * (split == "val"))
            write_text(data / "labels" / split / f"{name}.txt", ROW)
    (data / "classes.txt").write_text("cat\n")
    assert check_data([str(data), "--quiet", "--report", str(tmp_path / "data.html")]) == 0
    figures = ["--output", str(tmp_path / "figures.json"), "--report", str(tmp_path / "eval.html")]
    assert evaluate([str(weights), "--data", str(data), "--quiet", "--device", "cpu", *figures]) == 0
    searched = ["--score-threshold", "0.01", "--format", "images,yolo,coco", "--output", str(found), "--quiet"]
    assert detect([str(data / "images" / "val"), "--weights", str(weights), "--device", "cpu", *searched]) == 0
    assert sorted(row["path"] for row in read_rows(found)) == sorted(
        str(data / "images" / "val" / f"{n}.jpg") for n in ODD
    )
    for name in ODD:
        assert (found / f"{name}.jpg").is_file()
        assert (found / "labels" / f"{name}.txt").is_file()
    printed = capsys.readouterr()
    assert is_shown_escaped(printed.out)
    assert is_shown_escaped(printed.err)


@pytest.mark.parametrize("name", ["n" * 255, "猫" * 85, "n" * 251 + ".txt", "a\nb"])
def test_long_names_are_written_whole_under_short_temporary_ones(tmp_path, name):
    with alone(tmp_path / name):
        write_atomic(tmp_path / name, b"whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / ".nnn-0123456789abcdef.tmp-9999999").touch()  # of a writer that was killed
    clean_leftovers(tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]


def test_long_names_that_collide_are_numbered_within_the_limit(tmp_path):
    for suffix in (".jpg", ".png", ".bmp"):
        (tmp_path / f"{'n' * 251}{suffix}").touch()
    names = output_names(find_sources([str(tmp_path)])).values()
    assert len(set(names)) == 3
    assert all(len(f"{name}.jpg") <= 255 for name in names)


@pytest.mark.parametrize(("key", "value"), [("name", "half \ud83d"), ("output", "o\udcff"), ("data.folder", "d\udcff")])
def test_a_folder_that_is_no_unicode_is_told_with_a_remedy(key, value):
    with pytest.raises(ConfigError, match=rf"{key}.* is not valid Unicode.*(another name|ln -s)"):
        ssd.train(config="demo", overrides={key: value, "data.format": "auto"})
