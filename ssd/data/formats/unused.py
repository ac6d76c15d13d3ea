"""Files in a data folder that no split uses, by kind and count, with the first of each."""

from collections import Counter, defaultdict
from dataclasses import astuple
from pathlib import Path

from ssd.data import cache
from ssd.data.formats import coco, downloads
from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem
from ssd.data.formats.recognition import FOLDER_FORMATS, find_format
from ssd.errors import SSDError, counted
from ssd.images import kinds
from ssd.system.garbage import collection_paused

# Common files beside data that are not worth a note.
_HARMLESS = (
    ".md",
    ".rst",
    ".py",
    ".ipynb",
    ".sh",
    ".yaml",
    ".yml",
    ".cfg",
    ".toml",
    ".log",
    ".cache",
    ".names",
    ".data",
)
_HARMLESS_NAMES = (
    "readme",
    "license",
    "licence",
    "labelmap",
    "notes",
    "classes",
    "labels",
    "thumbs",
    "predefined_classes",
)
_ANNOTATIONS = {
    **{"voc": (".xml",), "coco": (".json",), "yolo": (".txt",)},
    **{"labelme": (".json",), "cvat": (".xml",), "labelstudio": (".json",), "csv": (".csv",)},
}


def find_unused(folder: str | Path | None, format: str = "auto") -> list[Problem]:
    """The files that no split uses, a note for each kind and place: images, annotations, files that are not read."""
    root, kind = find_format(folder, format)
    if kind in downloads.NAMES:
        return []
    files = coco.annotation_files(root) if kind == "coco" else []
    if not any(map(coco.is_large, files)):
        return _find(root, kind)
    key = {"what": "unused 2", "root": str(root)}
    entry = cache.load(key)
    if entry is not None:
        return [Problem.of_list(values) for values in entry.facts["notes"]]
    before = cache.states([*files, *folders.tree(root)])
    notes = _find(root, kind)
    cache.store(key, before, {"notes": [astuple(note) for note in notes]})
    return notes


def _find(root: Path, kind: str) -> list[Problem]:
    top = root.parent if root.is_file() else root
    try:
        with collection_paused():
            used = FOLDER_FORMATS[kind].used_files(root)
    except SSDError:  # a problem of its own
        return []
    places: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for place, names in folders.listings(top):
        start = folders.start_of(place)
        for name in sorted(name for name in names if not name.startswith(".") and start + name not in used):
            path = Path(place, name)
            if not _is_harmless(path, kind):
                places[_kind(path, kind), folders.relative(path.parent, top)].append(path)
    return [_note(what, place, paths, top) for (what, place), paths in sorted(places.items())]


def about_unread_images(folder: str | Path | None) -> str | None:
    """How many images of a folder are of kinds that are not read, such as HEIC; None where there are none."""
    if folder is None or not Path(folder).is_dir():
        return None
    found = [path for path in folders.walk(Path(folder)) if path.suffix.lower() in kinds.NOT_READ]
    if not found:
        return None
    first = folders.relative(found[0], Path(folder))
    return f"{counted(len(found), 'file')} of kinds that are not read; the first: {first}"


def describe(unused: list[Problem]) -> str:
    """All notes on one line."""
    return "; ".join(f"{problem.path}: {problem.message}" for problem in unused)


def _kind(path: Path, format: str) -> str:
    if folders.is_image(path):
        return "unused_images"
    return "unused_annotations" if path.suffix.lower() in _ANNOTATIONS[format] else "not_read"


def _note(what: str, place: str, paths: list[Path], top: Path) -> Problem:
    first = folders.relative(paths[0], top)
    if what == "unused_images":
        text = (
            f"{counted(len(paths), 'image')} that no split uses, without annotations or in no list; the first: {first}"
        )
    elif what == "unused_annotations":
        text = f"{counted(len(paths), 'annotation file')} without an image, or in no list; the first: {first}"
    else:
        suffixes = Counter(path.suffix.lower() or "(no suffix)" for path in paths).most_common()
        listed = ", ".join(f"{number} {suffix}" for suffix, number in suffixes[:5])
        text = f"{counted(len(paths), 'file')} of kinds that are not read ({listed}); the first: {first}"
        if any(path.suffix.lower() in kinds.NOT_READ for path in paths):
            text += f". {kinds.CONVERT}"
    return Problem(place if place != "." else top.name, what, text, "note")


def _is_harmless(path: Path, format: str) -> bool:
    name, suffix = path.name.lower(), path.suffix.lower()
    if suffix in _HARMLESS or (name.startswith(_HARMLESS_NAMES) and not folders.is_image(path)):
        return True
    if format == "voc" and suffix == ".txt":  # lists of splits and classes
        return True
    return format == "coco" and name.startswith(coco.OTHER_TASKS)
