"""Runs on several folders, each complete for its own classes."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import yaml

import ssd
from ssd.api.evaluation_data import find_config
from ssd.errors import ArgumentError, SSDError
from ssd.experiment import config_file as configs
from ssd.experiment.data import open_sets, open_split
from ssd.experiment.training_config import training_config
from ssd.training import run_folder, trainer
from ssd.training.checkpoints import load_state
from tests.training.half_labelled import write_folder
from tests.training.runs import TINY, assert_same


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    write_folder(root / "a", 6, 2, 0, "square")
    write_folder(root / "b", 6, 2, 1, "disc")
    return root


def words(root: Path, *more: str) -> list[str]:
    tiny = [word for word in TINY if not word.startswith("data.format")]
    return [*tiny, f"data.folders=[{{path: {root}/a}}, {{path: {root}/b, rename: {{square: box}}}}]", *more]


def test_a_run_resumes_bit_for_bit_and_keeps_its_folders(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "whole" / "tiny"
    with mock.patch.object(run_folder, "STATES_KEPT", 9):
        trainer.train(configs.load(None, words(root, f"output={tmp_path}/whole", "name=tiny")), progress=False)
    states = sorted(run.glob("state-*.pt"))
    reference = load_state(states[-1])
    assert reference["settings"]["class_names"] == ("disc", "box")
    part = tmp_path / "part" / "tiny"
    part.mkdir(parents=True)
    for name in ("train.jsonl", states[0].name):
        (part / name).write_bytes((run / name).read_bytes())
    resumed = configs.load(None, words(root, f"output={tmp_path}/part", "name=tiny"))
    trainer.train(resumed, resume="auto", progress=False)
    unused = {"config": None, "torch_rng": None}  # the network has no dropout
    assert_same(load_state(sorted(part.glob("state-*.pt"))[-1]) | unused, reference | unused)

    assert len(yaml.safe_load((run / "config.yaml").read_text())["data"]["folders"]) == 2
    result = ssd.evaluate(run, device="cpu")
    assert (result.dataset.name, result.dataset.split, len(result.dataset)) == ("a + b", "val", 4)
    assert find_config(str(run), root / "a").data.folders is None  # other data that is named


def test_detections_of_a_class_that_the_folder_is_not_complete_for_are_not_counted(root: Path, tmp_path: Path) -> None:
    config = configs.load(None, words(root, f"output={tmp_path}", "name=tiny", "train.epochs=1"))
    trainer.train(config, progress=False)
    val = open_split(config, "val")
    result = ssd.evaluate(tmp_path / "tiny", score_threshold=0.0, figures=None, results=tmp_path / "r.json")
    assert val.complete is not None
    counted = yaml.safe_load((tmp_path / "r.json").read_text())
    allowed = {record.image_id: np.flatnonzero(val.complete.of(row)) + 1 for row, record in enumerate(val.records)}
    assert len(counted) > 0
    assert all(item["category_id"] in allowed[item["image_id"]] for item in counted)
    assert result.evaluation.dropped == 0


def test_the_validation_set_opened_alone_has_the_classes_of_the_training_set(root: Path) -> None:
    config = configs.load(None, words(root))
    train, val = open_sets(config)
    alone = open_split(config, "val")
    assert train.class_names == val.class_names == alone.class_names == ("disc", "box")
    assert [record.image_id for record in val.records] == [record.image_id for record in alone.records]
    assert len(train) == 12


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("data.folder=x", "data.folder=x and data.folders are both given. Drop one: data.folder=null, or data.folders"),
        ("data.format=shapes", "data.folders: data.format=shapes has no folders. Set data.format=auto."),
        ("data.classes=[disc]", "data.classes and data.folders are both given. Set data.classes=null"),
        ("data.folders=[]", "data.folders: names no folder"),
        ("data.folders=[{path: a}, {path: ./a}]", "data.folders: a is given twice. Keep one of them."),
    ],
)
def test_keys_that_exclude_each_other_are_named(root: Path, more: str, message: str) -> None:
    with pytest.raises(SSDError) as caught:
        open_sets(configs.load(None, words(root, more)))
    assert message in str(caught.value)


@pytest.mark.parametrize("value", ["a", "[a]", "[{pth: a}]", "[{path: a, rename: 3}]", "[{path: a, complete_for: 3}]"])
def test_what_is_no_list_of_folders_is_refused_in_one_line(value: str) -> None:
    with pytest.raises(SSDError, match=r"data\.folders = .* Use a list of \{path, rename, complete_for\} or null"):
        configs.load(None, [f"data.folders={value}"])


def test_folders_on_the_command_line_need_no_config_file_and_are_checked_one_by_one(root: Path) -> None:
    assert training_config(None, None, [f"data.folders=[{{path: {root}/a}}]"]).data.format == "auto"
    with pytest.raises(ArgumentError, match=r"one folder is checked at a time\. Check each by itself: ssd check-data "):
        ssd.check_data(overrides=[f"data.folders=[{{path: {root}/a}}]"])
