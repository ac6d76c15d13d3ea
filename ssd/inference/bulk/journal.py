"""`detections.jsonl`: one line per image, written after its other files, so that an interrupted detection can resume.

An image has path, width, height, detections and, if any were written, files; a failed one has path and error. A video
has such a line for each frame, with frame and seconds, and a last line with path and frames. A killed process leaves
half a line, or a video without its last line: both are cut off at a resume.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from ssd.errors import ArgumentError
from ssd.system.files import write_atomic, writing

JOURNAL = "detections.jsonl"
OPTIONS = "options.json"

Row = dict[str, Any]


@dataclass
class Tally:
    """Counts of images, videos, detections and failures."""

    images: int = 0
    videos: int = 0
    frames: int = 0
    objects: int = 0
    failed: int = 0

    def count(self, row: Row) -> None:
        """Count one line."""
        self.failed += "error" in row
        self.frames += "frame" in row
        self.videos += "frames" in row
        self.images += "detections" in row and "frame" not in row
        self.objects += len(row.get("detections", ()))


@dataclass(frozen=True)
class Done:
    """The finished sources of an earlier process."""

    paths: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()  # of the files it wrote, without folder and suffix
    tally: Tally = field(default_factory=Tally)


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the complete rows one at a time, since a journal may be larger than memory."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = _parse(line)
            if row is not None:
                yield row


def _parse(line: str) -> Row | None:
    """The row of a line; None for an incomplete one."""
    if not line.endswith("\n"):
        return None
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and "path" in row else None


def has_failures_alone(folder: Path) -> bool:
    """Whether all that is in the folder is from a detection in which every source failed."""
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    if JOURNAL not in files or not files <= {JOURNAL, OPTIONS, "classes.txt", "data.yaml"}:
        return False
    return all("error" in row for row in read_rows(folder / JOURNAL))


def take_up(folder: Path, options: Row) -> Done:
    """Remove unfinished and failed sources from the journal in `folder`, and return the finished ones.

    Raises:
        ArgumentError: it was made with other options.
    """
    journal = folder / JOURNAL
    if not journal.exists():
        return Done()
    _compare(folder / OPTIONS, options)
    done, names, tally = set(), set(), Tally()
    for row in read_rows(journal):
        if "frame" not in row and "error" not in row:
            done.add(row["path"])
    cleaned = journal.with_name(f".{JOURNAL}.cleaned")
    with writing(journal):
        with open_journal(cleaned, "w") as kept:
            for row in read_rows(journal):
                if row["path"] in done and "error" not in row:
                    tally.count(row)
                    names |= {_name(Path(file), of_frame="frame" in row) for file in row.get("files", ())}
                    write_row(kept, row)
        cleaned.replace(journal)
    return Done(frozenset(done), frozenset(names), tally)


def _name(file: Path, *, of_frame: bool) -> str:
    """The name that its source has in the folder: that of the file, and of a video's frames that of their folder."""
    return file.parent.name if of_frame else file.with_suffix("").name


def open_journal(path: Path, mode: Literal["a", "w"] = "a") -> TextIO:
    """Open a file of JSON for `write_row`; bytes of file names that are no UTF-8 become JSON's own escapes."""
    return path.open(mode, encoding="utf-8", errors="backslashreplace")


def write_row(file: TextIO, row: Row) -> None:
    """Write one line and flush it, so that a killed process loses no earlier line."""
    print(json.dumps(row, ensure_ascii=False, allow_nan=False), file=file, flush=True)


def write_options(folder: Path, options: Row) -> None:
    """Store the options of the detection, for the comparison at a resume."""
    text = json.dumps(options, indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / OPTIONS, text.encode(errors="backslashreplace"))


def _compare(path: Path, options: Row) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
        raise ArgumentError("cannot be read", place=path, remedy="Start in a new folder, or add --force.")
    options = json.loads(json.dumps(options))  # a tuple is a list in the file
    for key in {**before, **options}:  # one that is not in the file has its default, and so has one that is not given
        if before.get(key) != options.get(key):
            problem = f"what is there was made with {key}={before.get(key)!r}, not {options.get(key)!r}"
            raise ArgumentError(problem, place=path, remedy="Use the same options, or a new folder.")
