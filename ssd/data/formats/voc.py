"""Pascal VOC folders: one XML file a image.

Three layouts are read: `Annotations/` + `JPEGImages/` with or without `ImageSets/Main/*.txt`; a folder for each split
with images and XML side by side; one such folder without splits, which is then divided by `folders.hashed_split`.

VOC counts pixels from 1. `offset="1"` subtracts 1 from all four numbers, as most SSD codes do (lufficc, chainercv,
amdegroot); what is -1 after that (the file counted from 0) is cut to 0. `"0"` takes the numbers as they are. `"auto"`
subtracts 1 unless some box of the folder starts below 1.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem, RawImage, RawObject, RawSplit, unreadable
from ssd.data.formats.voc_xml import parse, read_objects, read_size_tag
from ssd.errors import AnnotationError, ImageDecodeError
from ssd.images.decode import read_size

Offset = Literal["0", "1", "auto"]


def looks_like(folder: Path) -> bool:
    """Whether XML annotations lie where a VOC folder has them."""
    return _has_xml(folder / "Annotations") or _has_xml(folder) or bool(_split_folders(folder))


def splits(folder: Path) -> tuple[str, ...]:
    """The names of the splits, in alphabetical order."""
    lists = sorted((folder / "ImageSets" / "Main").glob("*.txt"))
    named = tuple(path.stem for path in lists if not _is_class_list(path))
    return named or _split_folders(folder) or folders.HASHED_SPLITS


def read(
    folder: Path,
    split: str,
    *,
    offset: Offset = "1",
    classes: Sequence[str] | None = None,
    allow_outside: bool = False,
) -> RawSplit:
    """Read the annotations of one split.

    Class names come from `classes`, else from `labels.txt` or `classes.txt`, else from every XML file of the folder,
    so that all splits agree on them.
    """
    layout = _find_layout(folder, split)
    names = _image_names(layout, split)
    problems = _duplicates(names, split) + _unannotated(layout, split)
    raw_images = []
    for name in dict.fromkeys(names):
        path = layout.annotations / f"{name}.xml"
        try:
            image, found = _read_image(path, name, layout, allow_outside)
        except (AnnotationError, ImageDecodeError) as error:
            problems.append(unreadable(folders.relative(path, folder), error))
            continue
        raw_images.append(image)
        problems += found

    class_names = tuple(classes) if classes is not None else _listed_classes(folder)
    if class_names is None or offset == "auto":
        others = _others(layout, set(names))
        everywhere = [item for image in raw_images for item in image.objects] + others
        class_names = class_names or tuple(sorted({item.name for item in everywhere}))
        if offset == "auto":
            offset = "0" if any(min(item.box[:2]) < 1 for item in everywhere) else "1"
    shifted = tuple(_shift(image, float(offset)) for image in raw_images)
    return RawSplit(shifted, class_names, tuple(range(1, len(class_names) + 1)), tuple(problems))


@dataclass(frozen=True)
class _Layout:
    folder: Path
    annotations: Path
    image_folder: Path
    division: Literal["listed", "folders", "hashed"]  # who says which image is in which split
    by_stem: dict[str, list[Path]]
    siblings: tuple[Path, ...]  # every folder with XML, for the class names


def _find_layout(folder: Path, split: str) -> _Layout:
    inner = _split_folders(folder)
    division: Literal["listed", "folders", "hashed"] = "folders" if inner else "hashed"
    if _has_xml(folder / "Annotations"):
        annotations = folder / "Annotations"
        image_folder = next((folder / name for name in ("JPEGImages", "images") if (folder / name).is_dir()), folder)
    else:
        annotations = image_folder = folder / split if inner else folder
    if (folder / "ImageSets" / "Main" / f"{split}.txt").is_file():
        division = "listed"
    siblings = tuple(folder / name for name in inner) if inner else (annotations,)
    return _Layout(folder, annotations, image_folder, division, folders.images_by_stem(image_folder), siblings)


def _image_names(layout: _Layout, split: str) -> list[str]:
    if layout.division == "listed":
        return [line for line in folders.read_lines(layout.folder / "ImageSets" / "Main" / f"{split}.txt") if line]
    stems = [path.stem for path in _list_xml(layout.annotations)]
    return stems if layout.division == "folders" else folders.hashed_split(stems, split)


def _read_image(path: Path, name: str, layout: _Layout, allow_outside: bool) -> tuple[RawImage, list[Problem]]:
    if not allow_outside and not folders.is_inside(path, layout.annotations):
        raise AnnotationError("lies outside the data folder")
    root = parse(path)
    source = folders.relative(path, layout.folder)
    image = _find_image(root, name, layout, allow_outside)
    width, height = read_size_tag(root)
    if width <= 0 or height <= 0:
        width, height = read_size(image)
    read = read_objects(root, source)
    objects = tuple(item for item in read if isinstance(item, RawObject))
    problems = [item for item in read if isinstance(item, Problem)]
    return RawImage(str(image), name, source, width, height, objects), problems


def _find_image(root: Element, name: str, layout: _Layout, allow_outside: bool) -> Path:
    written = (root.findtext("filename") or "").strip()
    same_stem = layout.by_stem.get(name, [])
    found = next((path for path in same_stem if path.name == written), same_stem[0] if same_stem else None)
    if found is None and written:
        found = layout.image_folder / written
    if found is None:
        raise AnnotationError(f"no image {name}.jpg, .png, ... in {layout.image_folder}")
    if not allow_outside and not folders.is_inside(found, layout.image_folder):
        raise AnnotationError(f"names the image {written or found.name!r} outside the data folder")
    if not folders.is_there(found):
        raise AnnotationError(f"no image {name}.jpg, .png, ... nor {written!r} in {layout.image_folder}")
    return found


def _shift(image: RawImage, offset: float) -> RawImage:
    if not offset:
        return image
    moved = []
    for item in image.objects:
        left, top, right, bottom = item.box
        moved.append(replace(item, box=(left - offset, top - offset, right - offset, bottom - offset)))
    return replace(image, objects=tuple(moved))


def _others(layout: _Layout, known: set[str]) -> list[RawObject]:
    """The objects of the folder's other XML files; a bad file among them is its own split's affair."""
    found: list[RawObject] = []
    for path in (path for folder in layout.siblings for path in _list_xml(folder)):
        if path.parent == layout.annotations and path.stem in known:
            continue
        try:
            read = read_objects(parse(path), path.name)
        except AnnotationError:
            continue
        found += [item for item in read if isinstance(item, RawObject)]
    return found


def _listed_classes(folder: Path) -> tuple[str, ...] | None:
    for name in ("labels.txt", "classes.txt"):
        if (folder / name).is_file():
            return tuple(line for line in folders.read_lines(folder / name) if line)
    return None


def _duplicates(names: list[str], split: str) -> list[Problem]:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    path = f"ImageSets/Main/{split}.txt"
    return [Problem(path, "listed_twice", f"lists {name!r} more than once", "file") for name in twice]


def _unannotated(layout: _Layout, split: str) -> list[Problem]:
    """Images without XML are left out where no list asks for them: nobody said that they are empty."""
    if layout.division == "listed":
        return []
    without = sorted(stem for stem in layout.by_stem if not (layout.annotations / f"{stem}.xml").is_file())
    message = f"has no XML file and is left out of {split!r}"
    return [
        Problem(folders.relative(layout.by_stem[stem][0], layout.folder), "no_annotation", message, "note")
        for stem in without
    ]


def _list_xml(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.xml") if not path.name.startswith("."))


def _has_xml(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("*.xml"), None) is not None


def _split_folders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir() or _has_xml(folder) or (folder / "Annotations").is_dir():
        return ()
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and _has_xml(path)))


def _is_class_list(path: Path) -> bool:
    """Whether it is VOC's `cat_train.txt`: every line a image and -1, 0 or 1."""
    if "_" not in path.stem:
        return False
    lines = [line for line in folders.read_lines(path) if line]
    return bool(lines) and all(re.fullmatch(r"\S+\s+(-1|0|1)", line) for line in lines)
