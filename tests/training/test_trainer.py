import contextlib
import dataclasses
import itertools
import json
import shutil
import signal
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from ssd.errors import CheckpointError, NonFiniteLossError
from ssd.experiment import config_file as configs
from ssd.experiment.config import Config, resolve
from ssd.report.run_log import read_rows
from ssd.settings import LossRules, Settings
from ssd.training import learner, parts, run_folder, saving, trainer, validation
from ssd.training.checkpoints import load_state, save_state
from ssd.training.optim import AveragedNetwork
from ssd.training.run_folder import RunFolder
from ssd.training.signals import StopRequest
from ssd.training.state import TrainState, _changes
from ssd.training.step import TrainStep
from ssd.weights.native import load_weights
from tests.training.runs import TINY, assert_same, environment, run_training, train_command


def tiny(folder: Path, *words: str) -> Config:
    return configs.load(configs.builtin("demo"), [*TINY, f"output={folder}", "name=tiny", *words])


def rows(folder: Path, name: str = "train") -> list[dict[str, Any]]:
    """Rows of a run without what a clock says."""
    return [
        {key: value for key, value in row.items() if "second" not in key}
        for row in read_rows(folder / "tiny" / f"{name}.jsonl")
    ]


def final_state(folder: Path) -> dict[str, Any]:
    return load_state(sorted((folder / "tiny").glob("state-*.pt"))[-1])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, with averaging, accumulation and warm-up on."""
    folder = tmp_path_factory.mktemp("finished")
    torch.set_num_threads(1)  # like every test, and like the processes it is compared with
    with mock.patch.object(run_folder, "STATES_KEPT", 9):
        trainer.train(tiny(folder, *HARD), progress=False)
    return folder


HARD = ("optim.accumulate=2", "optim.ema=0.9", "train.eval_every=2")


def test_a_run_leaves_config_environment_rows_states_and_weights(finished: Path) -> None:
    run = finished / "tiny"
    assert configs.load(run / "config.yaml").train.epochs == 3
    facts = json.loads((run / "environment.json").read_text())
    assert facts["class_names"]
    assert facts["versions"]["torch"] == metadata.version("torch")
    assert [row["step"] for row in rows(finished)] == list(range(1, 10))
    assert all(0 <= row["dead_units"] < 0.9 for row in rows(finished))
    assert [row["step"] for row in rows(finished, "val")] == [6, 9]
    assert {"AP", "AP50", "loss_total"} <= rows(finished, "val")[0].keys()
    assert (run / "train.csv").read_text().count("\n") == 10
    assert "<h1>Training: tiny</h1>" in (run / "report.html").read_text()
    state, settings, extra = load_weights(run / "best.safetensors")
    assert settings.class_names == tuple(facts["class_names"])
    assert extra["config"]["name"] == "tiny"
    assert all(tensor.dtype != torch.bfloat16 for tensor in state.values())


def test_a_page_that_cannot_be_written_is_no_reason_to_lose_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tiny" / "report.html").mkdir(parents=True)  # a folder in its place
    (tmp_path / "tiny" / "config.yaml").write_text("name: tiny\n")
    outcome = trainer.train(tiny(tmp_path, "train.epochs=1"), resume="auto", progress=False)
    assert outcome.exit_code == 0
    assert outcome.folder.best.is_file()
    assert "the page of the run could not be written" in caplog.text


def test_a_run_resumed_from_any_state_ends_bit_for_bit_like_the_uninterrupted_one(
    finished: Path, tmp_path: Path
) -> None:
    reference = final_state(finished)
    for step in (3, 6):
        folder = tmp_path / str(step)
        run = folder / "tiny"
        run.mkdir(parents=True)
        for name in ("train.jsonl", "val.jsonl", f"state-{step:08d}.pt"):
            (run / name).write_bytes((finished / "tiny" / name).read_bytes())
        torch.manual_seed(999)  # whatever the process did before
        trainer.train(tiny(folder, *HARD), resume="auto", progress=False)
        assert_same(final_state(folder) | {"config": None}, reference | {"config": None})
        assert rows(folder) == rows(finished)
        assert rows(folder, "val") == rows(finished, "val")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop_a_run_finishes_its_step_saves_and_says_so(
    finished: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    command = train_command(tmp_path, *HARD, "train.epochs=60", "optim.schedule=[]")
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    log = tmp_path / "tiny" / "train.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().splitlines()) >= 2):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"--resume {tmp_path / 'tiny'}" in errors
    saved = final_state(tmp_path)
    assert saved["step"] % 3 != 1  # an epoch is one update of two batches and one of one: never half of the first


def test_a_loss_that_is_not_finite_names_the_images_and_writes_nothing(tmp_path: Path) -> None:
    config = tiny(tmp_path, "optim.lr=1e30", "optim.clip_norm=null", "model.backbone=vgg16", "model.extras_norm=none")
    with pytest.raises(NonFiniteLossError) as error:
        trainer.train(config, progress=False)
    assert "shapes/train/" in str(error.value)
    assert "learning rate" in str(error.value)
    for path in (tmp_path / "tiny").glob("state-*.pt"):
        assert all(torch.isfinite(t).all() for t in load_state(path)["network"].values())


def test_weights_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    """A finite loss whose gradients were not, in the last step of an epoch."""

    def poison(step: TrainStep, updates: int) -> None:
        next(step.network.parameters()).data.fill_(torch.nan)

    with mock.patch.object(TrainStep, "update", poison), pytest.raises(NonFiniteLossError, match="step 1"):
        trainer.train(tiny(tmp_path, "data.shapes=[4, 4, 80]"), progress=False)
    assert not list((tmp_path / "tiny").glob("*.pt"))
    assert not list((tmp_path / "tiny").glob("*.safetensors"))


def test_a_state_of_other_classes_is_refused(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    run.mkdir()
    newest = sorted((finished / "tiny").glob("state-*.pt"))[-1]
    (run / newest.name).write_bytes(newest.read_bytes())
    saved = load_state(newest)
    config = tiny(tmp_path, *HARD)
    settings = Settings.from_dict(saved["settings"])
    other_names = tuple(f"other {name}" for name in settings.class_names)
    with pytest.raises(CheckpointError, match=r"was trained on .*model\.weights"):
        _restore_with(config, dataclasses.replace(settings, class_names=other_names), saved)


def test_a_state_of_other_default_boxes_is_refused(finished: Path, tmp_path: Path) -> None:
    saved = load_state(sorted((finished / "tiny").glob("state-*.pt"))[-1])
    settings = Settings.from_dict(saved["settings"])
    moved = dataclasses.replace(settings.boxes, steps=tuple(step + 1 for step in settings.boxes.steps))
    with pytest.raises(CheckpointError, match=r"was trained with boxes\.steps .*same weights to start from"):
        _restore_with(tiny(tmp_path, *HARD), dataclasses.replace(settings, boxes=moved), saved)
    del saved["settings"]
    with pytest.raises(CheckpointError, match=r"older version.*model\.weights"):
        _restore_with(tiny(tmp_path, *HARD), settings, saved)


def test_what_is_used_after_training_may_change_in_a_resumed_run_and_is_named(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved = load_state(sorted((finished / "tiny").glob("state-*.pt"))[-1])
    settings = Settings.from_dict(saved["settings"])
    del saved["settings"]["postprocessing"]["box_voting"]  # as written before there was voting
    saved["settings"]["preprocessing"]["resize"] = "uint8"
    # It gets as far as the weights, which do not fit the one layer of this test.
    with caplog.at_level("WARNING"), pytest.raises(CheckpointError, match="another network"):
        _restore_with(tiny(tmp_path, *HARD), settings, saved)
    assert f"postprocessing.box_voting was 0.0, is {settings.postprocessing.box_voting}" in caplog.text
    assert "preprocessing.resize was uint8, is area" in caplog.text


def _restore_with(config: Config, settings: Settings, saved: dict[str, Any]) -> None:
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    TrainState(network, AveragedNetwork(network, 0.0), optimizer, scaler, configs.to_dict(config), settings).restore(
        saved, "state.pt"
    )


def test_resume_auto_without_a_state_starts_fresh_and_a_wrong_path_is_an_error(tmp_path: Path) -> None:
    outcome = trainer.train(tiny(tmp_path, "train.epochs=1"), resume="auto", progress=False)
    assert outcome.evaluation is not None
    with pytest.raises(CheckpointError, match=r"nowhere\.pt"):
        trainer.train(tiny(tmp_path), resume=str(tmp_path / "nowhere.pt"), progress=False)


def test_resuming_goes_on_in_the_run_that_was_stopped_and_touches_no_other(tmp_path: Path) -> None:
    first = trainer.train(tiny(tmp_path, "train.epochs=1"), progress=False).folder.path
    before = {path: path.read_bytes() for path in first.iterdir() if path.is_file()}
    second = trainer.train(tiny(tmp_path, "train.epochs=1"), progress=False).folder.path
    longer = tiny(tmp_path, "train.epochs=2")
    assert trainer.train(longer, resume="auto", progress=False).folder.path == second
    state = str(sorted(second.glob("state-*.pt"))[-1])
    for named in (str(second), state):
        assert trainer.train(longer, resume=named, progress=False).folder.path == second
    assert {path: path.read_bytes() for path in first.iterdir() if path.is_file()} == before


def test_a_number_that_belongs_to_a_name_is_no_second_run(tmp_path: Path) -> None:
    trainer.train(tiny(tmp_path, "train.epochs=1", "name=tiny-2"), progress=False)
    first = trainer.train(tiny(tmp_path, "train.epochs=1"), progress=False).folder.path
    assert trainer.train(tiny(tmp_path, "train.epochs=1"), resume="auto", progress=False).folder.path == first


def test_a_run_is_not_resumed_on_other_images(tmp_path: Path) -> None:
    trainer.train(tiny(tmp_path, "train.epochs=1"), progress=False)
    with pytest.raises(CheckpointError, match=r"other images or objects.*model\.weights"):
        trainer.train(tiny(tmp_path, "train.epochs=1", "data.shapes=[11, 4, 80]"), resume="auto", progress=False)


def test_what_changed_since_the_start_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer.train(tiny(tmp_path, "train.epochs=1"), progress=False)
    trainer.train(tiny(tmp_path, "train.epochs=2"), resume="auto", progress=False)
    assert "train.epochs was 1, is 2" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        trainer.train(tiny(tmp_path, "train.epochs=2"), resume="auto", progress=False)
    assert "finished already" in caplog.text


def test_a_weight_of_a_class_that_was_added_or_removed_is_a_change() -> None:
    """A value that is a mapping is compared as a whole."""
    one = {"loss": {"class_weights": {"circle": 5.0}, "match_iou": 0.5}, "name": "a"}
    for before, now in itertools.permutations([{}, {"circle": 5.0}, {"square": 9.0, "circle": 5.0}], 2):
        saved, config = (one | {"loss": one["loss"] | {"class_weights": weights}} for weights in (before, now))
        assert list(_changes(saved, config)) == [("loss.class_weights", before, now)]
    assert list(_changes(one, one | {"name": "b"})) == []


@pytest.mark.parametrize("words", [("optim.lr=0.5",), ("optim.lr=0.5", "train.epochs=2"), ("train.patience=1",)])
def test_a_finished_run_that_is_resumed_stays_as_it_is(
    words: tuple[str, ...], finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(finished / "tiny", run)
    if "train.patience=1" in words:  # ended before its last epoch
        saved = load_state(run / "state-00000006.pt")
        (run / "state-00000009.pt").unlink()
        save_state(run / "state-00000006.pt", saved | {"since_best": 1})
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with caplog.at_level("INFO"):
        outcome = trainer.train(tiny(tmp_path, *HARD, *words), resume="auto", progress=False)
    assert (outcome.exit_code, outcome.evaluation) == (0, None)
    assert f"finished already, at step {outcome.steps}" in caplog.text
    assert words[0].partition("=")[0] + " was" in caplog.text
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_run_that_was_killed_in_its_last_evaluation_repeats_it(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(finished / "tiny", run)
    save_state(run / "state-00000009.pt", load_state(run / "state-00000009.pt") | {"evaluated": 6})
    (run / "last.safetensors").unlink()
    outcome = trainer.train(tiny(tmp_path, *HARD), resume="auto", progress=False)
    assert outcome.evaluation is not None
    assert outcome.folder.last.is_file()
    assert final_state(tmp_path)["evaluated"] == 9


@pytest.mark.parametrize(("word", "problem"), [
    ("train.batch_size=2", r"with 3 steps in an epoch, not 6\. Resume with its train\.batch_size"),
    ("model.freeze_stages=2", r"other layers.*Resume with its model\.freeze_stages"),
    ("optim.backbone_lr_factor=0.1", None),
])  # fmt: skip
def test_what_a_state_does_not_fit_is_refused_before_a_step(
    word: str, problem: str | None, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "tiny", tmp_path / "tiny")
    longer = tiny(tmp_path, *HARD, "train.epochs=4", word)
    if problem is None:  # without pretrained layers there are no groups of their own
        assert trainer.train(longer, resume="auto", progress=False).steps == 12
        return
    with pytest.raises(CheckpointError, match=problem):
        trainer.train(longer, resume="auto", progress=False)
    assert final_state(tmp_path)["step"] == 9


def test_the_options_of_the_optimizer_and_the_average_of_a_resumed_run_are_those_of_its_config(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def decays(folder: Path) -> set[float]:
        return {group["weight_decay"] for group in final_state(folder)["optimizer"]["param_groups"]}

    plain = tiny(tmp_path, "train.epochs=1", "optim.ema=0", "optim.weight_decay=0.001")
    trainer.train(plain, progress=False)
    assert decays(tmp_path) == {0.001, 0.0}
    changed = tiny(tmp_path, "train.epochs=2", "optim.ema=0.5", "optim.weight_decay=0.002")
    trainer.train(changed, resume="auto", progress=False)
    assert "optim.weight_decay was 0.001, is 0.002" in caplog.text
    assert decays(tmp_path) == {0.002, 0.0}
    saved = final_state(tmp_path)
    assert not torch.equal(saved["average"]["backbone.conv1_1.weight"], saved["network"]["backbone.conv1_1.weight"])


def test_a_run_resumed_in_another_precision_goes_on(finished: Path) -> None:
    saved = load_state(sorted((finished / "tiny").glob("state-*.pt"))[-1])
    assert saved["scaler"] == {}
    layer = torch.nn.Linear(1, 1)
    state = TrainState(
        layer,
        AveragedNetwork(layer, 0.0),
        torch.optim.SGD(layer.parameters(), lr=0.1),
        torch.amp.GradScaler("cpu", enabled=True),
        saved["config"],
        Settings.from_dict(saved["settings"]),
    )
    ours = {"network": layer.state_dict(), "optimizer": state.optimizer.state_dict()}
    state.restore(saved | ours, "state.pt")
    assert state.step == 9


def test_weights_that_a_run_chose_are_not_chosen_again(tmp_path: Path) -> None:
    trainer.train(tiny(tmp_path, "train.epochs=1"), progress=False)
    again = tiny(tmp_path, "train.epochs=2")
    chooses = dataclasses.replace(again, model=dataclasses.replace(again.model, backbone_weights="auto"))
    with mock.patch("ssd.experiment.named_start.fetch_vgg", side_effect=AssertionError("fetched")):
        outcome = trainer.train(chooses, resume="auto", progress=False)
    assert outcome.steps == 6
    assert configs.load(tmp_path / "tiny" / "config.yaml").model.backbone_weights == "none"


def test_a_state_supersedes_later_ones_of_the_run_that_was_taken_up_earlier(tmp_path: Path) -> None:
    (tmp_path / "state-backup.pt").touch()  # a user's own
    for step in (100, 200, 300, 130):
        RunFolder(tmp_path).save_state({"step": step}, step)
    assert run_folder.find_state(RunFolder(tmp_path), "auto") == {"step": 130}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-00000130.pt", "state-backup.pt"]


def test_the_length_of_a_run_is_chosen_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    auto, log_level = tiny(tmp_path, "train.epochs=auto"), caplog.at_level("INFO")
    asked = mock.Mock(return_value=2)
    monkeypatch.setattr(parts, "choose_epochs", asked)
    with log_level:
        run = trainer.train(auto, progress=False).folder.path
        assert asked.call_args.args == (3, 4, 1)  # steps, images, accumulated
        assert configs.load(run / "config.yaml").train.epochs == 2
        asked.return_value = 5
        assert trainer.train(auto, resume="auto", progress=False).steps == 6
    assert "finished already" in caplog.text
    assert "train.epochs was" not in caplog.text


def test_a_second_run_of_the_same_name_gets_its_own_folder(tmp_path: Path) -> None:
    first = trainer.train(tiny(tmp_path, "train.epochs=1"), progress=False)
    second = trainer.train(tiny(tmp_path, "train.epochs=1"), progress=False)
    assert (first.folder.path.name, second.folder.path.name) == ("tiny", "tiny-2")
    assert first.folder.best.exists()


def test_fine_tuning_takes_head_rows_by_class_name(finished: Path, tmp_path: Path) -> None:
    source = finished / "tiny" / "best.safetensors"
    state, settings, _ = load_weights(source)
    from ssd.experiment import start as starting

    config = resolve(tiny(tmp_path, f"model.weights={source}"))
    names = ("penguin", settings.class_names[1], settings.class_names[0])
    begin = starting.start(config, names)
    new = begin.network.state_dict()
    assert torch.equal(new["backbone.conv1_1.weight"], state["backbone.conv1_1.weight"])
    old_rows = state["head.classes.0.bias"].view(-1, settings.num_classes + 1)
    new_rows = new["head.classes.0.bias"].view(-1, 4)
    assert torch.equal(new_rows[:, [0, 2, 3]], old_rows[:, [0, 2, 1]])
    assert begin.fresh == ()


def test_two_processes_train_like_one_with_the_same_global_batch(tmp_path: Path) -> None:
    """Twenty steps in fp32, without BatchNorm, whose statistics are each process's own.

    Every default box counts as a negative: with 3:1 mining the last digit of a sum sooner or later decides which of two
    boxes is the hardest, and from there on two correct runs part.
    """
    words = ("model.backbone=vgg16", "model.extras_norm=none", "train.epochs=7", "train.eval_every=7", "optim.lr=1e-4")
    words += ("loss.negative_ratio=100000",)
    losses = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        done = run_training(folder, *words, processes=processes)
        assert done.returncode == 0, done.stderr
        losses[processes] = rows(folder)
    assert len(losses[1]) == 21
    for one, two in itertools.islice(zip(losses[1], losses[2], strict=True), 20):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["positives"] == pytest.approx(one["positives"])
    one, two = (rows(tmp_path / str(n), "val")[-1] for n in (1, 2))
    assert one["AP"] == pytest.approx(two["AP"], abs=1e-6)
    assert one["loss_total"] == pytest.approx(two["loss_total"], rel=1e-4)


def test_every_number_of_the_loss_reaches_the_step(tmp_path: Path) -> None:
    rules = LossRules(
        match_iou=0.6,
        negative_iou=0.3,
        negative_ratio=2,
        negatives_per_empty_image=5,
        label_smoothing=0.1,
        class_weights={"star": 2.0},
    )
    words = [f"loss.{name}={number}" for name, number in dataclasses.asdict(rules).items()]
    with mock.patch.object(learner, "TrainStep", wraps=learner.TrainStep) as made:
        trainer.train(tiny(tmp_path, "train.epochs=1", "data.shapes=[4, 4, 80]", *words), progress=False)
    assert made.call_args.kwargs["rules"] == rules
    assert made.call_args.kwargs["variances"] == (0.1, 0.1, 0.2, 0.2)
    assert made.call_args.kwargs["class_weights"].tolist() == [1, 1, 1, 2, 1]  # circle, square, star, triangle


def test_every_option_of_the_optimizer_reaches_what_is_trained(tmp_path: Path) -> None:
    words = ("optim.lr=0.002", "optim.warmup=3", "optim.schedule=[0.5]", "optim.clip_norm=3", "optim.accumulate=2")
    words += ("optim.weight_decay=0.003", "optim.backbone_lr_factor=0.25", "optim.ema=0.5", "mode=paper")
    names = ("TrainStep", "Schedule", "AveragedNetwork", "parameter_groups")
    made = {name: mock.Mock(wraps=getattr(learner, name)) for name in names}
    with mock.patch.multiple(learner, **made):
        trainer.train(tiny(tmp_path, "train.epochs=2", *words), progress=False)
    assert made["Schedule"].call_args.args == (0.002, 4, 3, (0.5,))  # two updates in an epoch of three steps
    assert made["AveragedNetwork"].call_args.args[1] == 0.5
    step, groups = made["TrainStep"].call_args.kwargs, made["parameter_groups"].call_args.kwargs
    assert (step["clip_norm"], step["accumulate"]) == (3.0, 2)
    assert (groups["weight_decay"], groups["bias_lr_factor"], groups["pretrained_lr_factor"]) == (0.003, 2.0, 0.25)


def test_the_averaged_weights_are_evaluated(tmp_path: Path) -> None:
    with mock.patch.object(validation, "NetworkPipeline", wraps=validation.NetworkPipeline) as made:
        run = trainer.train(tiny(tmp_path, *HARD, "train.epochs=1"), progress=False).folder
    evaluated, saved = made.call_args.args[0].state_dict(), load_weights(run.last)[0]
    assert all(torch.equal(evaluated[name], tensor) for name, tensor in saved.items())


def test_configs_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny(tmp_path).name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(("seconds", "saves"), [(60.0, [3, 9]), (0.0, [3, 6, 9, 9])])
def test_a_state_is_saved_at_most_once_a_minute_and_always_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, saves: list[int]
) -> None:
    """Three epochs of three steps, evaluated after the last: a state before that evaluation and one after it."""
    steps: list[int] = []
    monkeypatch.setattr(saving, "SECONDS_BETWEEN", seconds)
    monkeypatch.setattr(RunFolder, "save_state", lambda _, __, step: steps.append(step))
    trainer.train(tiny(tmp_path), progress=False)
    assert steps == saves


def test_a_new_best_is_saved_with_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations after every epoch, the second of which is the best."""
    aps, steps = iter([0.2, 0.3, 0.1]), list[int]()
    real = validation.evaluate
    monkeypatch.setattr(
        validation,
        "evaluate",
        lambda *args, **options: dataclasses.replace(real(*args, **options), metrics={"AP": next(aps)}),  # type: ignore[type-var]
    )
    monkeypatch.setattr(RunFolder, "save_state", lambda _, __, step: steps.append(step))
    trainer.train(tiny(tmp_path, "train.eval_every=1", "train.epochs=4", "train.patience=1"), progress=False)
    assert steps == [3, 3, 6, 9]  # the third evaluation ends the run


def stopped_after(updates: int) -> contextlib.AbstractContextManager[Any]:
    """A signal that asks to stop after so many updates."""
    asked = (number >= updates for number in itertools.count(1))
    return mock.patch.object(StopRequest, "__bool__", side_effect=asked)


def test_a_run_goes_on_without_the_weights_that_it_started_from(finished: Path, tmp_path: Path) -> None:
    start = shutil.copy(finished / "tiny" / "last.safetensors", tmp_path / "start.safetensors")
    words = (f"model.weights={start}", "train.eval_every=9")
    for folder in ("whole", "stopped"):
        with stopped_after(4) if folder == "stopped" else contextlib.nullcontext():
            outcome = trainer.train(tiny(tmp_path / folder, *words), progress=False)
    assert outcome.steps == 4
    Path(start).unlink()
    with pytest.raises(CheckpointError, match="no such weights file"):  # another network needs them
        trainer.train(tiny(tmp_path / "stopped", *words, "model.input_size=96"), resume="auto", progress=False)
    shutil.copytree(tmp_path / "stopped", tmp_path / "voting")
    changed = (*words, "model.box_voting=0.3", f"output={tmp_path / 'voting'}")
    outcome = trainer.train(tiny(tmp_path / "voting", *changed), resume="auto", progress=False)
    assert load_weights(outcome.folder.last)[1].postprocessing.box_voting == 0.3
    trainer.train(tiny(tmp_path / "stopped", *words), resume="auto", progress=False)
    same = {"config": None}
    assert_same(final_state(tmp_path / "stopped") | same, final_state(tmp_path / "whole") | same)


def test_a_run_stopped_between_log_rows_writes_the_rows_of_the_uninterrupted_one(tmp_path: Path) -> None:
    words = ("train.log_every=3", "train.epochs=1", "data.shapes=[20, 4, 80]", "loss.match_iou=0.9")
    trainer.train(tiny(tmp_path / "whole", *words), progress=False)
    with stopped_after(2):
        assert trainer.train(tiny(tmp_path / "stopped", *words), progress=False).steps == 2
    trainer.train(tiny(tmp_path / "stopped", *words), resume="auto", progress=False)
    assert [row["step"] for row in rows(tmp_path / "whole")] == [3, 5]
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")


def test_a_run_with_fewer_epochs_than_it_has_trained_is_evaluated_and_ends(tmp_path: Path) -> None:
    with stopped_after(4):
        assert trainer.train(tiny(tmp_path, "train.eval_every=9"), progress=False).evaluation is None
    outcome = trainer.train(tiny(tmp_path, "train.eval_every=9", "train.epochs=1"), resume="auto", progress=False)
    assert (outcome.steps, outcome.exit_code) == (4, 0)
    assert outcome.evaluation is not None
    assert outcome.folder.last.is_file()
    assert [row["step"] for row in rows(tmp_path, "val")] == [4]
    again = trainer.train(tiny(tmp_path, "train.eval_every=9", "train.epochs=1"), resume="auto", progress=False)
    assert again.evaluation is None
