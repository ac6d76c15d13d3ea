import json

import pytest

from ssd.benchmark import scale
from ssd.data.dataset import open_dataset


def test_a_made_set_has_the_images_and_boxes_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "_LINKS", 150)
    scale.make(tmp_path, "tiny")
    train, val = (open_dataset(tmp_path, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (200, 20)
    assert [sum(len(record.labels) for record in one.records) for one in (train, val)] == [1500, 150]
    assert train.load(199).image.shape == (480, 640, 3)
    assert (tmp_path / "train" / "000000000001.jpg").stat().st_nlink == 150
    assert len(train.class_names) == 80


@pytest.mark.slow
def test_a_start_says_what_it_took(tmp_path, monkeypatch):
    monkeypatch.setenv("SSD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(scale, "_WORKERS", 1)
    monkeypatch.setattr(scale, "_SETTLED", 0)
    scale.make(tmp_path / "set", "tiny")
    facts = scale.start(tmp_path / "set")
    assert facts["index_mb"] == json.loads(json.dumps(facts))["index_mb"] > 0.03
    assert min(facts[name] for name in ("seconds", "cpu_seconds", "peak_mb", "worker_mb")) > 0
