"""What is written for a model hub; `test_hub.py` sends it."""

from pathlib import Path

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
        "thresholds": {"data": "/home/somebody/cells", "split": "val", "images": 3},
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
    assert published["thresholds"] == {"data": "cells", "split": "val", "images": 3}
    assert "| data | cells, blood |" in (tmp_path / "README.md").read_text()


def test_the_callers_own_facts_stay_as_they_are() -> None:
    extra = {"config": {"data": {"folders": [{"path": "/a/b"}]}, "output": "/a"}}
    assert without_paths(extra) == {"config": {"data": {"folders": [{"path": "b"}]}, "output": "a"}}
    assert extra == {"config": {"data": {"folders": [{"path": "/a/b"}]}, "output": "/a"}}
    for odd in ({}, {"config": None}, {"config": {"data": "x", "model": {"weights": 3}}}):
        assert without_paths(odd) == odd
