"""Lists of class names beside the data: one name per line, or names separated by commas."""

from pathlib import Path

from ssd.data.formats import paths as folders

NAMES = ("labels.txt", "classes.txt", "obj.names", "_darknet.labels", "classes.names")


def find_class_list(folder: Path, names: tuple[str, ...] = ("labels.txt", "classes.txt")) -> tuple[str, ...] | None:
    """The names in the first list there, in any case of its name; None without one."""
    files = {path.name.lower(): path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    path = next((files[name] for name in names if name in files and files[name].is_file()), None)
    return None if path is None else read_class_list(path)


def read_class_list(path: Path) -> tuple[str, ...]:
    """The names of one list."""
    lines = [line for line in folders.read_lines(path) if line]
    words = [word.strip() for line in lines for word in line.split(",")]
    return tuple(word for word in words if word)


def is_ignored(name: str) -> bool:
    """Whether it is LabelMe's name for regions that count for no class; its lists of names begin with it."""
    return name.strip().lower() == "__ignore__"


def is_background(name: str) -> bool:
    """Whether it is the background class of a list; the network adds its own."""
    return name.strip(" _-").lower() == "background"
