"""The splits of a folder, and the reader of each."""

import difflib
import functools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ssd.data.formats import coco, downloads, voc, yolo
from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem, RawObject, RawSplit
from ssd.data.formats.class_lists import is_background, is_ignored
from ssd.data.formats.columns import columns_of
from ssd.data.formats.division import Division
from ssd.data.formats.lists import find_list, listed
from ssd.data.formats.read_options import ReadOptions
from ssd.data.formats.recognition import FOLDER_FORMATS, TOOLS, find_format
from ssd.errors import DatasetError, SSDError

DIVIDED = ("train", "val", "all")  # the splits of a folder without splits
PARTS = ("train-part", "val-part")  # and beside a split that has only itself
_TEST = ("test", "testing")
_PAIRS = (
    *((train, val) for val in ("val", "valid", "validation") for train in ("train", "training")),
    ("trainval", "test"),
    *((train, test) for test in _TEST for train in ("train", "training")),
)
_HELD_OUT = ("val", "valid", "validation", *_TEST, "minival", "dev", "eval")


def splits(folder: str | Path | None, format: str = "auto") -> tuple[str, ...]:
    """The names of the splits that can be opened.

    Of a folder whose annotations name no split, or one whose name says nothing (`default`), they are the folders in
    which its images lie (`images/train`, `images/test`); where these are no splits either, it is divided into `train`
    and `val`. A single training split can be opened as `train-part` and `val-part` besides.
    """
    root, kind = find_format(folder, format)
    if kind in downloads.NAMES:
        return downloads.SPLITS
    named = (*FOLDER_FORMATS[kind].splits(root),)
    if not named or _says_nothing(named):
        return tuple(_by_image_folder(root, kind)) or DIVIDED
    return named


def openable(folder: str | Path | None, format: str = "auto") -> tuple[str, ...]:
    """`splits`, and the names of a YOLO folder's folders of images that are no splits."""
    root, kind = find_format(folder, format)
    return (*splits(folder, format), *(yolo.image_folders(root) if kind == "yolo" else ()))


def has_parts(there: Sequence[str]) -> bool:
    """Whether a single split, which is none to hold out, can be opened in parts."""
    return len(there) == 1 and not _like_one_of(_HELD_OUT, there[0])


def default_split(folder: str | Path | None, format: str, which: Literal["train", "val"]) -> str:
    """The usual name for training or validation images among the splits there; `val2017` counts as `val`.

    train + val come first, then trainval + test, then train + test. A single training split is divided.

    Raises:
        DatasetError: there is no split to take; the message lists those there.
    """
    there = splits(folder, format)
    if has_parts(there):
        return PARTS[0 if which == "train" else 1]
    for train, val in _PAIRS:
        pair = _like(train, there), _like(val, there)
        if all(pair):
            return pair[0 if which == "train" else 1] or ""
    only = next((name for base in ("train", "trainval", "training") if (name := _like(base, there))), None)
    if which == "train" and only is not None:
        return only
    remedy = f"Name one with data.{which}={there[0]}; there is: {', '.join(there)}."
    raise DatasetError(f"no usual split for {which!r}", place=folder, remedy=remedy)


def read_split(root: Path, format: str, split: str, options: ReadOptions) -> RawSplit:
    """Read the raw annotations of one split, or of the images that a list file names.

    Raises:
        DatasetError: there is no such split; the message lists those there.
    """
    others = yolo.image_folders(root) if format == "yolo" else ()
    there = (*splits(root, format), *others)
    read = functools.partial(_read, root, format, options)
    if split not in there and format in FOLDER_FORMATS and (file := find_list(root, split)) is not None:
        return _classes_only(_listed(file, root, read, _whole(root, format)))
    if split not in there and not (split in PARTS and has_parts(there)):
        close = difflib.get_close_matches(split, there, n=1, cutoff=0.4)
        remedy = f"There is: {', '.join(there)}." + (f" Did you mean {close[0]!r}?" if close else "")
        raise DatasetError(f"no split {split!r}", place=root, remedy=remedy)
    if format in downloads.NAMES:
        return downloads.read(format, root, split, offset=options.voc_offset, allow_outside=options.allow_outside)
    named = (*FOLDER_FORMATS[format].splits(root), *others)
    if split not in named and (place := _by_image_folder(root, format).get(split)) is not None:
        return _classes_only(_in_folder(read(named[0] if named else None), place))
    source, division = split if split in named else None, None
    if split not in named:  # the program divides
        source = named[0] if named and not others else None
        part: Literal["train", "val", "all"] = "train" if "train" in split else "val" if "val" in split else "all"
        division = Division(part, options.val_fraction, options.group)
    return _classes_only(read(source, division))


def _read(
    root: Path, format: str, options: ReadOptions, source: str | None, division: Division | None = None
) -> RawSplit:
    classes, outside = options.classes, options.allow_outside
    if format == "voc":
        offset = options.voc_offset
        return voc.read(root, source, division=division, offset=offset, classes=classes, allow_outside=outside)
    if format == "coco":
        return coco.read(root, source, division=division, allow_outside=outside)
    read = TOOLS[format].read if format in TOOLS else yolo.read
    return read(root, source, division=division, classes=classes, allow_outside=outside)


def _by_image_folder(root: Path, format: str) -> dict[str, Path]:
    """The folders of images that are the splits of annotations without splits, where every image lies in one.

    A folder without annotated images, as of a contest's test images, is none.
    """
    there = {} if format == "yolo" or root.is_file() else folders.split_folders(root)
    if not there:
        return {}
    try:
        used = FOLDER_FORMATS[format].used_files(root)
    except SSDError:  # which the reading of a split reports
        return {}
    starts = {folders.start_of(place): name for name, place in there.items()}
    images = (path for path in used if folders.is_image_name(path.rpartition("/")[2]))
    found = {next((name for start, name in starts.items() if path.startswith(start)), "") for path in images}
    return {} if "" in found or len(found) < 2 else {name: place for name, place in there.items() if name in found}


def _in_folder(raw: RawSplit, place: Path) -> RawSplit:
    """The images below a folder, with the problems of what is not certain to lie in another."""
    start = folders.start_of(place)
    images = tuple(image for image in raw.images if image.path.startswith(start))
    others = {image.source for image in raw.images} - {image.source for image in images}
    problems = tuple(problem for problem in raw.problems if problem.path not in others)
    return replace(raw, images=images, problems=problems)


def _listed(file: Path, root: Path, read: Callable[[str | None], RawSplit], names: Sequence[str | None]) -> RawSplit:
    """The images of a list; a split that cannot be read matters only where the list names its images."""
    found, errors = [], []
    for name in names:
        try:
            found.append(read(name))
        except DatasetError as error:
            errors.append(error)
    try:
        if found:
            return listed(file, root, found)
    except DatasetError:
        if not errors:
            raise
    raise errors[0]


def _whole(root: Path, format: str) -> Sequence[str | None]:
    """The splits that together are the whole folder; None is all of a folder without splits, or of VOC's lists."""
    named = FOLDER_FORMATS[format].splits(root)
    return named if named and not (format == "voc" and (root / "ImageSets").is_dir()) else (None,)


def _classes_only(raw: RawSplit) -> RawSplit:
    """Leave out what is no class: one named background that has no object, and LabelMe's `__ignore__`.

    The network has a column for background already. Objects labelled `__ignore__` become crowd regions of every class,
    which are neither objects nor background.
    """
    used = columns_of(raw.images).used_names()
    background = {name for name in raw.class_names if is_background(name)} - used
    ignored = {name for name in (*raw.class_names, *used) if is_ignored(name)}
    if not background and not ignored:
        return raw
    pairs = zip(raw.class_names, raw.category_ids, strict=True)
    kept = [pair for pair in pairs if pair[0] not in background | ignored]
    names, ids = tuple(name for name, _ in kept), tuple(number for _, number in kept)
    problems, images = list(raw.problems), raw.images
    if background:
        text = "a class for the background is left out: the network has its own"
        problems.append(Problem("classes", "background", text, "note"))
    if ignored:
        images = [replace(image, objects=_regions(image.objects, ignored, names)) for image in images]
        text = "__ignore__ is no class: what is labelled so is left out of the loss and of the figures"
        problems.append(Problem("classes", "ignored", text, "note"))
    return replace(raw, images=images, class_names=names, category_ids=ids, problems=tuple(problems))


def _regions(objects: Sequence[RawObject], ignored: Collection[str], names: Sequence[str]) -> list[RawObject]:
    """The objects, those of an ignored name as crowd regions of all the other classes."""
    found = [item for item in objects if item.name not in ignored]
    regions = (item for item in objects if item.name in ignored)
    return found + [replace(item, name=name, crowd=True) for item in regions for name in names]


def _says_nothing(named: Sequence[str]) -> bool:
    """Whether it is a single split whose name is none of the usual ones, as CVAT's `default`."""
    return len(named) == 1 and not _like_one_of(folders.SPLITS, named[0])


def is_test(split: str) -> bool:
    """Whether a split is named as one to test on."""
    return _like_one_of(_TEST, split)


def _like_one_of(bases: Sequence[str], name: str) -> bool:
    return any(_like(base, [name]) for base in bases)


def _like(base: str, there: Sequence[str]) -> str | None:
    """The split of that name in any case, or of that name and a year; the latest of several."""
    return next((name for name in sorted(there, reverse=True) if re.fullmatch(rf"{base}[-_]?\d*", name.lower())), None)
