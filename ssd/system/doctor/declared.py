"""The declared requirements of the package, and their installed versions; works without any of them."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from ssd.system.python_environment import CHECKOUT

DISTRIBUTION = "ssd-vgg"


def installed(name: str) -> str | None:
    """The version of a distribution, by its metadata; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Requirement:
    """One requirement, in the part of the notation that pyproject.toml uses: `name[part]>=1.2,<2; extra == "x"`."""

    name: str
    bounds: str
    extra: str | None

    def __str__(self) -> str:
        return f"{self.name}{self.bounds}"

    def accepts(self, version: str | None) -> bool:
        """Whether an installed version fits; a preview of a version counts as that version."""
        if version is None:
            return False
        bounds = (re.fullmatch(r"(>=|==|<)\s*([\w.]+)", bound.strip()) for bound in self.bounds.split(","))
        return all(_holds(version, *bound.groups()) for bound in bounds if bound is not None)


def parse(text: str) -> Requirement:
    """Read a requirement as a distribution's metadata or pyproject.toml writes it."""
    wanted, _, marker = text.partition(";")
    match = re.match(r"\s*([\w.-]+)\s*(\[[^]]*\])?\s*\(?([^)]*)\)?", wanted)
    assert match is not None, f"{text!r} is a requirement"
    extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", marker)
    return Requirement(match.group(1), match.group(3).strip(), extra.group(1) if extra else None)


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version: (2, 10, 0) of 2.10.0rc1+cu128."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()


def _holds(version: str, sign: str, bound: str) -> bool:
    numbers, limit = release(version), release(bound)
    length = max(len(numbers), len(limit))
    numbers, limit = (each + (0,) * (length - len(each)) for each in (numbers, limit))
    return {">=": numbers >= limit, "==": numbers == limit, "<": numbers < limit}[sign]


def declared() -> Iterator[Requirement]:
    """Every requirement, those of the extras among them."""
    yield from map(parse, _texts())


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
