"""Configs of the version before: files that people wrote, and `config.yaml` of its runs, under `configs_before/`."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from ssd.errors import ConfigError
from ssd.experiment.config import Config, resolve
from ssd.experiment.config_file import builtin, from_dict, load, to_dict, upgraded_state
from ssd.experiment.key_types import key_type
from ssd.experiment.retired_keys import RETIRED
from ssd.training.state import _changes

BEFORE = Path(__file__).parent / "configs_before"
# Defaults that have changed since.
DEFAULTS = {
    "finetune": ["train.epochs=25", "augment.expand=4", "augment.crop=0.3", "model.box_voting=0.05"],
    "ssd512_coco": [],
    "demo": ["model.box_voting=0.05"],
}


@pytest.mark.parametrize("name", ["demo", "finetune", "ssd512_coco"])
def test_a_shipped_config_of_before_still_says_the_same(name: str) -> None:
    old, new = load(BEFORE / f"{name}.yaml", DEFAULTS[name]), load(builtin(name), DEFAULTS[name])
    if name == "demo":  # what it left to the old defaults
        old = dataclasses.replace(old, model=dataclasses.replace(old.model, box_table="voc"))
    if name == "ssd512_coco":
        assert old.optim.schedule == (0.7, 0.9)
    assert old == new


@pytest.mark.parametrize("name", ["finetune", "ssd512_coco"])
def test_the_config_of_an_old_run_is_what_its_config_file_gives_today(name: str) -> None:
    words = ["data.workers=2", "data.group=copies"]  # auto today; a run keeps its division
    today = load(builtin(name), [*words, *DEFAULTS[name]])
    assert load(BEFORE / f"run_of_{name}.yaml") == resolve(today)


@pytest.mark.parametrize("name", ["finetune", "ssd512_coco"])
def test_an_old_run_is_resumed_without_a_word_about_its_config(name: str) -> None:
    saved = yaml.safe_load((BEFORE / f"run_of_{name}.yaml").read_text())
    words = ["data.group=copies", *DEFAULTS[name]]  # as `build_parts` sets for such a run
    now = to_dict(resolve(load(builtin(name), words)))
    assert list(_changes(upgraded_state(saved, "state"), now)) == []


def test_no_retired_key_is_a_key() -> None:
    for dotted in RETIRED:
        group, key = dotted.split(".")
        assert key_type([group]) is not None
        assert key_type([group, key]) is None


@pytest.mark.parametrize("mode", ["default", "paper"])
@pytest.mark.parametrize("dotted", RETIRED)
def test_a_retired_key_with_the_value_that_is_fixed_now_is_taken_and_with_another_is_one_clear_line(
    dotted: str, mode: str
) -> None:
    group, key = dotted.split(".")
    fixed = RETIRED[dotted].now(mode)
    assert from_dict({"mode": mode, group: {key: fixed}}) == from_dict({"mode": mode})
    assert from_dict({"mode": mode, group: {key: None}}) == from_dict({"mode": mode})
    with pytest.raises(ConfigError) as error:
        load(None, [f"mode={mode}", f"{dotted}=77"])
    assert f"{dotted} = 77" in str(error.value)
    assert error.value.remedy
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["model.resize=uint8"], "write mode=paper"),
        (["mode=paper", "augment.order=warp"], "write mode=default"),
        (["optim.lr_per_picture=1e-3"], "Set optim.lr=RATE instead"),
        (["train.coco_backend=fast"], "--coco-backend"),
    ],
)
def test_the_line_says_what_to_write_instead(words: list[str], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        load(None, words)


def test_with_a_learning_rate_the_numbers_of_its_rule_did_not_count() -> None:
    assert load(None, ["optim.lr=0.01", "optim.lr_per_picture=1", "optim.max_lr=1"]).optim.lr == 0.01


@pytest.mark.parametrize(
    ("words", "expand", "crop"),
    [
        (["augment.expand=true"], 4, 0.6),
        (["augment.expand=false"], 1, 0.6),
        (["augment.max_expand=3"], 3, 0.6),
        (["augment.expand=true", "augment.max_expand=3"], 3, 0.6),
        (["augment.expand=false", "augment.max_expand=3"], 1, 0.6),
        (["augment.expand=1.5"], 1.5, 0.6),
        (["augment.crop=true"], 2, 0.3),
        (["augment.crop=off"], 2, 1),
        (["augment.crop=0.5"], 2, 0.5),
        (["mode=paper"], 4, 0.3),
        (["mode=paper", "augment.expand=false"], 1, 0.3),
        (["mode=paper", "augment.crop=false"], 4, 1),
        ([], 2, 0.6),
    ],
)
def test_the_switches_of_expansion_and_crop_are_numbers(words: list[str], expand: float, crop: float) -> None:
    augment = load(None, words).augment
    assert (augment.expand, augment.crop) == (expand, crop)


def test_what_trains_no_other_network_does_not_stop_a_resume() -> None:
    saved = to_dict(Config()) | {"train": {"keep": 9, "save_every": 3, "coco_backend": "fast"}}
    assert upgraded_state(saved, "state")["train"] == {}
    with pytest.raises(ConfigError, match=r"state: optim\.momentum = 0\.95"):
        upgraded_state({"optim": {"momentum": 0.95}}, "state")


def test_the_numbers_of_drawn_images_moved_into_one_list() -> None:
    assert load(None, ["data.shapes_train=12", "data.shapes_size=80"]).data.shapes == (12, 80, 80)
    assert load(builtin("demo"), ["data.shapes_val=4"]).data.shapes == (1600, 4, 160)


@pytest.mark.parametrize(
    ("words", "schedule"),
    [
        (["optim.schedule=steps"], (2 / 3, 5 / 6)),
        (["optim.schedule=steps", "optim.steps=[0.5]"], (0.5,)),
        (["optim.steps=[0.5]"], "cosine"),
        (["mode=paper", "optim.steps=[0.5]"], (0.5,)),
        (["mode=paper", "optim.schedule=cosine", "optim.steps=[0.5]"], "cosine"),
    ],
)
def test_the_steps_of_a_schedule_are_the_schedule(words: list[str], schedule: object) -> None:
    assert load(None, words).optim.schedule == schedule
