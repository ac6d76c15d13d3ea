"""Files with equal content among the images of a folder."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

_ENDS = 4096  # bytes at either end that tell most files apart


def copies(images: Mapping[str, Path | None]) -> dict[str, str]:
    """Each name whose image has copies, with the first name of its group of equal files."""
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
