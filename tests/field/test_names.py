"""Names of classes and files from strangers: shown escaped, and any that the file system allows works (rules 9, 10)."""

import json
import logging

import pytest

from ssd.commands import _shared
from ssd.commands.check_data import main as check_data
from ssd.report.text_table import aligned
from tests.data.made import write_text
from tests.field.folders import coco, coco_images

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
