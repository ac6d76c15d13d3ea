"""The folder for results: new, the next number, or that of an interrupted detection; never one with other files."""

from collections.abc import Sequence
from pathlib import Path

from ssd.errors import ArgumentError
from ssd.inference.bulk.journal import has_failures_alone
from ssd.system.files import check_writable

NUMBERED = Path("runs") / "detect"


def output_folder(
    named: Path | None, inputs: Sequence[Path], *, force: bool = False, journal: str = "", resume: bool = False
) -> Path:
    """Make the folder for results: the one named, or the next free number in runs/detect.

    With `resume` it is the named one or the newest number, if it exists; it must contain a file `journal`, or nothing.

    Raises:
        ArgumentError: the folder has results or other files (without `force`), or the images themselves (always).
        SSDError: it cannot be written, or has no space left.
    """
    if named is None:
        newest = _newest() if resume else None
        if newest is None:
            check_writable(NUMBERED / "any")
            return _next_number(NUMBERED)
        named = newest
    if named.exists() and not named.is_dir():
        raise ArgumentError("is a file", place=named, remedy="Name a folder.")
    own = {named.resolve(), (named / "images").resolve()}
    if any(path.parent.resolve() in own for path in inputs):
        raise ArgumentError("holds the images themselves", place=named, remedy="Name another folder.")
    _check_contents(named, force, journal, resume)
    check_writable(named / "any")
    _make(named)
    return named


def _check_contents(folder: Path, force: bool, journal: str, resume: bool) -> None:
    if force or not folder.is_dir() or not any(folder.iterdir()):
        return
    interrupted = bool(journal) and (folder / journal).exists()
    if not resume:
        if has_failures_alone(folder):  # there is nothing to lose
            return
        remedy = "Name a new folder, or add --force" + (", or --resume to go on." if interrupted else ".")
        raise ArgumentError("is not empty", place=folder, remedy=remedy)
    if not interrupted:
        raise ArgumentError(f"has no {journal} to go on from", place=folder, remedy="Name a new folder.")


def _newest() -> Path | None:
    numbers = [path for path in NUMBERED.glob("*") if path.name.isdecimal() and path.is_dir()]
    return max(numbers, key=lambda path: int(path.name), default=None)


def _next_number(parent: Path) -> Path:
    _make(parent)
    number = max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0) + 1
    while True:
        folder = parent / str(number)
        try:
            folder.mkdir()
        except FileExistsError:  # another process has made it
            number += 1
        else:
            return folder


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"cannot be made ({error.strerror})", place=folder, remedy="Use --output.") from None
