"""The errors for users: each names the place, the problem and a remedy.

A message reads `place: problem. remedy`. Commands print it, lists with a line for each item, and exit with code 2.
"""

from numbers import Integral, Real
from typing import Any


def printable(text: str) -> str:
    """Text for a terminal: control characters and bytes that are no UTF-8 are shown as escapes.

    Names of files and classes are untrusted: control characters could clear the screen or forge a line.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def printable_list(text: str) -> str:
    """`printable` text whose line breaks before two spaces stay: each begins an item of a list."""
    return "\n  ".join(map(printable, text.split("\n  ")))


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: 1 image, 2,000 images."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


class SSDError(Exception):
    """Base of every error this package raises on purpose.

    `place` is a file, a key or an argument; `problem` holds the offending value; `remedy` says what to do.
    """

    def __init__(self, problem: str, *, place: object = None, remedy: str = "") -> None:
        self.problem = problem
        self.place = None if place is None else str(place)
        self.remedy = remedy
        text = problem if place is None else f"{place}: {problem}"
        text, remedy = printable_list(text), printable(remedy)
        super().__init__(f"{text.rstrip('.')}. {remedy}".rstrip() if remedy else text)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip out of a data worker, where exceptions are pickled."""
        return _rebuild, (type(self), self.problem, self.place, self.remedy)


def _rebuild(kind: type[SSDError], problem: str, place: str | None, remedy: str) -> SSDError:
    return kind(problem, place=place, remedy=remedy)


class ConfigError(SSDError, ValueError):
    """A config file or `group.key=value` override is wrong."""


class ArgumentError(SSDError, ValueError):
    """An argument of a call is out of its range, or asks for what this machine or this object does not have."""


class UnknownOptionError(ArgumentError, TypeError):
    """A call has a keyword argument that the function does not know."""


class ImageError(SSDError, ValueError):
    """An image given to the detector is not one: wrong kind, dtype, shape or range."""


class ImageDecodeError(ImageError):
    """An image file cannot be decoded whole: missing, empty, truncated, too large, or not an image."""


class DatasetError(SSDError, ValueError):
    """A data set as a whole is wrong: missing, empty, of an unknown format, a split that is not there."""


class AnnotationError(DatasetError):
    """One annotation file or object is wrong."""


class CheckpointError(SSDError, ValueError):
    """A weights file or run state cannot be used: damaged, unknown, or for other classes."""


class DownloadError(SSDError):
    """A file could not be fetched, or is not what was promised."""


class MissingExtraError(SSDError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class NonFiniteLossError(SSDError):
    """The loss became NaN or infinite; the message names the step, the parts and the images."""


class DataWorkerError(SSDError):
    """A data-loading worker died or hung."""


class DistributedError(SSDError):
    """One of the processes that train or evaluate together is gone, does not answer, or never came."""


class EvaluationError(SSDError, ValueError):
    """Detections and ground truth cannot be compared."""


class ExportError(SSDError):
    """A network could not be exported, or the exported one does not agree."""


def is_number(value: object, *, whole: bool = False) -> bool:
    """Whether it is a real number of Python's or NumPy's, or a `whole` one; True and False are none."""
    return isinstance(value, Integral if whole else Real) and not isinstance(value, bool)


def at_least(least: int, **numbers: Any) -> None:
    """Raise `ArgumentError` for the first of the named numbers that is not whole or below `least`; None passes."""
    for name, number in numbers.items():
        if number is None:
            continue
        if not is_number(number, whole=True):
            raise ArgumentError(f"{number!r} is not a whole number", place=name, remedy=f"Use {least} or more.")
        if number < least:
            raise ArgumentError(f"{number} is too small", place=name, remedy=f"Use {least} or more.")
