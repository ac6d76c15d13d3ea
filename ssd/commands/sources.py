"""Which pictures a command line names, and where what was found in them goes."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from ssd.errors import ArgumentError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def find_pictures(sources: Sequence[str], *, recursive: bool = False) -> list[Path]:
    """Files as named, the pictures of folders, the matches of globs: each once, in order of name within a source.

    Raises:
        ArgumentError: a source is not there, or holds no picture.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            matches = _pictures_of(path.rglob("*") if recursive else path.iterdir())
        elif path.exists():
            matches = [path]
        elif glob.has_magic(source):
            matches = _pictures_of(map(Path, glob.iglob(source, recursive=True)))  # noqa: PTH207 - a Path cannot glob from the root
        else:
            raise ArgumentError("no such file or folder", place=source, remedy="Check the path.")
        if not matches:
            known = ", ".join(sorted(SUFFIXES))
            raise ArgumentError("no picture found", place=source, remedy=f"Known suffixes: {known}.")
        found |= dict.fromkeys(matches)
    return list(found)


def _pictures_of(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())


def output_folder(named: Path | None, pictures: Sequence[Path], *, overwrite: bool = False) -> Path:
    """Make the folder for results: the one named, or the next free number in runs/detect.

    Raises:
        ArgumentError: it holds files already (without `overwrite`), or the pictures themselves (always).
    """
    if named is None:
        return _next_number(Path("runs") / "detect")
    if named.exists() and not named.is_dir():
        raise ArgumentError("is a file", place=named, remedy="Name a folder.")
    if any(picture.parent.resolve() == named.resolve() for picture in pictures):
        raise ArgumentError("holds the pictures themselves", place=named, remedy="Name another folder.")
    if not overwrite and named.is_dir() and any(named.iterdir()):
        raise ArgumentError("is not empty", place=named, remedy="Name a new folder, or add --overwrite.")
    _make(named)
    return named


def _next_number(parent: Path) -> Path:
    _make(parent)
    number = max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0) + 1
    while True:
        folder = parent / str(number)
        try:
            folder.mkdir()
        except FileExistsError:  # another process took it meanwhile
            number += 1
        else:
            return folder


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"cannot be made ({error.strerror})", place=folder, remedy="Use --output.") from None


def output_name(picture: Path, taken: set[str]) -> str:
    """Name for the drawn picture: its own; numbered when another folder's picture has it already; GIF becomes PNG."""
    suffix = ".png" if picture.suffix.lower() not in SUFFIXES - {".gif"} else picture.suffix
    name, number = f"{picture.stem}{suffix}", 2
    while name.lower() in taken:
        name, number = f"{picture.stem}-{number}{suffix}", number + 1
    taken.add(name.lower())
    return name
