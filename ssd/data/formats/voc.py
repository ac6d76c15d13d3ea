"""Pascal VOC folders: one XML file per image.

A folder holds annotations and images: in sub-folders under the usual names in any case (`Annotations`, `annots`, ...,
`JPEGImages`, `images`, ...), searched with all folders below them, or side by side. Splits are the lists in
`ImageSets/Main/*.txt`, or sub-folders that each hold such a pair; a folder without splits is divided by the program.
Where there are both, a line of a list names an image in the sub-folder that it begins with, else in that of the list.
An image is found by the name of its XML file, else by `<filename>`.

VOC counts pixels from 1. `offset="1"` subtracts 1 from all four numbers, as most SSD codes do (lufficc, chainercv,
amdegroot); what is -1 after that (the file counted from 0) is cut to 0. `"0"` takes the numbers as they are. `"auto"`
subtracts 1 unless some box of the folder starts below 1.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import LONGEST_SIDE, Problem, RawImage, RawObject, RawSplit, same_file, unreadable
from ssd.data.formats.class_lists import find_class_list
from ssd.data.formats.division import Division
from ssd.data.formats.voc_folders import Part, PartFiles, find_lists, find_parts, list_xml
from ssd.data.formats.voc_xml import parse, read_objects, read_size_tag
from ssd.errors import AnnotationError, ImageDecodeError
from ssd.images.decode import read_size

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
    raw_images, taken = [], dict[str, str]()
    for name in dict.fromkeys(names):
        path = reader.xml_path(name)
        try:
            image, found = reader.read_image(path, name)
        except (AnnotationError, ImageDecodeError) as error:
            problems.append(unreadable(folders.relative(path, folder), error))
            continue
        if (other := taken.setdefault(image.path, image.source)) != image.source:
            both = image.source, other
            problems.append(same_file(image.source, both, folders.relative(Path(image.path), folder)))
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
            if (image := reader.image_there(name)) is not None:
                used.add(image)
    return set(map(str, used))


class _Reader:
    """The parts of a folder in which the images of one split may lie: its own, or those that a list names."""

    def __init__(self, folder: Path, split: str | None, allow_outside: bool) -> None:
        parts = find_parts(folder) or {"": Part(folder / "Annotations", folder, deep=True)}
        self.folder, self.split, self.allow_outside = folder, split or "", allow_outside
        self.list_file = find_lists(folder).get(self.split)
        self.parts = list(parts.values())
        if self.list_file is None and self.split in parts:
            self.files = {"": PartFiles(folder, parts[self.split], split)}
        else:
            self.files = {name: PartFiles(folder, part, name or split) for name, part in parts.items()}

    def names(self, split: str | None, division: Division | None) -> tuple[list[str], list[Problem]]:
        """The names of the split's images, and problems of the whole list."""
        problems: list[Problem] = []
        if self.list_file is not None:
            names = [line for line in folders.read_lines(self.list_file, folders.MAX_LIST_BYTES) if line]
            twice = sorted(name for name, count in Counter(names).items() if count > 1)
            source = folders.relative(self.list_file, self.folder)
            problems = [Problem(source, "listed_twice", f"lists {name!r} more than once", "file") for name in twice]
        else:
            names = [f"{part}/{key}" if part else key for part, files in self.files.items() for key in files.xml]
            shown = split or (division.part if division else "all")
            problems = [one for files in self.files.values() for one in files.without_annotation(self.folder, shown)]
        if division is not None:
            names = division.choose({name: self.image_there(name) for name in names}, self.classes)
        return names, problems

    def image_there(self, name: str) -> Path | None:
        """The image of that name, or None: for a division, which does not say what is wrong."""
        try:
            return self.find_image(None, name)
        except AnnotationError:
            pass
        try:
            return self.find_image(parse(self.xml_path(name)), name)
        except AnnotationError:
            return None

    def _place(self, name: str) -> tuple[str, str]:
        """The part that has the image, and its name there.

        A line of a list may begin with the part's folder. Else the part is the list's own, else the only one with the
        name.

        Raises:
            AnnotationError: no part has the name, or more than one.
        """
        if len(self.files) == 1:
            return next(iter(self.files)), name
        words = name.split("/")
        for place, word in enumerate(words[:-1], start=1):
            if word in self.files:
                return word, "/".join(words[place:])
        own = folders.find_split(self.files, self.split)
        having = [own] if own else [part for part, files in self.files.items() if files.find_xml(name) is not None]
        if not having:
            raise AnnotationError("no such file")
        if len(having) > 1:
            remedy = f"Write the folder before the name, such as {having[0]}/{name}."
            raise AnnotationError(f"is in {' and '.join(having)}", remedy=remedy)
        return having[0], name

    def xml_path(self, name: str) -> Path:
        """The annotation of that name."""
        try:
            part, inner = self._place(name)
        except AnnotationError:
            return Path(os.path.commonpath([part.annotations for part in self.parts]), f"{name}.xml")
        files = self.files[part]
        return files.find_xml(inner) or files.part.annotations / f"{inner}.xml"

    def read_image(self, path: Path, name: str) -> tuple[RawImage, list[Problem]]:
        """One image with its objects, and the problems of others."""
        part, inner = self._place(name)
        files = self.files[part]
        if not self.allow_outside and not files.beside.is_inside(path):
            raise folders.outside(path, "lies outside the data folder")
        root = parse(path)
        source = folders.relative(path, self.folder)
        image = files.find_image(root, inner, self.allow_outside)
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
        """The image of that name, else the one that the annotation names."""
        part, inner = self._place(name)
        return self.files[part].find_image(root, inner, self.allow_outside)

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


def _shift(image: RawImage, offset: float) -> RawImage:
    if not offset:
        return image
    moved = []
    for item in image.objects:
        left, top, right, bottom = item.box
        moved.append(replace(item, box=(left - offset, top - offset, right - offset, bottom - offset)))
    return replace(image, objects=tuple(moved))
