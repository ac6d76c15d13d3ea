"""Lists of class names beside the data: one name per line, or names separated by commas on a single line."""

from pathlib import Path

from ssd.data.formats import paths as folders
from ssd.errors import DatasetError

NAMES = ("labels.txt", "classes.txt", "obj.names", "_darknet.labels", "classes.names")


def find_class_list(folder: Path, names: tuple[str, ...] = ("labels.txt", "classes.txt")) -> tuple[str, ...] | None:
    """The names in the first list there, in any case of its name; None without one."""
    path = class_list_file(folder, names)
    return None if path is None else read_class_list(path)


def class_list_file(folder: Path, names: tuple[str, ...] = NAMES) -> Path | None:
    """The first list there, in any case of its name."""
    files = {path.name.lower(): path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    return next((files[name] for name in names if name in files and files[name].is_file()), None)


def read_class_list(path: Path, *, numbered: bool = False) -> tuple[str, ...]:
    """The names of one list; `numbered`: labels are their places in it.

    Raises:
        DatasetError: it is numbered, and an empty line between names leaves open what the places after it are.
    """
    lines = folders.read_lines(path)
    while lines and not lines[-1]:
        lines.pop()
    if numbered and "" in lines:
        remedy = "Remove the line, or write a name into it."
        raise DatasetError(f"line {lines.index('') + 1} of the class names is empty", place=path, remedy=remedy)
    lines = list(filter(None, lines))
    words = lines[0].split(",") if len(lines) == 1 else [line.rstrip(",") for line in lines]
    return tuple(filter(None, map(str.strip, words)))


def is_ignored(name: str) -> bool:
    """Whether it is LabelMe's name for regions that count for no class; its lists of names begin with it."""
    return name.strip().lower() == "__ignore__"


def is_background(name: str) -> bool:
    """Whether it is the background class of a list; the network adds its own."""
    return name.strip(" _-").lower() == "background"
