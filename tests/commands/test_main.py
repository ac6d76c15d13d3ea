import importlib
import re
import sys
from pathlib import Path

import pytest

import ssd
from ssd.commands.main import COMMANDS, main


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(arguments, capsys):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


def test_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ssd {ssd.__version__}\n"


def test_an_unknown_command_is_exit_code_2(capsys):
    assert main(["fly"]) == 2
    assert capsys.readouterr().err == f"error: no command 'fly'. Commands: {', '.join(COMMANDS)}.\n"


@pytest.mark.parametrize("name", ["two-words", "two_words"])
def test_arguments_reach_the_command(name, monkeypatch):
    module = type(sys)("stand_in")
    module.main = lambda argv: len(argv)
    monkeypatch.setitem(sys.modules, "ssd.commands.two_words", module)
    monkeypatch.setitem(COMMANDS, "two-words", "for this test")
    assert main([name, "a", "b"]) == 2


def test_train_says_what_a_key_without_a_value_lacks(capsys):
    from ssd.commands.train import main as train

    assert train(["train.epochs", "3"]) == 2
    assert "'train.epochs' has no value. Write train.epochs=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_spells_commands_as_they_are_typed_where_the_package_is_installed(name):
    parser = importlib.import_module(f"ssd.commands.{name.replace('-', '_')}").parser()
    assert parser.prog == f"ssd {name}"
    text = parser.format_help()
    assert not re.search(r"\w\.py\b|python tools", text)
    examples = re.findall(r"^  (?:torchrun \S+ \d+ -m )?(ssd .*)", text.partition("examples:")[2], re.MULTILINE)
    for line in examples:
        assert line.split()[1] == name


def test_messages_spell_commands_the_same_way():
    package = Path(ssd.__file__).parent
    for path in package.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert "python tools/" not in line or path.name == "main.py", f"{path}: {line.strip()}"
