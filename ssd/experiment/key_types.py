"""The types of the config keys: their descriptions in words, and the conversion of unquoted text."""

import dataclasses
import difflib
import types
from collections.abc import Collection
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
from pydantic.fields import FieldInfo

from ssd.experiment.config import Config
from ssd.system.yaml import Unquoted

NULLS = ("", "~", "null", "Null", "NULL")


def key_type(keys: list[str]) -> Any:
    """The declared type of `group.key`, or None where there is no such key; `[]` is the config itself."""
    kind: Any = Config
    for key in keys:
        kind = get_type_hints(kind, include_extras=True).get(key) if dataclasses.is_dataclass(kind) else None
    return kind


def known_keys(groups: list[str]) -> list[str]:
    """The keys of a group."""
    kind = key_type(groups)
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def dotted_keys() -> list[str]:
    """Every key as it is written on the command line: `seed`, `train.epochs`."""
    keys = []
    for key in known_keys([]):
        inner = known_keys([key])
        keys += [f"{key}.{name}" for name in inner] or [key]
    return keys


def nearest_key(keys: list[str]) -> str:
    """The key of that name in another group, else the one most alike, else all there are.

    Without a group of that name any group may be meant. Keys are written as on the command line, with their group.
    """
    *groups, name = keys
    known = known_keys(groups)
    named: dict[str, list[str]] = {}
    for key in dotted_keys():
        named.setdefault(key.rpartition(".")[2], []).append(key)
    close = named.get(name) or [".".join([*groups, key]) for key in _alike(name, known)]
    if not close and groups not in [[group] for group in known_keys([])]:  # no group of ours, so any may be meant
        close = [key for found in _alike(name, named) for key in named[found]]
    return f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Known keys: {', '.join(known)}."


def _alike(name: str, known: Collection[str]) -> list[str]:
    """The one most alike, else those of which it is a word."""
    words = [key for key in known if name in key.split("_")]
    return difflib.get_close_matches(name, known, n=1, cutoff=0.7) or words


def is_text(kind: Any) -> bool:
    """Whether a value of this type is a single string: a name, a path or one of several words."""
    choices = [_plain(choice) for choice in _choices(kind) if choice is not type(None)]
    return all(choice is str or get_origin(choice) is Literal for choice in choices)


def converted(value: Any, kind: Any) -> Any:
    """Convert unquoted text inside `value` to the type of its key. Text that does not fit is kept and refused later."""
    kind = _plain(kind)
    if isinstance(value, dict) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        return {str(key): converted(item, hints.get(key)) for key, item in value.items()}
    if get_origin(kind) in (Union, types.UnionType):
        return _first_fitting(value, get_args(kind))
    if isinstance(value, dict) and get_origin(kind) is dict:
        return {str(key): converted(item, get_args(kind)[1]) for key, item in value.items()}
    if isinstance(value, list):
        return [converted(item, inner) for item, inner in zip(value, _of_items(kind, len(value)), strict=True)]
    return _from_text(value, kind) if isinstance(value, Unquoted) else value


def _first_fitting(value: Any, choices: tuple[Any, ...]) -> Any:
    if isinstance(value, Unquoted) and value in NULLS and type(None) in choices:
        return None
    for choice in choices:
        result = converted(value, choice)
        if type(result) is not type(value):
            return result
        if isinstance(value, list) and get_origin(_plain(choice)) is tuple:
            return result
    return value


def _from_text(text: Unquoted, kind: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return {} if text in NULLS else str(text)
    if kind in (int, float):
        return _number(text)
    return str(text) if kind is str or get_origin(kind) is Literal or kind is None else text


def _number(text: Unquoted) -> Any:
    """The number that the text means, including YAML's `.nan`, or the text."""
    for number in (int, float):
        try:
            return number(text.replace(".nan", "nan").replace(".inf", "inf"))
        except ValueError:
            continue
    return text


def _of_items(kind: Any, count: int) -> list[Any]:
    inner = get_args(kind) if get_origin(kind) is tuple else ()
    if len(inner) == 2 and inner[1] is Ellipsis:
        return [inner[0]] * count
    return list(inner) if len(inner) == count else [None] * count


def _plain(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


# Descriptions


_WORDS = {
    str: ("text", "words"),
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    type(None): ("null", "null"),
}


def described(kind: Any, *, plural: bool = False) -> str:
    """The accepted values of this type, in the words of messages and the config reference."""
    if dataclasses.is_dataclass(kind):
        names = ", ".join(field.name for field in dataclasses.fields(kind))
        return f"{{{names}}}" if plural else "keys of its own"
    if get_origin(kind) in (Union, types.UnionType):
        return _joined([described(choice) for choice in get_args(kind)])
    if get_origin(kind) is Literal:
        return _joined(list(get_args(kind)))
    if get_origin(_plain(kind)) is tuple:
        inner, *others = get_args(_plain(kind))
        count = "" if others == [Ellipsis] else f"{1 + len(others)} "
        return f"{'lists' if plural else 'a list'} of {count}{described(inner, plural=True)}"
    if get_origin(kind) is dict:
        return f"names with {described(get_args(kind)[1])} each, such as {{cat: 3}}"
    return f"{_WORDS[_plain(kind)][plural]}{_limits(kind)}"


def _limits(kind: Any) -> str:
    """The range in the annotation of the type."""
    notes = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    limits = [limit for note in notes if isinstance(note, FieldInfo) for limit in note.metadata]
    if any(isinstance(limit, annotated_types.MinLen) for limit in limits):
        return " that is not empty"
    found = {
        name: getattr(limit, name) for limit in limits for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)
    }
    if found.keys() == {"ge", "le"}:
        return f" from {found['ge']} to {found['le']}"
    words = {"ge": "of {} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    parts = [words[name].format(found[name]) for name in words if name in found]
    return f" {' and '.join(parts)}" if parts else ""


def _joined(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
