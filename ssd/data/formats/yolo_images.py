"""The images of a YOLO folder's splits: in folders, in lists, or all that is there."""

from collections import Counter
from pathlib import Path

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem
from ssd.data.formats.image_finder import ImageFinder, find_tail
from ssd.data.formats.yolo_yaml import YoloFolder
from ssd.errors import DatasetError, counted


def list_split(
    source: YoloFolder, split: str | None, allow_outside: bool, problems: list[Problem]
) -> list[tuple[Path, str]]:
    """The split's images, each with its id: its path below the split's folder, without the suffix."""
    places = source.splits() or source.image_folders()
    values = places.get(split) if split is not None else next(iter(source.splits().values()), None)
    if values is None:
        return _everything(source)
    listed: list[tuple[Path, str]] = []
    for value in values:
        place, moved = source.find(value)
        if not allow_outside and not folders.is_inside(place, source.root):
            remedy = "Move it inside, or set data.allow_outside=true."
            raise DatasetError(f"names {value!r} outside the data folder", place=source.yaml, remedy=remedy)
        if moved:
            message = f"{value!r} is not there; {folders.relative(place, source.root)} in this folder is read"
            problems.append(Problem(str(source.yaml or source.root), "moved", message, "note"))
        root = place if len(values) == 1 else source.root  # images of several folders may share their names
        if place.is_dir():
            listed += [(path, _without_suffix(path, root)) for path in folders.list_images(place, deep=True)]
        else:
            listed += [(path, _without_suffix(path, source.root)) for path in listed_in(place, source.root, problems)]
    counts = Counter(listed)
    twice = [folders.relative(path, source.root) for (path, _), count in counts.items() if count > 1]
    if twice:
        message = f"lists {counted(len(twice), 'image')} more than once, the first: {twice[0]}; each counts once"
        problems.append(Problem(", ".join(values)[:200], "listed_twice", message, "note"))
    return list(counts)


def _everything(source: YoloFolder) -> list[tuple[Path, str]]:
    """All images of a folder without splits: those of its folder of images, else of the folders that have such."""
    named = [source.root / value for values in source.image_folders().values() for value in values]
    inner = [
        place
        for place in folders.named_subfolders(source.root, folders.IMAGE_FOLDERS)
        if all(name.is_relative_to(place) for name in named)  # not those of another data set beside
    ]
    tops = inner[:1] or named or [source.root]
    paths = [path for top in tops for path in folders.list_images(top, deep=True)]
    root = tops[0] if len(tops) == 1 else source.root
    if len(named) == 1 and all(path.is_relative_to(named[0]) for path in paths):
        root = named[0]
    return [(path, _without_suffix(path, root)) for path in paths]


def listed_in(file: Path, root: Path, problems: list[Problem]) -> list[Path]:
    """The images of a list file; paths of another machine are looked for by their ends."""
    found, moved = [], []
    finder = ImageFinder(root, [file.parent])
    for line in folders.read_lines(file, folders.MAX_LIST_BYTES):
        if not line:
            continue
        name = line.replace("\\", "/")
        path = next((place for base in (file.parent, root) if folders.is_there(place := base / name)), None)
        if path is None and (path := find_tail([file.parent, root], name)) is not None:
            moved.append(line)
        found.append(folders.below(path or finder.in_other_form(name) or file.parent / name, root))
    if moved:
        message = f"{len(moved)} of its paths are not there and were found in this folder; the first: {moved[0][:200]}"
        problems.append(Problem(folders.relative(file, root), "moved", message, "note"))
    return found


def _without_suffix(path: Path, root: Path) -> str:
    return Path(folders.relative(path, root)).with_suffix("").as_posix()
