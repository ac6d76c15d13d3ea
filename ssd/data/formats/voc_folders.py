"""Where a Pascal VOC folder has its annotations, its images and the lists of its splits."""

import functools
import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem
from ssd.data.formats.image_finder import ImageFinder
from ssd.data.formats.voc_xml import parse
from ssd.errors import AnnotationError
from ssd.system.unicode_names import Named, nfc

_SEARCHED = 20_000  # files looked at for annotations that lie deep, ...
_DEPTH = 4  # ... so many folders down at most, as in 2024/05/03


@dataclass(frozen=True)
class Part:
    """The places of some images and of their annotations."""

    annotations: Path
    images: Path
    deep: bool  # whether annotations in folders below count


def find_parts(folder: Path) -> dict[str, Part]:
    """The pairs of annotations and images, by split; under an empty name where sub-folders are no splits."""
    whole = _pair(folder)
    if whole is not None:
        inner = {path.name: path for path in folders.subfolders(whole.annotations) if _has_xml(path, deep=True)}
        if _has_xml(whole.annotations) or not any(map(folders.is_split, inner)):
            return {"": whole}
        images = {path.name: path for path in folders.subfolders(whole.images)}
        own = {name: images.get(folders.find_split(images, name) or "", whole.images) for name in inner}
        return {name: Part(path, own[name], deep=True) for name, path in inner.items()}
    beside = {
        name: Part(annotations, images, deep=True)
        for name, (images, annotations) in folders.split_pairs(folder).items()
        if _has_xml(annotations, deep=True)
    }
    if beside:
        return beside
    for place in (folder, *folders.named_subfolders(folder, folders.IMAGE_FOLDERS)):
        subs = folders.subfolders(place)
        pairs = {path.name: pair for path in subs if (pair := _pair(path)) is not None}
        if any(map(folders.is_split, pairs)):
            return pairs
        if any(_has_xml(path) for path in subs) or any(map(_has_pair_below, subs)):
            return {"": Part(place, place, deep=True)}  # sorted by something else: a class, a camera, a date
    return {}


def _pair(folder: Path) -> Part | None:
    """Annotations and images of one folder, where both lie right below it."""
    inner = folders.annotation_folders(folder)
    images = folders.named_subfolders(folder, folders.IMAGE_FOLDERS)
    annotations = next((path for path in inner if _has_xml(path, deep=True)), None)
    if annotations is not None:
        return Part(annotations, images[0] if images else folder, deep=True)
    if _has_xml(folder):
        return Part(folder, images[0] if images and not _has_images(folder) else folder, deep=False)
    together = next((path for path in images if _has_xml(path)), None)
    return None if together is None else Part(together, together, deep=False)


def _has_pair_below(folder: Path) -> bool:
    """Whether an image and its XML lie side by side some folders below, where no folder is a split or a part of one."""
    parts = {name.lower() for name in (*folders.ANNOTATION_FOLDERS, *folders.IMAGE_FOLDERS)}
    for path in islice(folders.walk(folder), _SEARCHED):
        if not path.name.lower().endswith(".xml"):
            continue
        names = [folder.name, *path.relative_to(folder).parts[:-1]]
        if len(names) > _DEPTH:
            continue
        if any(name.lower() in parts or folders.is_split(name) for name in names):
            continue
        if any(folders.is_image(other) for other in path.parent.glob(f"{glob.escape(path.stem)}.*")):
            return True
    return False


def find_lists(folder: Path) -> dict[str, Path]:
    """The lists of images, by split."""
    for place in (folder / "ImageSets" / "Main", folder / "ImageSets"):
        found = {path.stem: path for path in sorted(place.glob("[!.]*.txt")) if not _is_class_list(path)}
        if found:
            return found
    return {}


def list_xml(part: Part) -> list[Path]:
    """The annotations; in a folder of their own with all folders below it."""
    if not part.annotations.is_dir():
        return []
    files = folders.walk(part.annotations) if part.deep else part.annotations.iterdir()
    return sorted(path for path in files if path.suffix.lower() == ".xml" and not path.name.startswith("."))


def _has_xml(folder: Path, *, deep: bool = False) -> bool:
    if not folder.is_dir():
        return False
    places = (names for _, names in folders.listings(folder)) if deep else [os.listdir(folder)]  # noqa: PTH208 - faster
    return any(name.lower().endswith(".xml") and not name.startswith(".") for names in places for name in names)


def _has_images(folder: Path) -> bool:
    return any(folders.is_image(path) for path in folder.iterdir())


def key_of(path: Path, root: Path) -> str:
    """The name of an image or annotation: its path from `root` on, without the suffix."""
    return path.relative_to(root).with_suffix("").as_posix()


def _is_class_list(path: Path) -> bool:
    """Whether it is VOC's `cat_train.txt`: every line an image and -1, 0 or 1."""
    if "_" not in path.stem:
        return False
    lines = [line for line in folders.first_lines(path) if line]
    return bool(lines) and all(re.fullmatch(r"\S+\s+(-1|0|1)", line) for line in lines)


class PartFiles:
    """The files of one part of a folder, listed once."""

    def __init__(self, folder: Path, part: Part, split: str | None) -> None:
        self.part = part
        self.xml = Named((key_of(path, part.annotations), path) for path in list_xml(part))
        self.by_key: Named[list[Path]] = Named()
        self.by_stem: Named[list[Path]] = Named()
        for path in folders.walk(part.images):
            if folders.is_image(path):
                self.by_key.setdefault(key_of(path, part.images), []).append(path)
                self.by_stem.setdefault(path.stem, []).append(path)
        self.finder = ImageFinder(folder, [part.images], split)
        self.beside = ImageFinder(part.annotations)

    def find_xml(self, name: str) -> Path | None:
        """The annotation of that name; a list may write the image's suffix or folder too."""
        direct = self.xml.find(name)
        if direct is None:
            stem = name.removesuffix(Path(name).suffix) if name.lower().endswith(folders.IMAGE_SUFFIXES) else name
            direct = self.xml.find(stem) or self.xml.find(stem.rpartition("/")[2] if ".." not in stem else "")
        return direct

    def images(self, name: str) -> list[Path]:
        """The images of that name, in whatever folder where none is in the name's."""
        return self.by_key.find(name) or self.by_stem.find(name.rpartition("/")[2]) or []

    def find_image(self, root: Element | None, name: str, allow_outside: bool) -> Path:
        """The image of the annotation's name, else the one that `<filename>` names."""
        written = "" if root is None else (root.findtext("filename") or "").strip()
        found = _written_one(self.images(name), written)
        if found is None and written:
            found = self._named(written)
        if found is None:
            nor = f" nor {written!r}" if written else ""
            raise AnnotationError(f"no image {name}.jpg, .png, ...{nor} in {self.part.images}")
        if not allow_outside and not self.finder.is_inside(found):
            raise folders.outside(found, f"names the image {written or found.name!r} outside the data folder")
        return found

    def _named(self, written: str) -> Path | None:
        direct = self.part.images / written.replace("\\", "/")
        return folders.below(direct, self.finder.root) if folders.is_there(direct) else self.finder.find(written)

    def without_annotation(self, folder: Path, split: str) -> Iterator[Problem]:
        """Images without XML are left out where no list asks for them: nobody said that they are empty."""
        stems = {nfc(key.rpartition("/")[2]) for key in self.xml}
        for key, paths in sorted(self.by_key.items()):
            known = key in self.xml or nfc(paths[0].stem) in stems
            if not known and self._written.isdisjoint((nfc(paths[0].name), nfc(paths[0].stem))):
                place = folders.relative(paths[0], folder)
                yield Problem(place, "no_annotation", f"has no XML file and is left out of {split!r}", "note")

    @functools.cached_property
    def _written(self) -> set[str]:
        """The image names in `<filename>` of those XML files that have no image of their own name."""
        found = (self.by_key.find(key) or self.by_stem.find(path.stem) for key, path in self.xml.items())
        return {_filename(path) for path, images in zip(self.xml.values(), found, strict=True) if not images} - {""}


def _written_one(images: Sequence[Path], written: str) -> Path | None:
    """Of images of one name, that which `<filename>` names, else the first.

    Raises:
        AnnotationError: they lie in several folders, and `written` does not tell which is meant.
    """
    end = PurePosixPath(written.replace("\\", "/")).parts
    named = [path for path in images if end and path.parts[-len(end) :] == end]
    named = named or [path for path in images if end and path.name == end[-1]]
    found = named or list(images)
    if len({path.parent for path in found}) > 1:
        problem = f"two images are called so: {found[0]} and {found[1]}"
        raise AnnotationError(problem, remedy="Write the folder into <filename>, such as b/0.jpg, or rename one.")
    return found[0] if found else None


def _filename(path: Path) -> str:
    try:
        return nfc((parse(path).findtext("filename") or "").strip()).replace("\\", "/").rpartition("/")[2]
    except AnnotationError:
        return ""
