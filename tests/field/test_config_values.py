"""Values of config keys: text stays text, and every number has a range that is checked before anything starts."""

import dataclasses
import operator

import pytest

from ssd.commands import train
from ssd.errors import ConfigError
from ssd.experiment.config import Config
from ssd.experiment.config_file import load
from ssd.experiment.key_types import described, key_type

OUT_OF_RANGE = {
    "optim.lr": ("nan", ".nan", "-1", "0", "inf", "fast"),
    "optim.accumulate": ("0", "-1", "1.5"),
    "optim.weight_decay": ("-1", "nan", ".inf"),
    "optim.backbone_lr_factor": ("-0.1", "nan", "half"),
    "optim.warmup": ("-1", "2.5", "null"),
    "optim.clip_norm": ("0", "-1", "nan"),
    "optim.ema": ("2", "1", "-0.1"),
    "optim.schedule": ("linear", "[1.5]", "[0]"),
    "train.epochs": ("-1", "0", "many"),
    "train.batch_size": ("0", "-8", "1e400"),
    "train.log_every": ("0", "-10", "null"),
    "train.eval_every": ("0", "-1", "0.5"),
    "train.patience": ("0", "-1", "nan"),
    "train.compile": ("maybe", "2", "nan"),
    "loss.negative_ratio": ("-1", "0", "nan"),
    "loss.negatives_per_empty_image": ("-1", "nan", "0.5"),
    "loss.match_iou": ("nan", "0", "1.5"),
    "loss.negative_iou": ("nan", "-0.1", "2"),
    "loss.label_smoothing": ("1", "-0.1", "nan"),
    "loss.auxiliary_weight": ("-1", "nan", "inf"),
    "model.width": ("nan", "0", "-0.5"),
    "model.input_size": ("0", "-300", "100000"),
    "model.freeze_stages": ("6", "-1", "all"),
    "model.box_voting": ("2", "-0.1", "nan"),
    "model.levels": ("[0]", "[38, -1]", "38"),
    "model.min_sizes": ("[0]", "[nan]", "0.1"),
    "model.aspect_ratios": ("[2]", "[[0]]", "[[nan]]"),
    "data.workers": ("-1", "0.5", "null"),
    "data.timeout": ("0", "nan", "inf"),
    "data.shapes": ("[0, 1, 80]", "[1, 1]", "12"),
    "data.voc_offset": ("2", "-1", "null"),
    "seed": ("-1", "1.5", "99999999999999999999"),
    "name": ("x" * 300, "", "a\tb"),
    # Keys of earlier versions
    "train.keep": ("0", "-1", "nan"),
    "train.save_every": ("0", "2", "nan"),
    "optim.momentum": ("5", "0", "nan"),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in OUT_OF_RANGE.items() for value in values])
def test_a_value_out_of_range_is_one_line_before_anything_starts(key, value, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main([f"{key}={value}"]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ")
    assert "\n" not in line
    assert key in line
    assert len(line) < 250
    assert list(tmp_path.iterdir()) == []


def test_the_line_says_what_is_accepted():
    for override, accepted in {
        "train.epochs=-1": "train.epochs = -1 is not accepted. Use a whole number of 1 or more or auto.",
        "optim.ema=2": "optim.ema = 2 is not accepted. Use a number of 0 or more and below 1.",
        "optim.schedule=linear": "optim.schedule = 'linear' is not accepted. "
        "Use cosine or a list of numbers above 0 and below 1.",
        "model.freeze_stages=6": "model.freeze_stages = 6 is not accepted. Use a whole number from 0 to 5 or auto.",
        "train.metric=map": "train.metric = 'map' is not accepted. Use coco or voc.",
    }.items():
        with pytest.raises(ConfigError) as error:
            load(None, [override])
        assert str(error.value) == f"the command line: {accepted}"


def test_every_number_has_a_range():
    texts = {key: described(key_type(key.split("."))) for key in _keys()}
    numbers = {key: text for key, text in texts.items() if "number" in text}
    assert len(numbers) > 25
    assert [key for key, text in numbers.items() if not any(word in text for word in (" of ", "above", "from"))] == []


def _keys():
    for field in dataclasses.fields(Config):
        group = key_type([field.name])
        yield from (
            (f"{field.name}.{key.name}" for key in dataclasses.fields(group))
            if dataclasses.is_dataclass(group)
            else [field.name]
        )


TEXT = [
    (["--name", "2024"], "name", "2024"),
    (["--name", "off"], "name", "off"),
    (["--name", "null"], "name", "null"),
    (["--name", "a: b"], "name", "a: b"),
    (["--name", "[x]"], "name", "[x]"),
    (["name=007"], "name", "007"),
    (["name=1e3"], "name", "1e3"),
    (["name=2020-01-01"], "name", "2020-01-01"),
    (["name='quoted'"], "name", "quoted"),
    (["data.train=2007"], "data.train", "2007"),
    (["data.val=no"], "data.val", "no"),
    (["data.val=12:30"], "data.val", "12:30"),
    (["data.val='null'"], "data.val", "null"),
    (["data.val=null"], "data.val", None),
    (["data.val="], "data.val", None),
    (["--data", "2007"], "data.folder", "2007"),
    (["--data", "1e3"], "data.folder", "1e3"),
    (["--data", "0x10"], "data.folder", "0x10"),
    (["--data", "true"], "data.folder", "true"),
    (["--data", "{a}"], "data.folder", "{a}"),
    (["data.folder=a: b # c"], "data.folder", "a: b # c"),
    (["data.voc_offset=0"], "data.voc_offset", "0"),
    (["data.voc_offset=1"], "data.voc_offset", "1"),
    (["data.voc_offset='0'"], "data.voc_offset", "0"),
    (["output=1.0"], "output", "1.0"),
    (["model.weights=1e5", "preprocessing.depth=null"], "model.weights", "1e5"),
    (["data.classes=[yes, no, 010, 1.0]"], "data.classes", ("yes", "no", "010", "1.0")),
    (["data.classes=[null, ~]"], "data.classes", ("null", "~")),
]


@pytest.mark.parametrize(("words", "key", "value"), TEXT, ids=[" ".join(words) for words, _, _ in TEXT])
def test_text_stays_text(words, key, value):
    args = train.parser().parse_intermixed_args(words)
    config = train.load_config(args.words, args.data, args.name)
    assert operator.attrgetter(key)(config) == value


def test_text_stays_text_in_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: 007\ndata: {folder: 1e3, train: 2007, val: off, voc_offset: 0, classes: [yes, no, 010]}\n")
    config = load(path)
    assert (config.name, config.data.folder, config.data.train, config.data.val) == ("007", "1e3", "2007", "off")
    assert (config.data.voc_offset, config.data.classes) == ("0", ("yes", "no", "010"))


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optim.lr=1e-3", 0.001),
        ("optim.lr=1E-3", 0.001),
        ("optim.lr='0.001'", 0.001),
        ("optim.lr=null", None),
        ("train.epochs=1e1", 10),
        ("train.epochs=010", 10),
        ("train.patience=~", None),
        ("augment.mirror=off", False),
        ("augment.mirror=False", False),
        ("augment.mirror=0", False),
        ("model.freeze_stages=2", 2),
        ("model.freeze_stages=auto", "auto"),
        ("model.aspect_ratios=[[2], [2, 3e0]]", ((2.0,), (2.0, 3.0))),
        ("model.levels=[38, 19]", (38, 19)),
        ("optim.schedule=[0.5, 0.75]", (0.5, 0.75)),
        ("optim.schedule=[]", ()),
    ],
)
def test_numbers_and_switches_are_read_as_their_keys_say(override, value):
    assert operator.attrgetter(override.partition("=")[0])(load(None, [override])) == value


@pytest.mark.parametrize("folder", ["", " "])
def test_an_empty_data_folder_is_not_the_current_one(folder):
    with pytest.raises(ConfigError, match="--data: names no folder"):
        train.load_config([], folder)


def test_an_empty_group_in_a_file_has_no_keys(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model:\ntrain:\n  epochs: 3\n")
    assert load(path, ["model.input_size=512"]).model.input_size == 512
    assert load(path).train.epochs == 3
