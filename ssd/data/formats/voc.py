"""Pascal VOC folders: one XML file per image.

A folder holds annotations and images: in sub-folders under the usual names in any case (`Annotations`, `annots`, ...,
`JPEGImages`, `images`, ...), searched with all folders below them, or side by side. Splits are the lists in
`ImageSets/Main/*.txt`, or sub-folders that each hold such a pair; a folder without splits is divided by the program.
An image is found by the name of its XML file, else by `<filename>`.

VOC counts pixels from 1. `offset="1"` subtracts 1 from all four numbers, as most SSD codes do (lufficc, chainercv,
amdegroot); what is -1 after that (the file counted from 0) is cut to 0. `"0"` takes the numbers as they are. `"auto"`
subtracts 1 unless some box of the folder starts below 1.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import LONGEST_SIDE, Problem, RawImage, RawObject, RawSplit, unreadable
from ssd.data.formats.class_lists import find_class_list
from ssd.data.formats.division import Division
from ssd.data.formats.image_finder import ImageFinder
from ssd.data.formats.voc_folders import Part, find_lists, find_parts, key_of, list_xml
from ssd.data.formats.voc_xml import parse, read_objects, read_size_tag
from ssd.errors import AnnotationError, ImageDecodeError
from ssd.images.decode import read_size
from ssd.system.unicode_names import Named, nfc

Offset = Literal["0", "1", "auto"]


def looks_like(folder: Path) -> bool:
    """Whether XML annotations lie where a VOC folder has them."""
    return bool(find_parts(folder))


def splits(folder: Path) -> tuple[str, ...]:
    """The names of the splits, in alphabetical order; none where the folder has none."""
    return tuple(find_lists(folder)) or tuple(name for name in find_parts(folder) if name)


def read(
    folder: Path,
    split: str | None,
    *,
    division: Division | None = None,
    offset: Offset = "1",
    classes: Sequence[str] | None = None,
    allow_outside: bool = False,
) -> RawSplit:
    """Read the annotations of one split, or of all, or a part of that.

    Class names come from `classes`, else from `labels.txt` or `classes.txt`, else from every XML file of the folder,
    so that all splits agree on them.
    """
    reader = _Reader(folder, split, allow_outside)
    names, problems = reader.names(split, division)
    raw_images = []
    for name in dict.fromkeys(names):
        path = reader.xml_path(name)
        try:
            image, found = reader.read_image(path, name)
        except (AnnotationError, ImageDecodeError) as error:
            problems.append(unreadable(folders.relative(path, folder), error))
            continue
        raw_images.append(image)
        problems += found

    class_names = tuple(classes) if classes is not None else find_class_list(folder)
    if class_names is None or offset == "auto":
        others = reader.other_objects({reader.xml_path(name) for name in names})
        everywhere = [item for image in raw_images for item in image.objects] + others
        class_names = class_names or tuple(sorted({item.name for item in everywhere}))
        if offset == "auto":
            offset = "0" if any(min(item.box[:2]) < 1 for item in everywhere) else "1"
    shifted = tuple(_shift(image, float(offset)) for image in raw_images)
    return RawSplit(shifted, class_names, tuple(range(1, len(class_names) + 1)), tuple(problems))


def used_files(folder: Path) -> set[str]:
    """The paths of the images and annotations that belong to some split."""
    used: set[Path] = set()
    for split in splits(folder) or (None,):
        reader = _Reader(folder, split, allow_outside=True)
        for name in reader.names(split, None)[0]:
            path = reader.xml_path(name)
            used.add(path)
            try:
                used.add(reader.find_image(None, name))
            except AnnotationError:
                try:
                    used.add(reader.find_image(parse(path), name))
                except AnnotationError:
                    continue
    return set(map(str, used))


class _Reader:
    """One part of a folder with its files listed once."""

    def __init__(self, folder: Path, split: str | None, allow_outside: bool) -> None:
        parts = find_parts(folder)
        self.folder = folder
        self.list_file = find_lists(folder).get(split or "")
        self.parts = list(parts.values())
        default = Part(folder / "Annotations", folder, deep=True)
        self.part = parts.get("" if self.list_file else split or "", next(iter(parts.values()), default))
        self.allow_outside = allow_outside
        self.xml = Named((key_of(path, self.part.annotations), path) for path in list_xml(self.part))
        self.by_key: Named[list[Path]] = Named()
        self.by_stem: Named[list[Path]] = Named()
        for path in folders.walk(self.part.images):
            if folders.is_image(path):
                self.by_key.setdefault(key_of(path, self.part.images), []).append(path)
                self.by_stem.setdefault(path.stem, []).append(path)
        self.finder = ImageFinder(folder, [self.part.images], split)
        self.beside = ImageFinder(self.part.annotations)

    def names(self, split: str | None, division: Division | None) -> tuple[list[str], list[Problem]]:
        """The names of the split's images, and problems of the whole list."""
        problems: list[Problem] = []
        if self.list_file is not None:
            names = [line for line in folders.read_lines(self.list_file) if line]
            twice = sorted(name for name, count in Counter(names).items() if count > 1)
            source = folders.relative(self.list_file, self.folder)
            problems = [Problem(source, "listed_twice", f"lists {name!r} more than once", "file") for name in twice]
        else:
            names = list(self.xml)
            problems = list(self._without_annotation(split or (division.part if division else "all")))
        if division is not None:
            places = {name: next(iter(self.by_key.find(name) or self.by_stem.find(name) or []), None) for name in names}
            names = division.choose(places, self.classes)
        return names, problems

    def xml_path(self, name: str) -> Path:
        """The annotation of that name; a list may write the image's suffix or folder too."""
        direct = self.xml.find(name)
        if direct is None:
            stem = name.removesuffix(Path(name).suffix) if name.lower().endswith(folders.IMAGE_SUFFIXES) else name
            direct = self.xml.find(stem) or self.xml.find(stem.rpartition("/")[2] if ".." not in stem else "")
        return direct or self.part.annotations / f"{name}.xml"

    def read_image(self, path: Path, name: str) -> tuple[RawImage, list[Problem]]:
        """One image with its objects, and the problems of others."""
        if not self.allow_outside and not self.beside.is_inside(path):
            raise folders.outside(path, "lies outside the data folder")
        root = parse(path)
        source = folders.relative(path, self.folder)
        image = self.find_image(root, name)
        width, height = read_size_tag(root)
        if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE):
            width, height = read_size(image)
        objects, problems = read_objects(root, source)
        return RawImage(str(image), name, source, width, height, tuple(objects)), problems

    def classes(self, name: str) -> set[str]:
        """The classes in the image of that name; none where its XML file cannot be read."""
        try:
            return {item.name for item in read_objects(parse(self.xml_path(name)), name)[0]}
        except AnnotationError:
            return set()

    def find_image(self, root: Element | None, name: str) -> Path:
        """The image of the annotation's name, else the one that `<filename>` names."""
        written = "" if root is None else (root.findtext("filename") or "").strip()
        same = self.by_key.find(name) or self.by_stem.find(name.rpartition("/")[2]) or []
        found = next((path for path in same if path.name == written), same[0] if same else None)
        if found is None and written:
            found = self._named(written)
        if found is None:
            nor = f" nor {written!r}" if written else ""
            raise AnnotationError(f"no image {name}.jpg, .png, ...{nor} in {self.part.images}")
        if not self.allow_outside and not self.finder.is_inside(found):
            raise folders.outside(found, f"names the image {written or found.name!r} outside the data folder")
        return found

    def _named(self, written: str) -> Path | None:
        direct = self.part.images / written.replace("\\", "/")
        return folders.below(direct, self.folder) if folders.is_there(direct) else self.finder.find(written)

    def other_objects(self, known: set[Path]) -> list[RawObject]:
        """The objects of the folder's other XML files; a bad file among them is its own split's affair."""
        found: list[RawObject] = []
        for path in (path for part in self.parts for path in list_xml(part)):
            if path in known:
                continue
            try:
                found += read_objects(parse(path), path.name)[0]
            except AnnotationError:
                continue
        return found

    def _without_annotation(self, split: str) -> Iterator[Problem]:
        """Images without XML are left out where no list asks for them: nobody said that they are empty."""
        stems = {nfc(key.rpartition("/")[2]) for key in self.xml}
        for key, paths in sorted(self.by_key.items()):
            known = key in self.xml or nfc(paths[0].stem) in stems
            if not known and self._written.isdisjoint((nfc(paths[0].name), nfc(paths[0].stem))):
                place = folders.relative(paths[0], self.folder)
                yield Problem(place, "no_annotation", f"has no XML file and is left out of {split!r}", "note")

    @functools.cached_property
    def _written(self) -> set[str]:
        """The image names in `<filename>` of those XML files that have no image of their own name."""
        found = (self.by_key.find(key) or self.by_stem.find(path.stem) for key, path in self.xml.items())
        return {_filename(path) for path, images in zip(self.xml.values(), found, strict=True) if not images} - {""}


def _filename(path: Path) -> str:
    try:
        return nfc((parse(path).findtext("filename") or "").strip()).replace("\\", "/").rpartition("/")[2]
    except AnnotationError:
        return ""


def _shift(image: RawImage, offset: float) -> RawImage:
    if not offset:
        return image
    moved = []
    for item in image.objects:
        left, top, right, bottom = item.box
        moved.append(replace(item, box=(left - offset, top - offset, right - offset, bottom - offset)))
    return replace(image, objects=tuple(moved))
