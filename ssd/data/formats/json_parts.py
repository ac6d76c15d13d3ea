"""Reads the long lists of a JSON file in parts, so that its content need not fit into memory.

Its errors are those of `json.loads` for the whole content; what follows an error is held in memory as text.
"""

import codecs
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

_AT_ONCE = 2**20  # bytes
_DECODER = json.JSONDecoder()
_SCAN: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]
# Matches everywhere.
_SPACE: Callable[[str, int], re.Match[str]] = re.compile(r"[ \t\n\r]*").match  # type: ignore[assignment]


class Part(NamedTuple):
    """The value of a key at the top, or some entries of it."""

    key: str
    value: Any
    is_first: bool  # of the value; a key that is repeated starts anew


def read_parts(path: Path, lists: Collection[str]) -> Iterator[Part]:
    """Yield what the object at the top of a file has; the value of a key in `lists` comes in parts if it is a list.

    Nothing is yielded of a file with another value at its top.

    Raises:
        OSError: it cannot be read.
        ValueError, RecursionError: it is no JSON.
    """
    with path.open("rb") as file:
        try:
            yield from _read(_Window(file), lists)
        except UnicodeDecodeError:
            content = path.read_bytes()
            content.decode(json.detect_encoding(content), "surrogatepass")  # counts bytes from the start
            raise


def _read(window: "_Window", lists: Collection[str]) -> Iterator[Part]:
    if window.sign() != "{":
        window.value("")
        if window.sign():
            window.fail("{}")
        return
    before = "{"
    while window.skip() != "}" or before != "{":
        if window.sign() != '"':
            window.fail(before)
        key = window.value(before)
        if window.sign() != ":":
            window.fail('{""')
        if window.skip() == "[" and key in lists:
            yield from _read_list(window, key)
        else:
            yield Part(key, window.value('{"":'), True)
        if window.sign() == "}":
            break
        before = '{"":{},'
        if window.sign() != ",":
            window.fail('{"":{}')
    if window.skip():
        window.fail("{}")


def _read_list(window: "_Window", key: str) -> Iterator[Part]:
    if window.skip() == "]":
        yield Part(key, [], True)
        window.skip()
        return
    before, is_first, is_closed = '{"":[', True, False
    while not is_closed:
        found, is_closed = window.values()
        if found:
            yield Part(key, found, is_first)
            before, is_first = '{"":[{},', False
        if not is_closed and not window.more():
            window.fail(before)


class _Window:
    """A part of the text of a file, which moves on; `place` is what comes next in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder: codecs.IncrementalDecoder | None = None
        self._text, self._place = "", 0
        self._ended = False
        self._dropped, self._lines, self._last_line = 0, 0, -1  # characters and lines before the window
        self.more()

    def more(self) -> bool:
        """Read on, and drop what was read before; false at the end of the file."""
        if self._ended:
            return False
        data = self._file.read(max(_AT_ONCE, len(self._text) - self._place))
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder(json.detect_encoding(data))("surrogatepass")
        self._ended = not data
        end = self._text.rfind("\n", 0, self._place)
        if end >= 0:
            self._last_line = self._dropped + end
            self._lines += self._text.count("\n", 0, self._place)
        self._dropped += self._place
        self._text = self._text[self._place :] + self._decoder.decode(data, final=self._ended)
        self._place = 0
        return True

    def sign(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            self._place = _SPACE(self._text, self._place).end()
            if self._place < len(self._text):
                return self._text[self._place]
            if not self.more():
                return ""

    def skip(self) -> str:
        """The next character but one that is no space."""
        self.sign()
        self._place += 1
        return self.sign()

    def value(self, before: str) -> Any:
        """The next value; `before` is what may stand before it in a short text with the same error."""
        while True:
            try:
                value, end = _SCAN(self._text, self._place)
            except (ValueError, StopIteration):
                pass
            else:
                if self._ended or end + 3 <= len(self._text):  # else it may be a longer number, as 1e+2
                    self._place = end
                    return value
            if not self.more():
                self.fail(before)

    def values(self) -> tuple[list[Any], bool]:
        """The next entries of a list, as far as the window has them whole; and whether the list ends behind them."""
        text, found = self._text, []
        place = _SPACE(text, self._place).end()
        try:
            while True:
                value, end = _SCAN(text, place)
                end = _SPACE(text, end).end()
                sign = text[end]
                if sign == ",":
                    place = _SPACE(text, end + 1).end()
                    found.append(value)
                else:
                    if sign == "]":
                        found.append(value)
                        self._place = end + 1
                        return found, True
                    break
        except (ValueError, StopIteration, IndexError):
            pass
        self._place = place
        return found, False

    def fail(self, before: str) -> NoReturn:
        """Raise the error of what follows, once the rest of the file is read: an end of the window is no error."""
        while self.more():
            pass
        try:
            _DECODER.decode(before + self._text[self._place :])
        except json.JSONDecodeError as error:
            place = self._place + error.pos - len(before)
            end = self._text.rfind("\n", 0, place)
            last_line = self._last_line if end < 0 else self._dropped + end
            line = self._lines + self._text.count("\n", 0, place) + 1
            place += self._dropped
            raise ValueError(f"{error.msg}: line {line} column {place - last_line} (char {place})") from None
        raise AssertionError("what follows is no error")
