"""Refuses files that hold something else than they were to hold: pointers of Git LFS and git-annex, web pages."""

from pathlib import Path

from ssd.errors import SSDError

LENGTH = 512  # bytes of a file's start that are looked at
_PAGE = "is a web page, not the file: download it again"
_STARTS = {
    b"version https://git-lfs.github.com/spec/": "is a pointer of Git LFS, not the file: git lfs pull fetches it",
    b"/annex/objects/": "is a pointer of git-annex, not the file: git annex get fetches it",
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
}


def refuse_other_content(start: bytes, place: str | Path, error: type[SSDError]) -> None:
    """Refuse the content of a file that only stands for another one, or is a web page.

    Raises:
        SSDError: `error`, if it starts like one.
    """
    start = start[:LENGTH].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for sign, problem in _STARTS.items():
        if start.startswith(sign):
            raise error(problem, place=place)


def refuse_other_file(path: Path, error: type[SSDError]) -> None:
    """`refuse_other_content` of a file, of which the start is read; what cannot be read is the next reader's to say."""
    try:
        with path.open("rb") as file:
            start = file.read(LENGTH)
    except OSError:
        return
    refuse_other_content(start, path, error)
