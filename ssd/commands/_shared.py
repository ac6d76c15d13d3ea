"""Functions that all commands share, without slow imports."""

import argparse
import functools
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ParamSpec

from ssd.errors import ArgumentError, SSDError, at_least, printable, printable_list
from ssd.system.files import NO_SPACE
from ssd.system.malloc import keep_freed_memory

P = ParamSpec("P")

USER_ERROR = 2
_LESS_MEMORY = (
    "Use a smaller batch: train.batch_size=4 optim.accumulate=2 in training, --batch-size 1 elsewhere; "
    "or a smaller model.input_size."
)
INTERRUPTED = 130
TERMINATED = 143
READER_LEFT = 141  # exit code in a shell of a program that SIGPIPE ended


class Terminated(KeyboardInterrupt):
    """SIGTERM asked the command to end."""


def guarded(command: Callable[P, int]) -> Callable[P, int]:
    """Turn a user's mistake into `error: ...` and exit code 2, and a closed output pipe into 141.

    A mistake is also what the system says about a file or folder that it names. Ctrl-C becomes 130 and SIGTERM 143,
    after unfinished files are removed. Other exceptions are bugs and pass through.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            with _sigterm_raises():
                return command(*args, **kwargs)
        except SSDError as error:
            print(f"error: {error}", file=sys.stderr)
            return USER_ERROR
        except KeyboardInterrupt as stop:  # its note says how to continue
            asked = isinstance(stop, Terminated)
            said = getattr(stop, "__notes__", ["ended by SIGTERM" if asked else "interrupted"])
            print("\n".join(map(printable_list, said)), file=sys.stderr)
            return TERMINATED if asked else INTERRUPTED
        except BrokenPipeError:
            if not _reader_left():  # another pipe broke, such as that of a data worker
                raise
            return READER_LEFT
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            where = "GPU" if type(error).__name__ == "OutOfMemoryError" else "computer"
            print(f"error: the memory of the {where} is full. {_LESS_MEMORY}", file=sys.stderr)
            return USER_ERROR
        except OSError as error:
            named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
            if error.errno in NO_SPACE:
                problem = "no space left. Free some space or choose another folder; finished files are unharmed."
            elif named and error.strerror:
                problem = f"cannot be read or written ({error.strerror}). Check the path and its permissions."
            else:
                raise
            print(f"error: {printable(named or 'the disk')}: {problem}", file=sys.stderr)
            return USER_ERROR

    return run


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in PyTorch (by name, since it may not be imported) or in NumPy."""
    named = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return named or "can't allocate memory" in str(error)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM, so that unfinished files are removed; a second one ends the process at once.

    An existing handler stays, and outside the main thread signals are left alone.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != process:  # a forked process ends as it would without this handler
            signal.raise_signal(signal.SIGTERM)
        raise Terminated

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _reader_left() -> bool:
    """Whether the output pipe was closed, as after `| head -1`; further output is then discarded."""
    try:
        print(flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


class _Formatter(logging.Formatter):
    """A message is one line, or a list: names of files and classes in it come from strangers."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return printable_list(super().formatMessage(record))


def show_log() -> None:
    """Show what the package logs on stderr, unless whoever calls the command has set up logging.

    Of several processes started by `torchrun`, those after the first show warnings only.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if first else logging.WARNING, handlers=[handler])


def start_work() -> None:
    """Show the log and keep freed memory, before a program trains or computes on many images."""
    show_log()
    keep_freed_memory()


def add_force(parser: argparse.ArgumentParser) -> None:
    """Give a command `--force`, for `refuse_existing`."""
    parser.add_argument("--force", action="store_true", help="replace files named here that are there already")


def add_data(parser: argparse.ArgumentParser, run: str = "the run") -> None:
    """Give a command the options that name data in place of that of `run`, which its help calls so."""
    text = f"a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...) instead of {run}'s own data"
    parser.add_argument("--data", metavar="FOLDER", help=text)
    parser.add_argument("--split", metavar="NAME", help="which split; default: the data's validation split")
    kinds = "voc, coco, yolo, labelme, cvat, labelstudio, csv, shapes, voc07+12, coco2017; default: recognised"
    parser.add_argument("--format", metavar="KIND", help=kinds)
    text = f"change {run}'s config, repeatable"
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.KEY=VALUE", help=text)
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="images at a time, default %(default)s")
    text = "decoding threads; default: 2, on a GPU nearly all cores"
    parser.add_argument("--workers", type=int, metavar="N", help=text)


def add_runtime(parser: argparse._ActionsContainer) -> None:
    """Give a command the options that say where and how a detector computes."""
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")
    parser.add_argument("--precision", default="auto", help="auto (default), fp32, bf16, fp16")
    parser.add_argument("--backend", default="auto", help="auto (default), torch, openvino")


def threshold(text: str | None) -> Any:
    """A score threshold: `0.5`, `own`, or `WBC=0.3,RBC=0.5`; None stays. A class may have commas in its name.

    Raises:
        ArgumentError: it is none of these.
    """
    if text is None:
        return None
    try:
        if "=" not in text:
            return text if text == "own" else float(text)
        pairs = (part.rpartition("=") for part in re.split(r"(?<=\d)\s*,", text))
        return {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        remedy = "Use a number from 0 to 1, own, or numbers by class: WBC=0.3,RBC=0.5."
        raise ArgumentError(f"{text!r} is no threshold", place="--score-threshold", remedy=remedy) from None


def tiles(text: str | None) -> Any:
    """The `tiles` of `Detector.detect`: `2`, `2x3` or `auto`; None stays.

    Raises:
        ArgumentError: it is none of these.
    """
    if text is None or text == "auto":
        return text
    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isdecimal() for word in words):
        problem = f"{text!r} is not a number of tiles"
        raise ArgumentError(problem, place="--tiles", remedy="Use 3, 2x3 (rows x columns) or auto.")
    return int(words[0]) if len(words) == 1 else (int(words[0]), int(words[1]))


def check_numbers(args: argparse.Namespace, **least: int) -> None:
    """Raise `ArgumentError` for an option below its least value; one that was not given passes."""
    for name, value in least.items():
        try:
            at_least(value, **{name: getattr(args, name)})
        except ArgumentError as error:
            raise ArgumentError(error.problem, place=f"--{name.replace('_', '-')}", remedy=error.remedy) from None
