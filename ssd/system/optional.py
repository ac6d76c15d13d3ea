"""Optional packages, loaded when they are needed; where one is missing the error says how to get it."""

import importlib
from typing import Any

from ssd.errors import MissingExtraError


def load_extra(module: str, extra: str) -> Any:
    """The module `module`, which `pip install "ssd-vgg[extra]"` brings.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        problem = f"{package} is not installed" if error.name == package else f"cannot be imported ({error})"
        raise MissingExtraError(problem, place=package, remedy=f'Run: pip install "ssd-vgg[{extra}]"') from None
