"""The accuracy suite: what it trains, what it skips, and how it goes on."""

import dataclasses
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from ssd.benchmark import accuracy_trainers
from ssd.benchmark.accuracy import Suite, main, parser
from ssd.benchmark.accuracy_rows import OURS, PEER, Rows, Score, Training, parse_images
from ssd.benchmark.accuracy_sets import ImageSet, image_set, parse_sets, write_tiny_set
from ssd.benchmark.accuracy_table import table
from ssd.benchmark.accuracy_trainers import Machine, StoppedError, train_ours, train_torchvision, trained_seconds
from ssd.benchmark.torchvision_training import RANDOM
from ssd.errors import ArgumentError, DatasetError
from ssd.system.device import cpu_has_bf16
from tests.audit.made import good, lists, voc_splits


class Trainers:
    """Trainers that only note what is trained; AP depends on the learning rate."""

    def __init__(self) -> None:
        self.done: list = []
        self.fails: set = set()

    def train(self, training: Training, images: ImageSet, machine: Machine) -> Score:
        if training.lr in self.fails:
            raise DatasetError("no training", place="here")
        self.done.append((training.phase, training.images, training.detector, training.seed, training.lr))
        ap = {None: 0.5, 0.001: 0.1, 0.003: 0.3, 0.01: 0.2}[training.lr]
        return Score({"AP": ap, "AP50": ap, "AP75": ap}, training.steps, 60.0, scorings=1)


def suite(out: Path, trainers: Trainers, *words: str) -> Suite:
    args = parser().parse_args(["--out", str(out), *words])
    return Suite(args, Rows(out / "rows.jsonl"), {OURS: trainers.train, PEER: trainers.train})


def cells(root: Path) -> Path:
    """Eight images to train on, two in each other split."""
    names = {"train": "abcdefgh", "val": "ij", "test": "kl"}
    return voc_splits(root, **{split: {stem: good() for stem in stems} for split, stems in names.items()})


def complete(one: Suite, folder: Path, count: int | None = None) -> int:
    return one.complete(one.phases("cells", folder), count, one.args.epochs)


def test_both_sides_train_every_seed_for_the_same_number_of_steps(tmp_path: Path) -> None:
    trainers, folder = Trainers(), cells(tmp_path / "cells")
    one = suite(tmp_path, trainers, "--seeds", "0", "1")
    assert complete(one, folder) == 0
    assert trainers.done == [
        ("val", 8, OURS, 0, None),
        ("val", 8, OURS, 1, None),
        ("val", 8, PEER, 0, 0.003),
        ("val", 8, PEER, 1, 0.003),
    ]
    assert {row["steps"] for row in one.rows.rows} == {25}


def test_a_finished_row_is_skipped_by_the_next_call_and_one_cut_by_a_kill_is_not(tmp_path: Path) -> None:
    trainers, folder = Trainers(), cells(tmp_path / "cells")
    complete(suite(tmp_path, trainers, "--seeds", "0", "1"), folder)
    file = tmp_path / "rows.jsonl"
    file.write_text(file.read_text()[:-40])  # the last row is cut
    trainers.done.clear()
    again = suite(tmp_path, trainers, "--seeds", "0", "1")
    complete(again, folder)
    assert trainers.done == [("val", 8, PEER, 1, 0.003)]
    assert [json.loads(line)["seed"] for line in file.read_text().splitlines() if line.endswith("}")] == [0, 1, 0, 1]
    assert len(Rows(file).rows) == 4


def test_a_change_of_the_config_is_another_row_of_this_package_alone(tmp_path: Path) -> None:
    trainers, folder = Trainers(), cells(tmp_path / "cells")
    complete(suite(tmp_path, trainers, "--seeds", "0"), folder)
    complete(suite(tmp_path, trainers, "--seeds", "0", "--set", "augment.mirror=false"), folder)
    assert [detector for *_, detector, _, _ in trainers.done] == [OURS, PEER, OURS]


def test_learning_rates_are_compared_on_val_with_the_first_seed_and_test_is_scored_at_the_best(tmp_path: Path) -> None:
    trainers, folder = Trainers(), cells(tmp_path / "cells")
    words = ("--split", "test", "--seeds", "0", "1", "--detectors", PEER, "--lr", "0.001", "0.003", "0.01")
    complete(suite(tmp_path, trainers, *words), folder)
    tried = [("val", 8, PEER, 0, lr) for lr in (0.001, 0.003, 0.01)]
    assert trainers.done == [*tried, ("test", 10, PEER, 0, 0.003), ("test", 10, PEER, 1, 0.003)]


def test_a_training_that_fails_is_counted_and_tried_again_by_the_next_call(tmp_path: Path) -> None:
    trainers, folder = Trainers(), cells(tmp_path / "cells")
    trainers.fails = {0.003}
    words = ("--seeds", "0", "--lr", "0.001", "0.003")
    assert complete(suite(tmp_path, trainers, *words), folder) == 1
    trainers.fails = set()
    assert complete(suite(tmp_path, trainers, *words), folder) == 0
    assert [lr for *_, lr in trainers.done] == [None, 0.001, 0.003]


def test_the_phases_train_on_what_they_may(tmp_path: Path) -> None:
    folder = cells(tmp_path / "cells")
    val = image_set("cells", folder, "val", tmp_path)
    test = image_set("cells", folder, "test", tmp_path)
    assert [Path(path).stem for path in val.train] == list("abcdefgh")
    assert [Path(path).stem for path in val.scored] == ["i", "j"]
    assert [Path(path).stem for path in test.train] == list("abcdefghij")
    assert [Path(path).stem for path in test.scored] == ["k", "l"]
    lists(folder, trainval="a b c i")
    assert [Path(path).stem for path in image_set("cells", folder, "test", tmp_path).train] == list("abci")
    assert [Path(path).stem for path in image_set("cells", folder, "val", tmp_path).train] == list("abcdefgh")


def test_each_side_trains_and_is_scored_on_the_lists_of_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = image_set("cells", cells(tmp_path / "cells"), "test", tmp_path / "lists")
    ours = Training("cells", "test", 3, False, 2, 4, OURS, 7, RANDOM)
    trained = mock.Mock(return_value=mock.Mock(exit_code=143))
    monkeypatch.setattr(accuracy_trainers, "train_config", trained)
    with pytest.raises(StoppedError):
        train_ours(ours, images, Machine(tmp_path))
    config = trained.call_args.args[0]
    assert (config.seed, config.train.batch_size, config.train.epochs) == (7, 4, 2)
    assert config.model.backbone_weights == RANDOM
    assert Path(config.data.train).read_text().split() == list(images.train[:3])
    assert Path(config.data.val).read_text().split() == list(images.scored)

    figures = mock.Mock(by_metric={"coco": {"AP": 0.1, "AP50": 0.2, "AP75": 0.3}})
    called = {"new_model": None, "train": 1.0, "score": figures}
    asked = {name: mock.Mock(return_value=value) for name, value in called.items()}
    for name, fake in asked.items():
        monkeypatch.setattr(accuracy_trainers, name, fake)
    train_torchvision(dataclasses.replace(ours, detector=PEER, lr=0.003), images, Machine(tmp_path))
    _, learned, recipe, *_ = asked["train"].call_args.args
    assert (recipe.steps, recipe.batch_size, recipe.lr, recipe.seed) == (2, 4, 0.003, 7)
    read = [learned, asked["score"].call_args.args[1]]
    assert [[Path(record.path).stem for record in one.records] for one in read] == [["a", "b", "c"], ["k", "l"]]


def test_without_a_validation_split_the_training_images_are_divided_and_test_is_not_looked_at(tmp_path: Path) -> None:
    folder = voc_splits(tmp_path / "cells", train={stem: good() for stem in "abcdefghij"}, test={"t": good()})
    found = image_set("cells", folder, "val", tmp_path)
    stems = [Path(path).stem for path in (*found.train, *found.scored)]
    assert sorted(stems) == list("abcdefghij")
    assert 0 < len(found.scored) < len(found.train)
    assert [Path(path).stem for path in image_set("cells", folder, "test", tmp_path).train] == list("abcdefghij")


def test_a_folder_without_a_test_split_is_refused_in_the_test_phase(tmp_path: Path) -> None:
    folder = voc_splits(tmp_path / "cells", train={"a": good()}, val={"b": good()})
    with pytest.raises(DatasetError, match="has no test split"):
        image_set("cells", folder, "test", tmp_path)


def test_the_table_has_means_and_standard_deviations_and_the_better_side_is_bold() -> None:
    common = {
        "data": "cells",
        "phase": "test",
        "images": 292,
        "every": True,
        "epochs": 25,
        "backbone": "x",
        "steps": 925,
    }
    ours = [
        {**common, "label": "this package", "AP": ap, "AP50": 0.9, "AP75": None, "seconds": 600} for ap in (0.5, 0.6)
    ]
    peer = [{**common, "label": "torchvision", "AP": 0.4, "AP50": 0.8, "AP75": 0.3, "seconds": 1200}]
    rows = table([*peer, *ours, {**peer[0], "phase": "val"}], "test").splitlines()[2:]
    deviation = np.std([0.5, 0.6], ddof=1)
    assert rows == [
        "| cells | all 292 | **this package** | 925 | "
        f"**0.550** ± {deviation:.3f} | **0.900** ± 0.000 | 0.000 ± 0.000 | 10 | 2 seeds |",
        "| cells | all 292 | torchvision | 925 | 0.400 | 0.800 | 0.300 | 20 | 1 seed |",
    ]


def test_seconds_of_training_come_from_the_rates_of_the_log() -> None:
    log = [{"step": 10, "images_per_second": 4.0}, {"step": 15, "images_per_second": 2.0}]
    assert trained_seconds(log, batch_size=8) == 10 * 8 / 4 + 5 * 8 / 2


def test_words_of_the_command() -> None:
    assert parse_images(["all", "50", "50:85", "all:3"], 25) == [(None, 25), (50, 25), (50, 85), (None, 3)]
    assert parse_sets(["a=x", "b=y=z"]) == {"a": Path("x"), "b": Path("y=z")}
    for words in (["x"], ["=x"], ["a="], ["a=x", "a=y"], ["a/b=x"]):
        with pytest.raises(ArgumentError, match="Write name=folder"):
            parse_sets(words)
    for word in ("0", "some", "50:", "50:0", ":3"):
        with pytest.raises(ArgumentError, match="Write all, 50 or 50:EPOCHS"):
            parse_images([word], 25)


def test_as_many_images_as_there_are_may_be_named(tmp_path: Path) -> None:
    assert complete(suite(tmp_path, Trainers(), "--seeds", "0"), cells(tmp_path / "cells"), count=8) == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "no data set"),
        (["cells=nowhere"], "no such data folder"),
        (["{cells}", "--images", "9"], "9 are too many; cells has 8 images"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list, problem: str) -> None:
    folder = cells(tmp_path / "cells")
    words = [word.replace("{cells}", f"cells={folder}") for word in words]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert problem in error


def test_the_tiny_suite_trains_and_scores_both_sides_and_trains_nothing_the_second_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--tiny", "--out", str(tmp_path)]) == 0
    first = capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["detector"], row["steps"], row["scorings"], row["scored_images"]) for row in rows] == [
        (OURS, 1, 1, 2),
        (PEER, 1, 1, 2),
    ]
    assert all(0 <= row["AP"] <= row["AP50"] <= 1 and row["seconds"] >= 0 for row in rows)
    assert {row["precision"] for row in rows} == {"bf16" if cpu_has_bf16() else "fp32"}
    assert not list(tmp_path.rglob("*.pt"))
    written = first[first.index("| set |") :]
    assert written.count("\n| shapes | all 2 |") == 2
    assert main(["--tiny", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == written


def test_the_tiny_set_is_written_once_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_tiny_set(tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 13
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes() for file in files)
