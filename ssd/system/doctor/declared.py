"""What the package declares to require, and what of it is there; works where nothing of it is installed."""

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from ssd.system.python_environment import CHECKOUT

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "ssd-vgg"


def installed(name: str) -> str | None:
    """The version of a distribution, by its metadata; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def declared() -> "Iterator[Requirement]":
    """Every requirement, those of the extras among them."""
    from packaging.requirements import Requirement

    yield from map(Requirement, _texts())


def missing() -> list[str]:
    """The requirements of no extra that are not there in any version; needs no package to say so."""
    texts = [text for text in _texts() if "extra ==" not in text]
    return [text for text in texts if installed(re.split(r"[^\w.-]", text, maxsplit=1)[0]) is None]


def extra_names() -> list[str]:
    """The optional features that a user may want."""
    try:
        names = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra")
    except metadata.PackageNotFoundError:
        return []
    return [str(name) for name in names or [] if name != "dev"]


def _texts() -> list[str]:
    """From what was installed; in a folder that was not, from its pyproject.toml."""
    try:
        return sorted(metadata.requires(DISTRIBUTION) or [])  # build tools differ in the order
    except metadata.PackageNotFoundError:
        pass
    project = CHECKOUT / "pyproject.toml"
    return sorted(tomllib.loads(project.read_text())["project"]["dependencies"]) if project.exists() else []
