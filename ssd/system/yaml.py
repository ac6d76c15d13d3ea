"""YAML from strangers: plain values, no aliases, no depths, no megabytes.

An alias makes one line stand for another; nine lines of them stand for a billion words, which any later printing or
checking would spell out. Neither a config nor a list of class names needs them.
"""

import reprlib
from typing import Any

import yaml

from ssd.errors import SSDError

_MAX_CHARACTERS = 500_000  # PyYAML reads about 100,000 a second
_MAX_DEPTH = 30


def parse_yaml(text: str, place: object, error: type[SSDError]) -> Any:
    """The value that `text` stands for.

    Raises:
        error: not YAML, or too large, or with aliases or depths that no honest file has; names the line.
    """
    if len(text) > _MAX_CHARACTERS:
        raise error(f"has {len(text):,} characters, more than {_MAX_CHARACTERS:,}", place=place)
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.YAMLError as problem:
        raise error(f"is not valid YAML: {' '.join(str(problem).split())}", place=place, remedy="Fix it.") from None
    except (ValueError, OverflowError) as problem:  # dates and numbers that look like one and are none
        raise error(f"is not valid YAML: {problem}", place=place, remedy="Put quotes around it.") from None


def shown(value: object) -> str:
    """The value as messages show it, cut where it is long."""
    return _SHORT.repr(value)


class _PlainLoader(yaml.SafeLoader):
    """Refuses what lets a short text become a long one."""

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


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel = 3
