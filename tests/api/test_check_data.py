from pathlib import Path

import pytest

import ssd
from ssd.errors import ArgumentError, DatasetError
from tests.audit.made import good, voc_splits


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    voc_splits(tmp_path / "cells", train={"a": good(), "b": good()}, val={"c": good()})
    return tmp_path / "cells"


def test_sound_data_is_ready_and_says_what_there_is(data: Path) -> None:
    before = snapshot(data)
    check = ssd.check_data(data)
    assert check.ready
    assert repr(check).startswith("<DataCheck: ready; train 2 images, val 1 images")
    assert check.to_text().splitlines()[-1].startswith("verdict: training can start")
    assert snapshot(data) == before


def test_a_missing_image_is_a_problem_and_no_exception(data: Path) -> None:
    next((data / "JPEGImages").glob("a.*")).write_bytes(b"")
    check = ssd.check_data(data)
    assert not check.ready
    assert [problem.kind for problem in check.problems if check.report.splits[0].fate(problem) == "stops"]
    assert "NOT READY" in repr(check)


def test_files_are_written_where_they_are_named(data: Path, tmp_path: Path) -> None:
    page, preview = tmp_path / "page.html", tmp_path / "preview.png"
    check = ssd.check_data(data, report=page, preview=preview)
    assert page.is_file()
    assert check.preview == preview
    with pytest.raises(ArgumentError, match="is there already"):
        ssd.check_data(data, report=page)
    for write, path in ((check.write_report, page), (check.write_preview, preview)):
        path.write_text("mine")
        with pytest.raises(ArgumentError, match="is there already"):
            write(path)
        assert path.read_text() == "mine"
        write(path, force=True)
        assert path.stat().st_size > 100
    ssd.check_data(data, report=page, preview=preview, force=True)


def test_what_is_not_there_is_an_error(data: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'tset'"):
        ssd.check_data(data, split="tset")
    with pytest.raises(ArgumentError, match="workers: 0 is too small"):
        ssd.check_data(data, workers=0)


def test_overrides_are_a_mapping_or_as_on_the_command_line(data: Path) -> None:
    by_mapping = ssd.check_data(data, overrides={"model.input_size": 512})
    by_text = ssd.check_data(data, overrides=("model.input_size=512",))
    assert by_mapping.config == by_text.config
    assert by_mapping.config.model.input_size == 512
