"""What the readers of annotation tools share: entries of annotation files -> images of a folder, splits, classes.

A tool's format is an `EntryFormat`: which files are its own, and how one is parsed into entries. A folder's splits are
those that its annotation files name: in their own names (`train.csv`), in those of their folders
(`train/annotations.xml`), or for each image inside. Where some files name a split, the others are not used; they are
the training split where no file names one. Where none does, the program divides all images.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import LONGEST_SIDE, Problem, RawImage, RawObject, RawSplit, unreadable
from ssd.data.formats.class_lists import find_class_list
from ssd.data.formats.division import Division
from ssd.data.formats.image_finder import ImageFinder
from ssd.errors import AnnotationError, ImageDecodeError, SSDError
from ssd.images.decode import read_size

MAX_BYTES = 200 * 2**20  # of one annotation file of many images
_SEARCHED = 20_000  # files of a format's suffix, of which some are looked into


@dataclass(frozen=True, slots=True)
class Entry:
    """One image as an annotation file has it; boxes are pixels, or fractions of its sides."""

    file_name: str  # as it is written there
    source: str  # the file, and what else tells the entry, for messages
    objects: tuple[RawObject, ...] = ()
    width: int = 0  # 0 where the file does not state it
    height: int = 0
    fractions: bool = False
    unit: str = "object"
    folder: Path | None = None  # where the image is looked for first
    subset: str = ""  # the split that the file gives the image
    other_name: str = ""  # where there is no image of the first: without the prefix of an upload


@dataclass(frozen=True)
class Parsed:
    """The entries of one file, and what is wrong in it."""

    entries: Sequence[Entry]
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class EntryFormat:
    """A format whose annotation files hold entries of images.

    `is_own` tells its files among those with its suffix; `parse(file, folder)` raises AnnotationError for a file that
    is wrong as a whole. `named_by_file`: whether a file's own name may name a split. `subsets` lists the splits that a
    file gives its images, if it gives each one.
    """

    suffix: str
    is_own: Callable[[Path], bool]
    parse: Callable[[Path, Path], Parsed]
    named_by_file: bool = True
    subsets: Callable[[Path], Sequence[str]] = lambda path: ()

    def looks_like(self, folder: Path) -> bool:
        """Whether one of its annotation files lies in the folder."""
        return next(self._files(folder, _SEARCHED), None) is not None

    def splits(self, folder: Path) -> tuple[str, ...]:
        """The names of the splits, in alphabetical order; none where no file names one."""
        return tuple(sorted(name for name in self._by_split(folder) if name))

    def read(
        self,
        folder: Path,
        split: str | None,
        *,
        division: Division | None = None,
        classes: Sequence[str] | None = None,
        allow_outside: bool = False,
    ) -> RawSplit:
        """Read the annotations of one split, or of all, or a part of that.

        Class names come from `classes`, else from `labels.txt` or `classes.txt`, else from all files of the folder.
        """
        by_split = self._by_split(folder)
        parsed = self._parse_all(by_split, folder)
        parts = [_part(parsed[file], subset) for file, subset in by_split.get(split or "", [])]
        problems = [problem for part in parts for problem in part.problems]
        finder = ImageFinder(folder, _image_folders(folder, split), split)
        entries = _unique((entry for part in parts for entry in part.entries), finder, allow_outside, problems)
        if division is not None:
            found = {key: path if isinstance(path, Path) else None for key, (_, path) in entries.items()}
            chosen = division.choose(found, lambda key: {item.name for item in entries[key][0].objects})
            entries = {key: entries[key] for key in chosen}
        images = []
        for key, (entry, path) in entries.items():
            try:
                images.append(_raw_image(entry, key, path))
            except (AnnotationError, ImageDecodeError) as error:
                problems.append(unreadable(entry.source, error))
        names = tuple(classes) if classes is not None else find_class_list(folder)
        if names is None:
            everywhere = (item for one in parsed.values() for entry in one.entries for item in entry.objects)
            names = tuple(sorted({item.name for item in everywhere}))
        return RawSplit(tuple(images), names, tuple(range(1, len(names) + 1)), tuple(problems))

    def used_files(self, folder: Path) -> set[str]:
        """The paths of the annotation files, and the images that they have."""
        by_split = self._by_split(folder)
        parsed = self._parse_all(by_split, folder)
        used = set(parsed)
        for split, files in by_split.items():
            finder = ImageFinder(folder, _image_folders(folder, split or None), split)
            for entry in (entry for file, subset in files for entry in _part(parsed[file], subset).entries):
                if (found := _find(finder, entry)) is not None:
                    used.add(found)
        return set(map(str, used))

    def _parse_all(self, by_split: dict[str, list[tuple[Path, str]]], folder: Path) -> dict[Path, Parsed]:
        """What each file holds; one that cannot be read has that as its problem."""
        found: dict[Path, Parsed] = {}
        for file in dict.fromkeys(file for files in by_split.values() for file, _ in files):
            try:
                found[file] = self.parse(file, folder)
            except SSDError as error:
                found[file] = Parsed((), (unreadable(folders.relative(file, folder), error),))
        return found

    def _files(self, folder: Path, most: int | None = None) -> Iterator[Path]:
        if folder.is_dir():
            files = (path for path in folders.walk(folder) if path.suffix.lower() == self.suffix)
            yield from filter(self.is_own, islice(files, most))

    def _by_split(self, folder: Path) -> dict[str, list[tuple[Path, str]]]:
        """The annotation files by split, each with the subset of its images that is meant; empty names mean all."""
        found: dict[str, list[tuple[Path, str]]] = {}
        for path in self._files(folder):
            words = [part for part in path.relative_to(folder).parts[:-1] if folders.is_split(part)]
            if self.named_by_file:
                words += [word for word in re.split(r"[\W_]+", path.stem.lower()) if folders.is_split(word)]
            for name in words[:1] or self.subsets(path) or [""]:
                found.setdefault(name, []).append((path, "" if words else name))
        if "" in found and len(found) > 1:
            others = found.pop("")
            if not any(folders.without_year(name).startswith("train") for name in found):
                found["train"] = others
        return found


def _part(parsed: Parsed, subset: str) -> Parsed:
    """The entries of a file that are of one subset, with their problems and those of the whole file."""
    if not subset:
        return parsed
    entries = [entry for entry in parsed.entries if entry.subset == subset]
    others = {entry.source for entry in parsed.entries}.difference(entry.source for entry in entries)
    return Parsed(entries, [problem for problem in parsed.problems if problem.path not in others])


def _image_folders(folder: Path, split: str | None) -> list[Path]:
    """Where images are looked for: in the split's folders, then in those of all images."""
    inner = folders.named_subfolders(folder, folders.IMAGE_FOLDERS)
    of_split = [] if split is None else [folder / split, *(place / split for place in inner)]
    return [path for path in (*of_split, *inner, folder) if path.is_dir()]


def _find(finder: ImageFinder, entry: Entry) -> Path | None:
    """The image of an entry, first beside its annotation file and in the folders of images there."""
    for written in filter(None, dict.fromkeys((entry.file_name, entry.other_name))):
        name = written.replace("\\", "/")
        if entry.folder is not None:
            places = [entry.folder]
            if entry.folder != finder.root:  # one of several exports, each with images of its own
                places += [*finder.image_folders(entry.folder), *finder.image_folders(entry.folder.parent)]
            for beside in (place / name for place in places):
                for path in (Path(os.path.normpath(beside)), beside):  # without `..` where that is the same file
                    if folders.is_there(path):
                        return folders.below(path, finder.root)
            if (other := finder.in_other_form(name, entry.folder)) is not None:
                return other
        if (found := finder.find(name)) is not None:
            return found
    return None


def _unique(
    entries: Iterable[Entry], finder: ImageFinder, allow_outside: bool, problems: list[Problem]
) -> dict[str, tuple[Entry, Path | AnnotationError]]:
    """Each image once, under its id: its path from the data folder on, without the suffix where that is enough."""
    by_path: dict[str, tuple[Entry, Path | AnnotationError]] = {}
    for entry in entries:
        path = _find(finder, entry)
        where: Path | AnnotationError
        if path is None:
            remedy = "Put the images beside the annotations, or into images/."
            where = AnnotationError(f"no image {entry.file_name[:200]!r} in {finder.root}", remedy=remedy)
        elif not allow_outside and not folders.is_inside(path, finder.root):
            where = folders.outside(path, "names an image outside the data folder")
        else:
            where = path
        key = folders.relative(path, finder.root) if isinstance(where, Path) and path else entry.file_name
        if key in by_path and not isinstance(where, Path):  # two files of one name, of which none is there
            by_path[f"{key}, {entry.source}"] = entry, where
        elif key in by_path:
            message = f"{key[:200]} is annotated twice, in {by_path[key][0].source} and in {entry.source}; keep one"
            problems.append(Problem(entry.source, "duplicate_file", message, "file"))
        else:
            by_path[key] = entry, where
    short = {key: Path(key).with_suffix("").as_posix() if Path(key).name else key for key in by_path}
    counts: dict[str, int] = {}
    for name in short.values():
        counts[name] = counts.get(name, 0) + 1
    return {short[key] if counts[short[key]] == 1 else key: found for key, found in by_path.items()}


def _raw_image(entry: Entry, key: str, path: Path | AnnotationError) -> RawImage:
    if isinstance(path, AnnotationError):
        raise path
    stated = 0 < entry.width <= LONGEST_SIDE and 0 < entry.height <= LONGEST_SIDE
    width, height = (entry.width, entry.height) if stated else read_size(path)
    objects = entry.objects
    if entry.fractions:
        objects = tuple(map(partial(_in_pixels, width, height), objects))
    return RawImage(str(path), key, entry.source, width, height, objects, entry.unit)


def _in_pixels(width: int, height: int, item: RawObject) -> RawObject:
    left, top, right, bottom = item.box
    box = (left * width, top * height, right * width, bottom * height)
    return RawObject(item.index, item.name, box, item.difficult, item.crowd)
