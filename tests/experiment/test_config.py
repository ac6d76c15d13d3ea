import dataclasses
from pathlib import Path

import pytest

from ssd.commands.train import load_config
from ssd.errors import ConfigError
from ssd.experiment import config_file as configs
from ssd.experiment.config import Config, ModelConfig, resolve


def test_a_saved_config_loads_back_equal(tmp_path: Path) -> None:
    config = resolve(configs.load(None, ["model.input_size=512", "data.classes=[cat, dog]", "mode=paper"]))
    path = tmp_path / "config.yaml"
    path.write_text(configs.to_yaml(config))
    assert configs.load(path) == config


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_config_loads_and_says_what_it_reproduces(path: Path) -> None:
    config = configs.load(path)
    assert config.name == path.stem
    assert "python tools/train.py" in path.read_text()


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.bakbone=vgg16", ("model.bakbone", "'model.backbone'")),
        ("modell.backbone=vgg16", ("modell", "'model'")),
        ("train.epochs=many", ("train.epochs", "'many'")),
        ("mode=fast", ("mode", "'fast'")),
        ("train.epochs", ("train.epochs", "group.key=value")),
        ("name.deeper=1", ("name",)),
        ("data.folder.deeper=1", ("data.folder", "text or null")),
        ("model=vgg16", ("model = 'vgg16'", "model.key=value")),
    ],
)
def test_a_wrong_override_names_key_and_value(override: str, named: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        configs.load(None, ["name=x", override])
    for text in named:
        assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        configs.load(missing)
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: {backbone: [")
    with pytest.raises(ConfigError, match=r"broken\.yaml.*not valid YAML"):
        configs.load(broken)
    scalar = tmp_path / "scalar.yaml"
    scalar.write_text("42")
    with pytest.raises(ConfigError, match=r"scalar\.yaml"):
        configs.load(scalar)
    with pytest.raises(ConfigError, match=r"is a folder, not a config file\. If it holds images, write --data"):
        configs.load(tmp_path)


def test_the_yaml_of_a_data_set_is_no_config(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("train: images/train\nval: images/val\nnc: 1\nnames: [cat]\n")
    with pytest.raises(ConfigError, match=rf"describes a YOLO data set.*--data {path}$"):
        configs.load(path)


def test_a_mistake_is_placed_where_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train: {epochs: 3}")
    with pytest.raises(ConfigError, match=r"^the command line: unknown key 'train.epoch'"):
        configs.load(path, ["train.epoch=5"])
    path.write_text("train: {epoch: 3}")
    with pytest.raises(ConfigError, match=r"mine\.yaml: unknown key 'train.epoch'"):
        configs.load(path, ["train.batch_size=5"])


def test_numbers_people_write_are_numbers() -> None:
    config = configs.load(None, ["optim.lr=1e-3", "optim.clip_norm=null"])
    assert config.optim.lr == 0.001
    assert config.optim.clip_norm is None


def test_paper_mode_is_the_papers_and_each_switch_can_be_overruled(tmp_path: Path) -> None:
    paper = resolve(configs.load(None, ["mode=paper", "train.batch_size=32"]))
    assert paper.optim.lr == pytest.approx(1e-3)
    assert paper.mode_rules.bias_lr_factor == 2
    assert paper.loss.negatives_per_empty_image == 0
    assert paper.loss.negative_iou == 1
    assert paper.mode_rules.truncate_box_sizes
    assert configs.load().loss.negative_iou == 0.4
    assert paper.optim.schedule == (2 / 3, 5 / 6)
    assert (paper.optim.warmup, paper.optim.ema) == (0, 0.0)
    (tmp_path / "empty.yaml").write_text("mode: paper\nmodel:\n  # input_size: 512\nloss: ~\n")
    assert configs.load(tmp_path / "empty.yaml") == configs.load(None, ["mode=paper"])
    mixed = resolve(configs.load(None, ["mode=paper", "optim.ema=0.99"]))
    assert mixed.optim.ema == 0.99
    assert mixed.optim.schedule == (2 / 3, 5 / 6)


def test_the_learning_rate_follows_the_images_of_a_step() -> None:
    def lr(*words: str) -> float:
        rate = resolve(configs.load(None, words)).optim.lr
        assert rate is not None
        return rate

    assert lr("train.batch_size=16") == pytest.approx(2 * lr("train.batch_size=8"))
    assert lr("train.batch_size=8", "optim.accumulate=2") == pytest.approx(lr("train.batch_size=16"))
    assert lr("train.batch_size=64") == lr("train.batch_size=16") == 0.012
    assert lr("mode=paper", "train.batch_size=64") == pytest.approx(2e-3)
    assert lr("optim.lr=0.5") == 0.5


def test_a_file_with_two_keys_gives_what_the_command_line_with_those_two_gives(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {folder: my_images}\ntrain: {epochs: 3}\n")
    assert load_config([str(path)]) == load_config(["train.epochs=3"], "my_images", None)
    assert configs.load(path).model == ModelConfig()


def test_the_example_config_changes_nothing() -> None:
    assert configs.load(configs.builtin("finetune")) == Config()


def test_there_are_seventy_keys_at_most() -> None:
    values = (getattr(Config(), field.name) for field in dataclasses.fields(Config))
    assert sum(len(dataclasses.fields(v)) if dataclasses.is_dataclass(v) else 1 for v in values) <= 70


def test_the_paper_lies_below_a_file_and_a_file_below_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mode: paper\noptim: {ema: 0.9}\nloss: {negative_iou: 0.5}\n")
    config = configs.load(path, ["loss.negative_iou=0.3"])
    assert (config.optim.ema, config.loss.negative_iou, config.optim.warmup) == (0.9, 0.3, 0)
    assert configs.load(path, ["mode=default"]).optim.warmup == Config().optim.warmup


def test_paper_mode_on_the_command_line_is_the_network_of_the_paper() -> None:
    model = configs.load(None, ["mode=paper"]).model
    assert (model.extras_norm, model.fc_norm, model.box_table, model.freeze_stages) == ("none", "none", "voc", 0)
