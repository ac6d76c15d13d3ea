"""Divides folders without splits, always in the same way."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

VAL_FRACTION = 0.1
_LEAST = 10  # images that make a figure worth reading, where a quarter of the set has as many
_ENDS = 4096  # bytes at either end that tell most files apart


@dataclass(frozen=True)
class Division:
    """Which part of the images: `val` is about `fraction` of them, `train` the rest.

    The hash of an image's name decides, so it stays on its side when others are added. Copies of one image, equal byte
    by byte, stay together. Small sets give a quarter, up to ten images, to `val`.
    """

    part: Literal["train", "val", "all"]
    fraction: float = VAL_FRACTION

    def choose(self, images: Mapping[str, Path | None]) -> list[str]:
        """The names of this part among `images`, which are names and where the image of each is, if that is known."""
        names = sorted(images)
        if self.part == "all":
            return names
        first = _groups(images)
        groups: dict[str, list[str]] = defaultdict(list)
        for name in names:
            groups[first.get(name, name)].append(name)
        val = _draw(groups, self.fraction)
        if not val:  # nearly all images are copies of one: no division keeps them together
            val = _draw({name: [name] for name in names}, self.fraction)
        return [name for name in names if (name in val) == (self.part == "val")]


def _draw(groups: Mapping[str, list[str]], fraction: float) -> set[str]:
    total = sum(map(len, groups.values()))
    least = min(_LEAST, max(1, total // 4))
    val: set[str] = set()
    draws = {name: hashlib.sha256(name.encode(errors="surrogateescape")).digest()[0] / 256 for name in groups}
    for name in sorted(groups, key=lambda name: (draws[name], name)):
        if draws[name] >= fraction and len(val) >= least:
            break
        if 2 * len(groups[name]) <= total or total == 1:
            val.update(groups[name])
    return val


def _groups(images: Mapping[str, Path | None]) -> dict[str, str]:
    """Each name whose image has copies, with the first name of its group."""
    sizes: dict[int, list[str]] = defaultdict(list)
    for name, path in sorted(images.items()):
        size = _size(path)
        if size:
            sizes[size].append(name)
    found: dict[str, str] = {}
    for size, names in sizes.items():
        if len(names) == 1:
            continue
        by_content: dict[bytes, list[str]] = defaultdict(list)
        for name in _alike(images, names, size):
            by_content[_digest(images[name])].append(name)
        for group in by_content.values():
            found |= dict.fromkeys(group, group[0])
    return found


def _alike(images: Mapping[str, Path | None], names: list[str], size: int) -> list[str]:
    """The files with the same first and last bytes as another one."""
    ends: dict[bytes, list[str]] = defaultdict(list)
    for name in names:
        ends[_ends(images[name], size)].append(name)
    return [name for group in ends.values() if len(group) > 1 for name in group]


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None and path.is_file() else 0
    except (OSError, ValueError):
        return 0


def _ends(path: Path | None, size: int) -> bytes:
    assert path is not None
    try:
        with path.open("rb") as file:
            start = file.read(_ENDS)
            file.seek(max(0, size - _ENDS))
            return start + file.read(_ENDS)
    except OSError:
        return str(path).encode(errors="surrogateescape")


def _digest(path: Path | None) -> bytes:
    assert path is not None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return str(path).encode(errors="surrogateescape")
