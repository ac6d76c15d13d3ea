"""What is written for a model hub; `test_hub.py` sends it."""

from pathlib import Path
from typing import Any

import pytest

from ssd.model.factory import from_settings, settings_for
from ssd.weights import native
from ssd.weights.publish import prepare, without_paths


def test_no_path_of_several_folders_lists_and_thresholds_is_published(tmp_path: Path) -> None:
    folders = [
        {"path": "/home/somebody/cells", "rename": {}, "complete_for": None},
        {"path": "/srv/secret/blood", "rename": {"rbc": "RBC"}, "complete_for": ["RBC"]},
    ]
    data = {"folder": None, "folders": folders, "format": "auto", "train": "/home/somebody/few.txt", "val": "val"}
    extra = {
        "config": {"data": data, "model": {}, "train": {"epochs": 3}},
        "thresholds": {"data": "/home/somebody/cells", "split": "/home/somebody/few.txt", "images": 3},
    }
    settings = settings_for(("cat",), input_size=64, width=0.125)
    path = tmp_path / "best.safetensors"
    native.save_weights(path, from_settings(settings).state_dict(), settings, extra=extra)
    prepare(path, tmp_path, "hf://me/cells")
    written = (tmp_path / "model.safetensors").read_bytes() + (tmp_path / "README.md").read_bytes()
    for word in (b"somebody", b"/srv", b"secret"):
        assert word not in written
    published = native.load_weights(tmp_path / "model.safetensors")[2]
    assert published["config"]["data"] == data | {
        "folders": [folders[0] | {"path": "cells"}, folders[1] | {"path": "blood"}],
        "train": "few.txt",
    }
    assert published["thresholds"] == {"data": "cells", "split": "few.txt", "images": 3}
    assert "| data | cells, blood |" in (tmp_path / "README.md").read_text()


def test_the_callers_own_facts_stay_as_they_are() -> None:
    extra = {"config": {"data": {"folders": [{"path": "/a/b"}]}, "output": "/a"}}
    assert without_paths(extra) == {"config": {"data": {"folders": [{"path": "b"}]}, "output": "a"}}
    assert extra == {"config": {"data": {"folders": [{"path": "/a/b"}]}, "output": "/a"}}
    for odd in ({}, {"config": None}, {"config": {"data": "x", "model": {"weights": 3}}}):
        assert without_paths(odd) == odd


def test_a_hub_address_stays_and_a_folder_without_a_name_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cells" / "images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cells" / "images")
    for given, published in (("hf://me/base@v1", "hf://me/base@v1"), (".", "images"), ("..", "cells"), ("a/b", "b")):
        assert without_paths({"config": {"model": {"weights": given}}}) == {"config": {"model": {"weights": published}}}


def card(folder: Path, validation: dict[str, Any]) -> str:
    """The card of a detector whose run had these figures."""
    settings = settings_for(("cat",), input_size=64, width=0.125)
    path = folder / "best.safetensors"
    native.save_weights(path, from_settings(settings).state_dict(), settings, extra={"validation": validation})
    prepare(path, folder / "new", "hf://me/cats")
    return (folder / "new" / "README.md").read_text()


def test_a_figure_on_the_card_has_the_meaning_of_the_runs_metric(tmp_path: Path) -> None:
    assert "| AP | 0.250 | mean over IoU 0.50 to 0.95 |" in card(tmp_path, {"AP": 0.25, "AP50": 0.5})
    voc = card(tmp_path, {"AP": 0.25, "AP07": 0.5, "iou_threshold": 0.5})
    assert "| AP | 0.250 | Pascal VOC, IoU 0.50, area under the curve |" in voc
    assert "| AP07 | 0.500 | Pascal VOC 2007, IoU 0.50, 11 points of the curve |" in voc
    assert "0.95" not in voc


def test_the_card_installs_the_package_from_its_repository_and_not_from_pypi(tmp_path: Path) -> None:
    said = card(tmp_path, {})
    assert '```sh\npip install ".[hub]"\n```' in said
    assert "not on PyPI" in said
