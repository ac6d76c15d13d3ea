import os
import sys
import time
from pathlib import Path

import pytest

from ssd.commands.demo import main
from ssd.demo.session import KEPT_SECONDS, list_weights, sweep
from ssd.errors import CheckpointError
from tests.commands.small_detector import save_small_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


def test_the_page_offers_what_was_named_then_the_runs_then_the_default(tmp_path):
    for age, name in enumerate(("old", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.safetensors").write_text("")
        os.utime(tmp_path / name / "best.safetensors", (1000 + age, 1000 + age))
    runs = [str(tmp_path / "new"), str(tmp_path / "old")]
    assert list_weights([], tmp_path) == [*runs, "coco"]
    assert list_weights([runs[1]], tmp_path) == [runs[1], runs[0], "coco"]
    assert list_weights(["coco"], tmp_path / "nowhere") == ["coco"]
    assert list_weights(["ssdlite", "hf://me/cells"], tmp_path)[:2] == ["ssdlite", "hf://me/cells"]
    with pytest.raises(CheckpointError, match="nowhere: no such weights file"):
        list_weights(["nowhere"], tmp_path)


def test_a_mistake_is_one_line(weights, monkeypatch, capsys):
    before = dict(os.environ)
    assert main(["nowhere.safetensors"]) == 2
    assert main(["--max-upload", "0"]) == 2
    assert main(["--port", "0"]) == main(["--port", "65536"]) == 2
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main([str(weights)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == errors.count("error: ") == 5
    assert 'pip install "ssd-vgg[demo]"' in errors
    assert dict(os.environ) == before


def test_files_go_when_they_are_old(tmp_path):
    (tmp_path / "deep").mkdir()
    for age, name in ((700, "old.png"), (10, "new.png"), (700, "deep/old.json")):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    sweep(tmp_path, KEPT_SECONDS)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["new.png"]
