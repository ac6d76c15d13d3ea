"""What every command does the same way. Nothing heavy is imported here."""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from ssd.errors import ArgumentError, SSDError
from ssd.files import NO_SPACE

P = ParamSpec("P")

USER_ERROR = 2
INTERRUPTED = 130


def guarded(command: Callable[P, int]) -> Callable[P, int]:
    """Turn a user's mistake into `error: ...` and exit code 2, Ctrl-C into 130. Other exceptions are bugs, and show."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except SSDError as error:
            print(f"error: {error}", file=sys.stderr)
            return USER_ERROR
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            remedy = "Free some space or choose another folder; finished files are unharmed."
            print(f"error: {error.filename or 'the disk'}: no space left. {remedy}", file=sys.stderr)
            return USER_ERROR

    return run


def add_force(parser: argparse.ArgumentParser) -> None:
    """Give a command `--force`, for `refuse_existing`."""
    parser.add_argument("--force", action="store_true", help="replace files named here that are there already")


def refuse_existing(*named: str | Path | None, force: bool) -> None:
    """Stop before a file that the user names for a result replaces another; `-` and None stand for no file.

    An empty file has nothing to lose.

    Raises:
        ArgumentError: it is there already, and nobody said `--force`; or it is a folder.
    """
    for path in (Path(name) for name in named if name and str(name) != "-"):
        if path.is_dir():
            raise ArgumentError("is a folder", place=path, remedy="Name a file.")
        if not force and path.exists() and path.stat().st_size > 0:
            raise ArgumentError("is there already", place=path, remedy="Name another file, or add --force.")
