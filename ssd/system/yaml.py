"""A YAML reader for untrusted files: plain values without aliases, of limited depth and size.

Nine lines of nested aliases can stand for a billion words. Neither a config nor a list of class names needs aliases.
"""

import reprlib
from typing import Any

import yaml

from ssd.errors import SSDError

_MAX_CHARACTERS = 200_000  # PyYAML reads about 100,000 a second
_MAX_DEPTH = 30


def parse_yaml(text: str, place: object, error: type[SSDError], *, loader: "type[_PlainLoader] | None" = None) -> Any:
    """Parse `text`.

    Raises:
        error: not YAML, or too large, or with aliases or depths that no honest file has; names the line.
    """
    if len(text) > _MAX_CHARACTERS:
        raise error(f"has {len(text):,} characters, more than {_MAX_CHARACTERS:,}", place=place)
    try:
        return yaml.load(text, loader or _PlainLoader)
    except yaml.YAMLError as problem:
        raise error(f"is not valid YAML: {' '.join(str(problem).split())}", place=place, remedy="Fix it.") from None
    except (ValueError, OverflowError) as problem:  # dates and numbers that look like one and are none
        raise error(f"is not valid YAML: {problem}", place=place, remedy="Put quotes around it.") from None


class Unquoted(str):
    """An unquoted YAML value as text, which is converted later to the type of its key."""

    __slots__ = ()


def parse_yaml_text(text: str, place: object, error: type[SSDError]) -> Any:
    """As `parse_yaml`, but without guessing types: `off`, `2007` and `1e3` stay text, as `Unquoted`.

    Raises:
        error: as `parse_yaml`.
    """
    return parse_yaml(text, place, error, loader=_TextLoader)


def shown(value: object) -> str:
    """The value for a message, shortened if it is long."""
    return _SHORT.repr(value)


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases, deep nesting and other ways in which a short text becomes a large value."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise self._refused("aliases (*name) are refused")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._refused(f"there are more than {_MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refused(self, why: str) -> yaml.YAMLError:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        return yaml.composer.ComposerError(None, None, why, mark)


class _TextLoader(_PlainLoader):
    """Leave unquoted values as text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


def _construct_text(_: _TextLoader, node: yaml.ScalarNode) -> str:
    return node.value if node.style else Unquoted(node.value)


_TextLoader.add_constructor("tag:yaml.org,2002:str", _construct_text)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel = 3
