"""What every command does the same way. Nothing heavy is imported here."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

from ssd.errors import SSDError
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
