"""Reads the long lists of a JSON file in parts, so that its content need not fit into memory.

Its errors are those of `json.loads` for the whole content.
"""

import codecs
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

_AT_ONCE = 2**20  # bytes
_MARGIN = 32  # characters; what is wrong so close to the end of the window may be right with what follows
_DECODER = json.JSONDecoder()
_SCAN: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]
_SPACE = re.compile(r"[ \t\n\r]*")  # matches everywhere


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
    is_first = True
    if window.skip() == "]":
        yield Part(key, [], is_first)
        window.skip()
        return
    before, is_closed = '{"":[', False
    while not is_closed:
        found, is_closed = window.values()
        if found:
            yield Part(key, found, is_first)
            before, is_first = '{"":[{},', False
        else:
            window.check(before)
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
        self._doubt = ""
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
            self._place = _SPACE.match(self._text, self._place).end()  # type: ignore[union-attr]
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
                self.check(before)
            else:
                if self._ended or end + 3 <= len(self._text):  # else it may be a longer number, as 1e+2
                    self._place = end
                    return value
            if not self.more():
                self.fail(before)

    def values(self) -> tuple[list[Any], bool]:
        """The next entries of a list, as far as the window has them whole; and whether the list ends behind them."""
        text, found, match = self._text, [], _SPACE.match
        place = match(text, self._place).end()  # type: ignore[union-attr]
        try:
            while True:
                value, end = _SCAN(text, place)
                end = match(text, end).end()  # type: ignore[union-attr]
                sign = text[end]
                if sign == ",":
                    place = match(text, end + 1).end()  # type: ignore[union-attr]
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

    def check(self, before: str) -> None:
        """Raise the error of what follows, unless it may come from the end of the window alone."""
        text = before + self._text[self._place :]
        try:
            _DECODER.decode(text)
        except json.JSONDecodeError as error:
            is_cut = error.msg.startswith("Unterminated string") or error.pos + _MARGIN > len(text)
            if self._ended or not is_cut:
                self._raise(error.msg, self._place + error.pos - len(before))
        except ValueError as error:  # a number of too many digits, which it names
            if self._ended or str(error) == self._doubt:
                raise
            self._doubt = str(error)

    def fail(self, before: str) -> None:
        """Raise the error of what follows, and read on as far as that takes."""
        self.check(before)
        while self.more():
            self.check(before)
        raise ValueError("it cannot be parsed")

    def _raise(self, problem: str, place: int) -> None:
        end = self._text.rfind("\n", 0, place)
        last_line = self._last_line if end < 0 else self._dropped + end
        line = self._lines + self._text.count("\n", 0, place) + 1
        place += self._dropped
        while True:  # text that cannot be decoded would have been met first
            self._place = len(self._text)
            if not self.more():
                raise ValueError(f"{problem}: line {line} column {place - last_line} (char {place})")
