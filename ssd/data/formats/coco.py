"""COCO folders: one JSON file per split.

The files are `annotations/instances_<split>.json`, Roboflow's `<split>/_annotations.coco.json`, several JSON files at
the top, one JSON file in each split's folder, or, without any of these, `person_keypoints_<split>.json`, whose boxes
are read. A single file that names no split is divided by the program. Images lie in `<split>/`, `images/<split>/`,
`images/` or beside the file, else they are looked for by their names. Category ids may have gaps; labels are places in
the order of the ids. Missing `info`, `area`, `iscrowd`, `width` and `height` are filled in.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import RawSplit, same_file, unreadable
from ssd.data.formats.coco_content import Content, ImageEntry
from ssd.data.formats.coco_json import read_content, read_images
from ssd.data.formats.columns import ColumnImages, ImageFacts
from ssd.data.formats.division import Division
from ssd.data.formats.image_finder import ImageFinder
from ssd.errors import AnnotationError, ImageDecodeError
from ssd.images.decode import read_size

_BESIDE = "_annotations.coco.json"  # Roboflow's name
_SINGLE = (_BESIDE, "annotations.json", "instances.json", "coco.json", "result.json", "labels.json")
_KEYPOINTS = "person_keypoints_"
OTHER_TASKS = ("captions_", _KEYPOINTS, "stuff_", "panoptic_", "image_info_")
_KEYS = {"images", "annotations", "categories"}
_FIRST_KEYS = re.compile(rb'\s*{\s*"(info|licenses|images|annotations|categories|type|dataset)"')
LARGE = 16 * 2**20  # bytes of an annotation file; a smaller one is read in a second
_WHOLE = 4 * 2**20  # a file up to this size is parsed to see what it is; of a larger one the start is looked at


def looks_like(folder: Path) -> bool:
    """Whether annotation JSON lies where a COCO folder has it."""
    return bool(_files(folder))


def splits(folder: Path) -> tuple[str, ...]:
    """The names of the splits, in alphabetical order; none where a single file names none."""
    return tuple(sorted(name for name in _files(folder) if name))


def read(folder: Path, split: str | None, *, division: Division | None = None, allow_outside: bool = False) -> RawSplit:
    """Read the annotations of one split, or of all, or a part of that.

    Raises:
        AnnotationError: the JSON file as a whole is wrong; what is wrong inside becomes problems.
    """
    files = _files(folder)
    path = files[split] if split in files else next(iter(files.values()), folder / _SINGLE[1])
    content = read_content(path, folders.relative(path, folder))
    finder = _finder(folder, path, path.parent.name if split is None else split, content.images.values())
    entries = content.images
    if division is not None:
        classes = _classes(content)
        there = {entry.file_name: _locate(finder, entry.file_name) for entry in entries.values()}
        chosen = set(division.choose(there, lambda name: classes.get(name, set())))
        entries = {key: entry for key, entry in entries.items() if entry.file_name in chosen}

    images, rows, problems, taken = [], [], list(content.problems), dict[str, str]()
    all_rows = {key: row for row, key in enumerate(content.images)}
    for key, entry in entries.items():
        try:
            image = _find_image(finder, entry, allow_outside)
            width, height = (entry.width, entry.height) if entry.width else read_size(image)
        except (AnnotationError, ImageDecodeError) as error:
            problems.append(unreadable(f"{content.source}, {entry.file_name}", error))
            continue
        if (other := taken.setdefault(image, entry.file_name)) != entry.file_name:
            problems.append(same_file(content.source, (entry.file_name, other), folders.relative(Path(image), folder)))
            continue
        images.append(ImageFacts(image, key, entry.file_name, width, height))
        rows.append(all_rows[key])
    objects = content.objects.of_images(rows, len(content.images))
    names, ids = tuple(content.categories.values()), tuple(content.categories)
    only_named = division is None and all(entry.width for entry in entries.values())
    found = ColumnImages(images, objects, content.source, "annotation")
    return RawSplit(found, names, ids, tuple(problems), "sizes", tuple(content.remarks), only_named)


def _classes(content: Content) -> dict[str, set[str]]:
    """The classes of the objects of each image, by its name."""
    names = [entry.file_name for entry in content.images.values()]
    found: dict[str, set[str]] = {}
    for owner, code in set(zip(content.objects.owners.tolist(), content.objects.codes.tolist(), strict=True)):
        found.setdefault(names[owner], set()).add(content.objects.names[code])
    return found


def is_large(file: Path) -> bool:
    """Whether an annotation file takes so long to read that the result should be kept."""
    return file.stat().st_size >= LARGE


def annotation_files(folder: Path) -> list[Path]:
    """The annotation files of all splits."""
    return list(_files(folder).values())


def annotation_file(folder: Path, split: str) -> Path | None:
    """The file that has the annotations of a split."""
    return _files(folder).get(split)


def used_files(folder: Path) -> set[str]:
    """The paths of the images and annotations that belong to some split."""
    used: set[str] = set()
    for split, path in _files(folder).items():
        used.add(str(path))
        try:
            entries = read_images(path)
        except AnnotationError:
            continue
        finder = _finder(folder, path, split or path.parent.name, entries)
        for entry in entries:
            if (found := _locate(finder, entry.file_name)) is not None:
                used.add(str(found))
    return used


def _files(folder: Path) -> dict[str, Path]:
    """The annotation files by split; under an empty name the one that names no split."""
    if not folder.is_dir():
        return {}
    found = {path.parent.name: path for path in sorted(folder.glob(f"*/{_BESIDE}"))}
    inner = folders.annotation_folders(folder)
    for path in (path for place in inner for path in sorted(place.glob("*.json"))):
        if not path.name.startswith((*OTHER_TASKS, ".")) and (path.name.startswith("instances_") or _is_coco(path)):
            found[path.stem.removeprefix("instances_")] = path
    return found or _at_the_top(folder) or _in_each_split(folder) or _of_keypoints([*inner, folder])


def _at_the_top(folder: Path) -> dict[str, Path]:
    single = next((folder / name for name in _SINGLE if (folder / name).is_file() and _is_coco(folder / name)), None)
    if single is not None:
        return {"": single}
    paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith((*OTHER_TASKS, "."))]
    found = {
        re.sub(
            r"^(instances|annotations|coco|labels)[-_.]|[-_.](annotations|coco|instances|labels)$", "", path.stem
        ): path
        for path in paths
        if _is_coco(path)
    }
    return {"": next(iter(found.values()))} if len(found) == 1 else found


def _in_each_split(folder: Path) -> dict[str, Path]:
    found = {}
    for place in folders.subfolders(folder):
        files = [
            path
            for path in sorted(place.glob("*.json"))
            if path.name in _SINGLE or path.stem in (place.name, "train", "val", "test")
        ]
        if not files and folders.is_split(place.name):  # under any name
            files = [path for path in sorted(place.glob("*.json")) if _is_coco(path)]
        if len(files) == 1 and _is_coco(files[0]):
            found[place.name] = files[0]
    return found


def _of_keypoints(places: Iterable[Path]) -> dict[str, Path]:
    """Files of people with keypoints, whose boxes count where there are no others."""
    paths = (path for place in places for path in sorted(place.glob(f"{_KEYPOINTS}*.json")) if _is_coco(path))
    return {path.stem.removeprefix(_KEYPOINTS): path for path in paths}


def _is_coco(path: Path) -> bool:
    """Whether it may be a COCO file: it has COCO's lists, or cannot be parsed."""
    try:
        if not path.is_file():
            return False
        size = path.stat().st_size
        with path.open("rb") as file:
            data = file.read(min(size, _WHOLE))
    except OSError:
        return False
    if size > _WHOLE:
        return _FIRST_KEYS.match(data) is not None
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return path.name in _SINGLE or path.parent.name.lower() in map(str.lower, folders.ANNOTATION_FOLDERS)
    return isinstance(content, dict) and len(_KEYS & set(content)) >= 2


def _finder(folder: Path, annotations: Path, split: str, entries: Iterable[ImageEntry]) -> ImageFinder:
    """Looks into the usual folders, first into the one that has one of the first images."""
    usual = [
        folder / split,
        folder / "images" / split,
        *folders.named_subfolders(folder / split, folders.IMAGE_FOLDERS),
    ]
    usual += [*folders.named_subfolders(folder, folders.IMAGE_FOLDERS), annotations.parent, folder]
    candidates = [path for path in dict.fromkeys(usual) if path.is_dir()]
    names = [entry.file_name.replace("\\", "/") for entry, _ in zip(entries, range(20), strict=False)]
    has = [path for path in candidates if any(folders.is_there(path / name) for name in names)]
    return ImageFinder(folder, [*has[:1], *candidates], split)


def _find_image(finder: ImageFinder, entry: ImageEntry, allow_outside: bool) -> str:
    name = entry.file_name.replace("\\", "/")
    if (plain := finder.plain(name)) is not None:
        return plain
    path = finder.find(name)
    if path is None:
        raise AnnotationError(f"no such image in {finder.folders[0]}")
    if not allow_outside and not finder.is_inside(path := _inside(finder, path, name)):
        raise folders.outside(path, "names an image outside the data folder")
    return str(path)


def _locate(finder: ImageFinder, file_name: str) -> Path | None:
    """Where the image of that name is, if it is there."""
    name = file_name.replace("\\", "/")
    if (plain := finder.plain(name)) is not None:
        return Path(plain)
    found = finder.find(name)
    return None if found is None else _inside(finder, found, name)


def _inside(finder: ImageFinder, found: Path, name: str) -> Path:
    """What was found; where that lies outside the data folder, the image inside under the end of the name, if any.

    Names that another machine wrote, as Label Studio's `../../media/upload/a.jpg`, may lead to a file here.
    """
    if finder.is_inside(found):
        return found
    end = name.rpartition("../")[2].lstrip("/")
    here = finder.find(end) if end else None
    return here if here is not None and finder.is_inside(here) else found
