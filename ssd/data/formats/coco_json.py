"""Reads one COCO annotation file: images, classes and objects, and their problems."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ssd.data.formats.annotations import LONGEST_SIDE
from ssd.data.formats.coco_content import Content, ImageEntry, as_whole, entries_of, is_whole
from ssd.data.formats.coco_objects import Annotations
from ssd.data.formats.json_parts import Part, read_parts
from ssd.errors import AnnotationError
from ssd.system.other_content import refuse_other_file

_LISTS = ("images", "annotations", "categories")


def read_content(path: Path, source: str) -> Content:
    """Read a COCO file; `source` is its name in messages.

    Raises:
        AnnotationError: it is no JSON, or no COCO at its top level.
    """
    images, annotations = _Images(source), Annotations()
    categories: list[Any] = []
    is_list = dict.fromkeys(_LISTS, False)
    for key, value, is_first in _parts(path):
        if is_first and key in is_list:  # anew, if it is there twice
            is_list[key] = isinstance(value, list)
            images = _Images(source) if key == "images" else images
            annotations = Annotations() if key == "annotations" else annotations
            categories = [] if key == "categories" else categories
        if not is_list.get(key):
            continue
        if key == "images":
            images.add(value)
        elif key == "annotations":
            annotations.add(value)
        else:
            categories += value
    for key in _LISTS:
        if not is_list[key]:
            remedy = "A COCO file is an object with the lists images, annotations and categories."
            raise AnnotationError(f"has no list {key!r}", place=path, remedy=remedy)
    content = images.content
    _read_categories(categories, content)
    content.objects = annotations.read(content)
    if content.outlined:
        content.report(
            "no_bbox",
            f"{content.outlined} annotations have no bbox; the box around their outlines is used",
            "note",
        )
    _drop_root(categories, content)
    _find_one_based(content)
    return content


def read_images(path: Path) -> Iterable[ImageEntry]:
    """The images that a COCO file lists; what follows that list is not looked at.

    Raises:
        AnnotationError: as `read_content`.
    """
    images = _Images("")
    for key, value, _ in _parts(path):
        if key == "images" and isinstance(value, list):
            images.add(value)
        elif images.content.images:
            break
    return images.content.images.values()


def _parts(path: Path) -> Iterator[Part]:
    refuse_other_file(path, AnnotationError)
    try:
        yield from read_parts(path, _LISTS)
    except OSError as error:
        raise AnnotationError(f"cannot be read ({error.strerror})", place=path) from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"is not valid JSON ({error})", place=path) from None


class _Images:
    """The list `images`, a part at a time; with the file's content."""

    def __init__(self, source: str) -> None:
        self.content = Content(source)
        self._named: dict[str, int] = {}
        self._next = 1

    def add(self, entries: list[Any]) -> None:
        """Take the next entries."""
        content, named = self.content, self._named
        for number, entry in entries_of(entries, "image", content, self._next):
            key, name = as_whole(entry.get("id")), entry.get("file_name")
            if not is_whole(key):
                content.report("bad_id", f"image {number} has the id {key!r}, not a whole number")
            elif not isinstance(name, str) or not name:
                content.report("no_file_name", f"image {key} has no file_name")
            elif key in content.images:
                content.report("duplicate_id", f"image id {key} is used by {content.images[key].file_name} and {name}")
            elif name in named:
                content.lost.add(key)
                both = f"{named[name]} and {key}"
                content.report("duplicate_file", f"{name} is listed under two image ids, {both}; keep one")
            else:
                named[name] = key
                width, height = as_whole(entry.get("width")), as_whole(entry.get("height"))
                if not (is_whole(width) and is_whole(height) and min(width, height) > 0):
                    width = height = 0
                content.images[key] = ImageEntry(name, min(width, LONGEST_SIDE), min(height, LONGEST_SIDE))
        self._next += len(entries)


def _read_categories(entries: list[Any], content: Content) -> None:
    found: dict[int, str] = {}
    ids: dict[str, int] = {}
    roots: set[int] = set()
    for number, entry in entries_of(entries, "category", content):
        key, name = as_whole(entry.get("id")), entry.get("name")
        if not is_whole(key):
            content.report("bad_id", f"category {number} has the id {key!r}, not a whole number")
        elif not isinstance(name, str) or not name.strip():
            content.report("no_name", f"category {key} has no name")
        elif key in found:
            content.report("duplicate_id", f"category id {key} is used by {found[key]!r} and {name!r}")
        elif name.strip() in ids and ids[name.strip()] in roots and entry.get("supercategory") == name:
            root = ids[name.strip()]  # Roboflow's, named as the project
            content.remarks.append(f"{content.source}: category {root} {name!r} is the parent of {key}: taken as that")
            content.merged[root] = found.pop(root)
            found[key], ids[name.strip()] = name.strip(), key
        elif name.strip() in ids:
            both = f"ids {ids[name.strip()]} and {key}"
            content.report("duplicate_name", f"two categories have the name {name!r} ({both}); rename or join them")
            content.merged[key] = name.strip()
        else:
            found[key] = name.strip()
            ids[name.strip()] = key
            if entry.get("supercategory") in (None, "", "none"):
                roots.add(key)
    content.categories.update(sorted(found.items()))


def _find_one_based(content: Content) -> None:
    """In place of objects of a category one too high: the one problem that all ids are one too high."""
    ids = list(content.categories)
    unknown = [problem for problem in content.problems if problem.kind == "unknown_class"]
    if not ids or not unknown or ids != list(range(len(ids))):
        return
    used = content.objects.used_names()
    if content.categories[0] not in used and all(f"category_id {len(ids)}," in p.message for p in unknown):
        content.problems = [problem for problem in content.problems if problem.kind != "unknown_class"]
        message = f"category ids run from 0, and those of annotations look 1-based ({len(ids)} is used, 0 is not)"
        content.report("one_based", f"{message}; subtract 1 from every category_id")


def _drop_root(entries: list[Any], content: Content) -> None:
    """Leave out a class without objects that others name as their supercategory: Roboflow's root, not a class."""
    parents = {
        entry["supercategory"]
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("supercategory"), str)
        if entry.get("name") != entry["supercategory"]
    }
    used = content.objects.used_names()
    for key, name in list(content.categories.items()):
        if name in parents and name not in used:
            content.remarks.append(
                f"{content.source}: category {key} {name!r} has no objects and is the parent of others: left out"
            )
            del content.categories[key]
