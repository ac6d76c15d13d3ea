"""An advice that is printed works when it is typed: keys, values and options of all messages go through the parsers."""

import argparse
import ast
import dataclasses
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_origin

import pytest

from ssd.commands.main import COMMANDS
from ssd.errors import ConfigError
from ssd.experiment.config_file import load
from ssd.experiment.key_types import key_type, known_keys
from ssd.settings import Preprocessing

PACKAGE = Path(__file__).resolve().parents[2] / "ssd"
GROUPS = tuple(name for name in known_keys([]) if known_keys([name]))
# Options of other programs that messages name.
OTHERS = {
    "--force-reinstall": "pip",
    "--master-port": "torchrun",
    "--node-rank": "torchrun",
    "--nproc-per-node": "torchrun",
    "--shm-size": "docker",
}


def messages() -> Iterator[tuple[Path, int, str]]:
    """Every text of the package that a user may read; `{...}` stands for what is filled in."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in inner | documentation:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{...}" for part in node.values)
                yield path, node.lineno, "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.lineno, node.value


MESSAGES = list(messages())


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(PACKAGE)}:{line}"


# group.key=value


def overrides() -> Iterator[object]:
    groups, alone = "|".join(GROUPS), "|".join(set(known_keys([])) - set(GROUPS))
    for path, line, text in MESSAGES:
        for match in re.finditer(rf"(?<![\w.-])(?:(?:{groups})\.\w+=\S*|(?:{alone})=[\w{{]\S*)", text):
            yield pytest.param(match[0], id=f"{where(path, line)} {match[0]}")


def typed(override: str) -> str:
    """The override as a user types it: with a value of the key's type where the message leaves it open."""
    key, _, value = override.partition("=")
    kind = key_type(key.split("."))
    assert kind is not None, f"no key {key}"
    value = value.rstrip(".,;:)`'\"")
    if value and not re.search(r"\{\.\.\.\}|%[sd]", value) and not value.isupper():
        return f"{key}={value}"
    if get_origin(kind) is Literal:
        return f"{key}={kind.__args__[0]}"
    return next(
        (f"{key}={text}" for text in ("1", "auto", "x", "true", "[0, 255]", "[38, 19]") if taken(f"{key}={text}")), key
    )


def taken(override: str) -> bool:
    try:
        load(None, [override])
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("override", list(overrides()))
def test_a_key_with_its_value_is_taken_by_the_config(override: str) -> None:
    load(None, [typed(override)])


def test_the_walk_finds_the_advice_there_is() -> None:
    found = {param.values[0].rstrip(".,;") for param in overrides()}  # type: ignore[attr-defined]
    assert {"data.bad_objects=drop", "data.bad_images=skip", "data.voc_offset=0", "model.weights=FILE"} <= found


def test_a_key_that_a_message_names_is_a_key() -> None:
    suffixes = "ya?ml|py|csv|jsonl|safetensors|txt"
    name = re.compile(rf"(?:{'|'.join(GROUPS)})\.(?!{suffixes})[a-z_]+")
    texts = {text: where(path, line) for path, line, text in MESSAGES if path.stem != "retired_keys"}
    keys = {text: place for text, place in texts.items() if name.fullmatch(text)}
    assert len(keys) > 10
    # A weights file has keys of the same group that no config has.
    in_weights = {f"preprocessing.{field.name}" for field in dataclasses.fields(Preprocessing)}
    assert {key: keys[key] for key in keys.keys() - in_weights if key_type(key.split(".")) is None} == {}


def settings_of_places() -> Iterator[object]:
    """`Set it to X` of an error whose place is a key."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = {word.arg: word.value for word in call.keywords} if isinstance(call, ast.Call) else {}
            place, remedy = words.get("place"), words.get("remedy")
            if isinstance(place, ast.Constant) and isinstance(remedy, ast.Constant) and "." in str(place.value):
                for match in re.finditer(r"[Ss]et it to (\S+?)[,;.]? ", f"{remedy.value} "):
                    yield pytest.param(place.value, match[1], id=f"{where(path, call.lineno)} {match[0]}")


@pytest.mark.parametrize(("key", "value"), list(settings_of_places()))
def test_a_value_that_a_key_shall_be_set_to_is_taken(key: str, value: str) -> None:
    load(None, [f"{key}={value}"])


# --option


def parsers() -> dict[str, argparse.ArgumentParser]:
    modules = {name: importlib.import_module(f"ssd.commands.{name.replace('-', '_')}") for name in COMMANDS}
    return {name: module.parser() for name, module in modules.items()}


PARSERS = parsers()


def options() -> Iterator[object]:
    """Options in the messages, with the value behind them where there is one."""
    for path, line, text in MESSAGES:
        if re.fullmatch(r"--?[a-z][\w-]*", text):
            continue  # the name alone: an argument's definition, or the place of an error
        for match in re.finditer(r"(?<![\w-])(--[a-z][a-z0-9-]*)(?:[ =]([^\s.,;:)`'\"]+))?", text):
            yield pytest.param(path, text, match[1], match[2], id=f"{where(path, line)} {match[0]}")


def own_parsers(path: Path, text: str) -> list[argparse.ArgumentParser]:
    """Of a command's module that command's, unless the text names another; of the library's any."""
    named = [PARSERS[name] for name in COMMANDS if re.search(rf"\b(?:ssd |tools/){name}\b", text)]
    own = PARSERS.get(path.stem.replace("_", "-")) if path.parent.name == "commands" else None
    return [own, *named] if own is not None else named or list(PARSERS.values())


def takes(parser: argparse.ArgumentParser, option: str, value: str | None) -> bool:
    """Whether the parser has the option, and takes the value if that is one and not a word of the sentence."""
    action = parser._option_string_actions.get(option)
    if action is None or action.choices is None or value is None or not re.fullmatch("[a-z0-9]+", value):
        return action is not None
    return value in action.choices


@pytest.mark.parametrize(("path", "text", "option", "value"), list(options()))
def test_an_option_is_one_of_the_command_that_names_it(path: Path, text: str, option: str, value: str | None) -> None:
    script = re.findall(r'add_argument\(\s*"(--[a-z-]+)"', path.read_text(encoding="utf-8"))
    known = (*OTHERS, *script, "--help", "--version")
    assert option in known or any(takes(parser, option, value) for parser in own_parsers(path, text))


def examples() -> Iterator[object]:
    """The example lines that `--help` prints, without the remark behind them."""
    for name, parser in PARSERS.items():
        for line in (parser.epilog or "").splitlines():
            words = re.match(r"  (?:ssd )?([a-z-]+)(?:\.py)?((?: \S+)*)", line.replace("_data.py", "-data.py"))
            if words and words[1] == name and "..." not in words[2]:
                yield pytest.param(name, shlex.split(re.split(" [|>] ", words[2])[0]), id=words[0].strip())


@pytest.mark.parametrize(("name", "words"), list(examples()))
def test_an_example_of_the_help_is_taken_by_its_command(name: str, words: list[str]) -> None:
    args = PARSERS[name].parse_intermixed_args(words)
    changes = [word for word in words if re.match(rf"(?:{'|'.join(GROUPS)})\.\w+=", word)]
    assert load(None, changes)
    assert args
