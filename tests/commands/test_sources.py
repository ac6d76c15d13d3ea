import shutil
from pathlib import Path

import pytest

from ssd.commands import sources
from ssd.errors import ArgumentError


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deep/a.JPG", "notes.txt"):
        (folder / name).write_text("only the name counts here")
    (folder / "folder.png").mkdir()
    return folder


def test_sources_are_found_once_and_in_order(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = Path("photos/a.JPG"), Path("photos/b.png")
    assert sources.find_pictures(["photos"]) == [a, b]
    assert sources.find_pictures(["photos/b.png", "photos", "photos/*.JPG"]) == [b, a]
    assert sources.find_pictures(["photos"], recursive=True) == [a, b, Path("photos/deep/a.JPG")]
    assert sources.find_pictures(["photos/**/*.JPG"]) == [a, Path("photos/deep/a.JPG")]
    assert sources.find_pictures([str(photos / "*.png")]) == [photos / "b.png"]
    assert sources.find_pictures(["photos/notes.txt"]) == [Path("photos/notes.txt")]  # named on purpose: tried


def test_a_file_whose_name_looks_like_a_glob_is_that_file(photos, tmp_path):
    odd = photos / "b[1].png"
    shutil.copy(photos / "b.png", odd)
    assert sources.find_pictures([str(odd)]) == [odd]


def test_a_gif_is_drawn_as_png():
    assert sources.output_name(Path("x/a.gif"), set()) == "a.png"
    assert sources.output_name(Path("x/a"), set()) == "a.png"
    assert sources.output_name(Path("x/A.jpg"), {"a.jpg"}) == "A-2.jpg"


def test_the_folder_for_results_is_the_next_free_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "detect" / "9").mkdir(parents=True)
    (tmp_path / "runs" / "detect" / "notes").mkdir()
    assert sources.output_folder(None, []) == Path("runs/detect/10")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="cannot be made"):
        sources.output_folder(tmp_path / "file" / "deeper", [])
