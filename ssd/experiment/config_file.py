"""Config files and the command line: load from YAML, override with `group.key=value`, save beside a run.

Unquoted text is converted to the type of its key: `name: 2024` is a string, `train.patience=null` is None.
"""

import dataclasses
import functools
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from ssd.errors import ConfigError
from ssd.experiment.config import Config
from ssd.experiment.key_types import NULLS, converted, described, is_text, key_type, known_keys, nearest_key
from ssd.experiment.retired_keys import without_retired
from ssd.system.yaml import Unquoted, parse_yaml_text, shown

_COMMAND_LINE = "the command line"


def load(path: str | Path | None = None, overrides: Iterable[str | tuple[str, Any]] = ()) -> Config:
    """Read a YAML file (or start from the defaults), apply overrides, check every key.

    An override is `group.key=value`, or a pair of the key and a Python value.

    Raises:
        ConfigError: names the file, the key, the value, and the accepted values or the nearest known key.
    """
    return load_with_keys(path, overrides)[0]


def load_with_keys(
    path: str | Path | None = None, overrides: Iterable[str | tuple[str, Any]] = ()
) -> tuple[Config, frozenset[str]]:
    """`load`, and the dotted keys that the file or an override has a value for.

    Raises:
        ConfigError: as `load`.
    """
    raw = {} if path is None else _read_yaml(Path(path))
    changed = raw
    for override in overrides:
        changed = _overridden(changed, override)
    try:
        return from_dict(changed, _COMMAND_LINE if path is None else str(path)), _dotted(changed)
    except ConfigError:
        from_dict(raw, str(path))  # mistakes in the file are reported with its path
        return from_dict(changed, _COMMAND_LINE), _dotted(changed)


def _dotted(raw: dict[str, Any]) -> frozenset[str]:
    """The keys with a value, dotted."""
    groups = {name: group for name, group in raw.items() if isinstance(group, dict)}
    return frozenset({*(f"{name}.{key}" for name, group in groups.items() for key in group), *(raw.keys() - groups)})


def from_dict(raw: dict[str, Any], place: str = "config") -> Config:
    """Check a plain dict against the dataclasses; unknown keys are errors.

    Raises:
        ConfigError: as `load`.
    """
    values = _upgraded(raw, place)
    try:
        return TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        raise _explained(error, values, place) from None


def to_dict(config: Config) -> dict[str, Any]:
    """Turn a config into plain JSON types."""
    return _plain(dataclasses.asdict(config))  # type: ignore[no-any-return]


def to_yaml(config: Config) -> str:
    """YAML that `load` reads back equal."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def upgraded_state(raw: dict[str, Any], place: object) -> dict[str, Any]:
    """The config of a run's state with the keys of this version.

    Raises:
        ConfigError: the run was trained in a way that this version cannot continue.
    """
    return _upgraded(raw, place, of_a_state=True)


def builtin(name: str) -> Path:
    """Path of one of the configs that come with the package: `demo`, `finetune`, `ssd300_voc` and so on.

    Raises:
        ConfigError: no such config.
    """
    package = Path(__file__).resolve().parents[1]
    # They are inside the package in an installed wheel, and beside it in a checkout.
    folders = (package / "configs", package.parent / "configs")
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise ConfigError(f"no config {name!r}", place="configs", remedy=f"There are: {', '.join(known)}.")


def _upgraded(raw: dict[str, Any], place: object, *, of_a_state: bool = False) -> dict[str, Any]:
    """Add the preset of the mode, replace retired keys, and convert unquoted text to the types of the keys."""
    if raw.get("mode") == "paper":
        # `model:` with nothing behind it is an empty group.
        empty = [key for key, value in raw.items() if key in _paper() and value in (None, *NULLS)]
        raw = _merged(_paper(), raw | {key: {} for key in empty})
    return converted(without_retired(raw, place, of_a_state=of_a_state), Config)  # type: ignore[no-any-return]


@functools.cache
def _paper() -> dict[str, Any]:
    return _read_yaml(Path(__file__).with_name("paper.yaml"))


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {key: value for key, value in below.items() if isinstance(value, dict) and isinstance(above.get(key), dict)}
    return below | above | {key: _merged(value, above[key]) for key, value in both.items()}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such config file", place=path, remedy="See configs/ for examples.") from None
    except IsADirectoryError:
        remedy = f"If it holds images, write --data {path}."
        raise ConfigError("is a folder, not a config file", place=path, remedy=remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error})", place=path) from None
    raw = parse_yaml_text(text, path, ConfigError)
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        found = "text" if isinstance(raw, str) else f"a {type(raw).__name__}"
        raise ConfigError(f"holds {found}, not `group:` keys", place=path, remedy="See configs/demo.yaml.")
    if "names" in raw and isinstance(raw.get("train"), str | list):
        remedy = f"Pass it as data: --data {shlex.quote(str(path))}"
        raise ConfigError("describes a YOLO data set, and is no config file", place=path, remedy=remedy)
    return raw


def _overridden(raw: dict[str, Any], override: str | tuple[str, Any]) -> dict[str, Any]:
    if isinstance(override, tuple):
        dotted, value = override
        return _with_value(raw, dotted.split("."), value, dotted)
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{override!r} is not an override", place=_COMMAND_LINE, remedy="Write group.key=value.")
    return _with_value(raw, keys, _value_of(text, key_type(keys), override), override)


def _value_of(text: str, kind: Any, place: str) -> Any:
    """The value of an override: YAML, but unquoted text for a key that takes text stays text."""
    if kind is not None and is_text(kind) and text[:1] not in ("'", '"'):
        return Unquoted(text)
    try:
        parsed = parse_yaml_text(text, place, ConfigError)
    except ConfigError:
        return Unquoted(text)
    return Unquoted("") if parsed is None else parsed


def _with_value(raw: dict[str, Any], keys: list[str], value: Any, override: str) -> dict[str, Any]:
    first, *rest = keys
    if not rest:
        return raw | {first: value}
    group = raw.get(first) or {}  # `model:` with nothing behind it is an empty group
    if not isinstance(group, dict):
        raise ConfigError(f"{first!r} is not a group", place=f"override {override!r}", remedy="Write group.key=value.")
    return raw | {first: _with_value(group, rest, value, override)}


def _explained(error: ValidationError, values: dict[str, Any], place: str) -> ConfigError:
    first = error.errors()[0]
    keys = _key_of(first["loc"])
    dotted = ".".join(keys)
    unknown = first["type"] in ("unexpected_keyword_argument", "extra_forbidden")
    if unknown and len(keys) == len(first["loc"]):  # else it is inside the value of a key
        return ConfigError(f"unknown key {dotted!r}", place=place, remedy=nearest_key(keys))
    others = len({tuple(_key_of(found["loc"])) for found in error.errors()}) - 1
    value: Any = values
    for key in keys:
        value = value[key]
    problem = f"{dotted} = {shown(value)} is not accepted" + (f" (and {others} more)" if others else "")
    own = (found for found in error.errors() if found["type"] == "value_error" and _key_of(found["loc"]) == keys)
    return ConfigError(problem, place=place, remedy=_remedy(next(own, first), dotted))


def _remedy(error: Any, dotted: str) -> str:
    kind = key_type(dotted.split("."))
    if dataclasses.is_dataclass(kind):
        return f"It is a group: write {dotted}.key=value."
    if error["type"] == "string_unicode":
        return "It is not valid Unicode: use another name."
    return f"It {error['ctx']['error']}." if error["type"] == "value_error" else f"Use {described(kind)}."


def _key_of(loc: tuple[int | str, ...]) -> list[str]:
    """The key of an error, without the parts of `loc` that name an alternative of its type or a list item."""
    keys: list[str] = []
    for part in map(str, loc):
        if keys and not known_keys(keys):
            break
        keys.append(part)
    return keys


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
