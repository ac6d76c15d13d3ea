"""Optional packages, loaded when they are needed; where one is missing the error says how to get it."""

import importlib
import sys
from typing import Any

from ssd.errors import MissingExtraError
from ssd.system.python_environment import CHECKOUT
from ssd.system.version import NEVER_INSTALLED, __version__


def pip_install(extra: str) -> str:
    """The command that brings an extra to this Python.

    Where the package was never installed, pip would look its name up on PyPI, so that its folder is named instead.
    """
    target = f'-e "{CHECKOUT}[{extra}]"' if __version__ == NEVER_INSTALLED else f'"ssd-vgg[{extra}]"'
    return f"{sys.executable} -m pip install {target}"


def load_extra(module: str, extra: str) -> Any:
    """The module `module`, which the extra `extra` brings.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        problem = f"{package} is not installed" if error.name == package else f"cannot be imported ({error})"
        raise MissingExtraError(problem, place=package, remedy=f"Run: {pip_install(extra)}") from None
