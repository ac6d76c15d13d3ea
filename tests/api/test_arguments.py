"""Arguments of wrong types: one error that names the argument, from every public function."""

from pathlib import Path

import numpy as np
import pytest

import ssd
from ssd.errors import ArgumentError, SSDError

NO_PATHS = [3, 2.5, True, b"x", [], ["a"], {}, object(), int, np.array([1]), float("nan"), "", " ", "a\0b", "\ud800"]
PATHS = {
    "a": lambda value: ssd.compare(value, "b.safetensors"),
    "b": lambda value: ssd.compare("a.safetensors", b=value),
    "figures": lambda value: ssd.compare("a.safetensors", "b.safetensors", figures=value),
    "weights": lambda value: ssd.evaluate(value),
    "report": lambda value: ssd.why("a.safetensors", report=value),
    "data": lambda value: ssd.review(value),
    "run": lambda value: ssd.shrink(value, 30),
    "folder": lambda value: ssd.check_data(value),
    "path_or_format": lambda value: ssd.export("a.safetensors", value),
    "config": lambda value: ssd.train("folder", config=value),
    "source": lambda value: ssd.load(value),
}


@pytest.mark.parametrize("name", list(PATHS))
def test_what_is_no_path_is_named_before_anything_is_read_or_written(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in NO_PATHS:
        with pytest.raises(ArgumentError) as caught:
            PATHS[name](value)
        assert caught.value.place == name
        assert "\n" not in str(caught.value)
        assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["nowhere", Path("nowhere")])
def test_a_path_that_is_not_there_is_named_as_text_or_path_and_leaves_nothing(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (PATHS[name] for name in ("a", "weights", "data", "run", "folder", "source")):
        with pytest.raises(SSDError, match="nowhere"):
            call(place)
    assert list(tmp_path.iterdir()) == []
