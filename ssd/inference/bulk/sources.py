"""The sources of a command line: images and videos, their division into shards, and the names of their results."""

import glob
import hashlib
import logging
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ssd.errors import ArgumentError, printable
from ssd.images import kinds
from ssd.images.video_reader import SUFFIXES as VIDEO_SUFFIXES

_log = logging.getLogger(__name__)

SUFFIXES = set(kinds.SUFFIXES)

_LONGEST_NAME = 255  # bytes, on most file systems
_ROOM_FOR_NUMBER = 240

Kind = Literal["image", "video", "live"]


@dataclass(frozen=True)
class Source:
    """One image, video file, camera or stream."""

    address: str  # a path, the number of a camera, or the address of a stream
    kind: Kind
    key: str  # its path below the given folder or glob: the same on every machine that mounts it
    suffix: str  # of its drawing: its own where it can be written, else .png; .mp4 for a video

    @property
    def path(self) -> Path:
        """The file, for an image or a video."""
        return Path(self.address)


def find_sources(named: Sequence[str], *, recursive: bool = False) -> list[Source]:
    """The named sources and those in folders and globs: each once, in order of name within a folder or glob.

    Raises:
        ArgumentError: a source does not exist, or contains neither image nor video.
    """
    found: dict[str, Source] = {}
    for name in named:
        for source in _live(name) or _files(name, SUFFIXES | VIDEO_SUFFIXES, "image or video", recursive):
            found.setdefault(source.address, source)
    return list(found.values())


def find_images(named: Sequence[str], *, recursive: bool = False) -> list[Path]:
    """Like `find_sources`, for images only."""
    found = (_files(name, SUFFIXES, "image", recursive) for name in named)
    return list(dict.fromkeys(source.path for sources in found for source in sources))


def _live(name: str) -> list[Source]:
    if "://" in name:
        try:
            place = urlsplit(name)
        except ValueError as error:
            raise ArgumentError(f"is no address ({error})", place=name, remedy="Check it.") from None
        if Path(place.path).suffix.lower() in (*kinds.SUFFIXES, *kinds.NOT_READ):
            raise ArgumentError("is a URL, not a file", place=name, remedy="Download it first, and name the file.")
        key = re.sub(r"[^\w.-]+", "-", f"{place.hostname or ''}{place.path}").strip("-") or "stream"
        return [Source(name, "live", key, ".mp4")]
    if name.isdecimal() and not Path(name).exists():
        return [Source(name, "live", f"camera-{name}", ".mp4")]
    return []


def _files(name: str, suffixes: set[str], wanted: str, recursive: bool) -> list[Source]:
    path = Path(name)
    unread: list[Path] = []
    closed: list[Path] = []
    if not name.strip():  # it would be the current folder
        raise ArgumentError(f"{name!r} names no file or folder", place="sources", remedy="Check the path.")
    if path.is_dir():
        inside, closed = _inside(path, recursive)
        top, matches = path, sorted([*_with_suffix(inside, suffixes), *closed])
        unread = _with_suffix(inside, set(kinds.NOT_READ))
    elif path.exists():
        top, matches = path.parent, [path]
    elif glob.has_magic(name):
        top = _fixed_part(path)
        matches = _with_suffix(map(Path, glob.iglob(name, recursive=True)), suffixes)  # noqa: PTH207 - a Path cannot glob from the root
        if "**" in path.parts:  # a glob leaves out folders that it cannot open, and hidden ones
            closed = [folder for folder in _inside(top, recursive=True)[1] if not _hidden(folder.relative_to(top))]
            matches = sorted([*matches, *closed])
    else:
        raise ArgumentError("no such file or folder", place=name, remedy="Check the path.")
    if unread:
        problem = f"{len(unread)} of its files are of kinds that are not read; the first: {unread[0].name}"
        if not matches:
            raise ArgumentError(f"no {wanted} found; {problem}", place=name, remedy=f"{kinds.CONVERT}.")
        _log.warning("%s: %s. %s.", name, printable(problem), kinds.CONVERT)
    if not matches:
        below = {found.parent for found in _with_suffix(path.rglob("*"), suffixes)} if path.is_dir() else set()
        remedy = f"Known suffixes: {', '.join(sorted(suffixes))}."
        if below:
            many = (
                f" There are {len(below)} such folders below it: --recursive looks into all." if len(below) > 1 else ""
            )
            remedy = f"Did you mean {min(below)}?{many}"
        raise ArgumentError(f"no {wanted} found", place=name, remedy=remedy)
    return [source_of(match, match.relative_to(top).as_posix()) for match in matches]


def _inside(folder: Path, recursive: bool) -> tuple[list[Path], list[Path]]:
    """The files in a folder, or below it, and the folders below it that cannot be opened.

    Raises:
        ArgumentError: the folder itself cannot be opened.
    """
    closed: list[Path] = []

    def refused(error: OSError) -> None:
        if Path(error.filename) == folder:
            remedy = "Check its permissions."
            raise ArgumentError(f"cannot be read ({error.strerror})", place=folder, remedy=remedy) from None
        closed.append(Path(error.filename))

    folders = os.walk(folder, onerror=refused)
    found = [Path(place, name) for place, _, names in islice(folders, None if recursive else 1) for name in names]
    return found, closed


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _with_suffix(paths: Iterable[Path], suffixes: set[str]) -> list[Path]:
    """Files with these suffixes, without the `._name` files of macOS, which are metadata of other files."""
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in suffixes and not path.name.startswith("._") and _may_be_file(path)
    )


def _may_be_file(path: Path) -> bool:
    """Whether it is a file, or cannot be looked at, such as a dangling link: reading it will say why."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _fixed_part(pattern: Path) -> Path:
    """The folders of a glob before the first that is a pattern."""
    return next(parent for parent in pattern.parents if not glob.has_magic(str(parent)))


def source_of(file: str | Path, key: str = "") -> Source:
    """An image or video, by its suffix."""
    path = Path(file)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return Source(str(path), "video", key, ".mp4")
    drawable = path.suffix.lower() in SUFFIXES - {".gif", ".jfif", ".jpe"}
    return Source(str(path), "image", key, path.suffix if drawable else ".png")


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` as (2, 8): the second of eight.

    Raises:
        ArgumentError: anything else.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    number, count = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not 1 <= number <= count:
        raise ArgumentError(f"{text!r} is not a share", place="--shard", remedy="Use 1/8 to 8/8 for eight machines.")
    return number, count


def share(sources: Sequence[Source], number: int, count: int) -> list[Source]:
    """The sources of shard `number` (from 1) of `count`.

    The shard of a file depends only on its `key` and on `count`: not on the other files, the order, or the place where
    a machine mounts the folder. Every file is in one shard; shards differ in size by chance.
    """
    return [source for source in sources if _hash(source.key) % count == number - 1]


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def _shortened(stem: str, most: int) -> str:
    """As many letters as fit into `most` bytes."""
    while len(os.fsencode(stem)) > most:
        stem = stem[:-1]
    return stem


def output_names(sources: Sequence[Source], taken: Iterable[str] = ()) -> dict[str, str]:
    """Names without suffix for the results of each source, by address: its own, numbered where that is taken.

    Names are unique even where upper and lower case are the same, and none is in `taken`.
    """
    used = {name.lower() for name in taken}
    names = {}
    for source in sources:
        stem = Path(source.key).stem if source.kind != "live" else source.key
        name, number = _shortened(stem, _LONGEST_NAME - max(len(source.suffix), len(".txt"))), 2
        while name.lower() in used:
            name, number = f"{_shortened(stem, _ROOM_FOR_NUMBER)}-{number}", number + 1
        used.add(name.lower())
        names[source.address] = name
    return names
