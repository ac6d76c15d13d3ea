import pytest

from ssd.data.dataset import open_dataset
from ssd.errors import ConfigError, DatasetError
from ssd.experiment import config_file as config
from ssd.system.yaml import parse_yaml, shown
from tests.data.made import write_image, write_text
from tests.work import counted

BOMB = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)


def test_ordinary_values_are_read():
    text = "a: 1\nb: [x, 2.5, null, true]\nc:\n  d: |\n    two\n    lines\n"
    assert parse_yaml(text, "x", ConfigError) == {"a": 1, "b": ["x", 2.5, None, True], "c": {"d": "two\nlines\n"}}
    assert parse_yaml("", "x", ConfigError) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"aliases \(\*name\) are refused.* line 2"),
        ("a: " + "[" * 3000 + "]" * 3000, "more than 30 levels"),
        ("{a: " * 2000 + "1" + "}" * 2000, "more than 30 levels"),
        ("x" * 600_000, "has 600,000 characters"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: 2001-99-99", "month must be in 1..12"),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_no_honest_file_has_is_refused_at_once(text, message):
    with counted() as work, pytest.raises(ConfigError, match=message):
        parse_yaml(text, "x.yaml", ConfigError)
    assert work.calls < 100_000


def test_configs_and_class_names_are_read_this_way(tmp_path):
    path = write_text(tmp_path / "config.yaml", BOMB)
    with pytest.raises(ConfigError, match=r"config\.yaml: is not valid YAML: aliases"):
        config.load(path)
    folder = tmp_path / "yolo"
    write_image(folder / "images" / "train" / "a.jpg")
    for names, message in ((BOMB + "names: *a9", "aliases"), ("names: [[cat], dog]", "A name is a word")):
        write_text(folder / "data.yaml", f"train: images/train\n{names}\n")
        with pytest.raises(DatasetError, match=message):
            open_dataset(folder, "train", format="yolo")


def test_a_long_value_is_shown_cut():
    assert len(shown(["x" * 1000] * 1000)) < 1000
    with pytest.raises(ConfigError) as error:
        config.from_dict({"train": {"epochs": ["x" * 1000] * 1000}})
    assert len(str(error.value)) < 1200
