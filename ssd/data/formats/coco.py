"""COCO folders: one JSON file a split.

Three layouts are read: `annotations/instances_<split>.json` with the images in `<split>/`, `images/<split>/` or
`images/`; Roboflow's `<split>/_annotations.coco.json` beside the images; one JSON file at the top without splits,
which is then divided by `folders.hashed_split`. Category ids may have gaps; labels are places in the order of the ids.
Missing `info`, `area`, `iscrowd`, `width` and `height` are filled in.
"""

from collections.abc import Iterable
from pathlib import Path

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import RawImage, RawSplit, unreadable
from ssd.data.formats.coco_json import ImageEntry, read_content
from ssd.errors import AnnotationError, ImageDecodeError
from ssd.images.decode import read_size

_BESIDE = "_annotations.coco.json"  # Roboflow's name
_SINGLE = (_BESIDE, "annotations.json", "instances.json", "coco.json")
_OTHER_TASKS = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")


def looks_like(folder: Path) -> bool:
    """Whether annotation JSON lies where a COCO folder has it."""
    return bool(_split_files(folder)) or _single_file(folder) is not None


def splits(folder: Path) -> tuple[str, ...]:
    """The names of the splits, in alphabetical order."""
    return tuple(sorted(_split_files(folder))) or folders.HASHED_SPLITS


def read(folder: Path, split: str, *, allow_outside: bool = False) -> RawSplit:
    """Read the annotations of one split.

    Raises:
        AnnotationError: the JSON file as a whole is wrong; what is wrong inside becomes problems.
    """
    path = _split_files(folder).get(split) or _single_file(folder)
    assert path is not None, "the caller has checked the split"
    content = read_content(path, folders.relative(path, folder))
    entries = content.images
    if not _split_files(folder):
        chosen = set(folders.hashed_split({entry.file_name for entry in entries.values()}, split))
        entries = {key: entry for key, entry in entries.items() if entry.file_name in chosen}

    root = _image_folder(folder, path, split, entries.values())
    raw_images, problems = [], list(content.problems)
    for key, entry in entries.items():
        source = f"{content.source}, {entry.file_name}"
        try:
            image = _find_image(root, entry, allow_outside)
            width, height = (entry.width, entry.height) if entry.width else read_size(image)
        except (AnnotationError, ImageDecodeError) as error:
            problems.append(unreadable(source, error))
            continue
        objects = tuple(content.objects.get(key, ()))
        raw_images.append(RawImage(str(image), key, source, width, height, objects, "annotation"))
    names, ids = tuple(content.categories.values()), tuple(content.categories)
    return RawSplit(tuple(raw_images), names, ids, tuple(problems))


def _split_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    found = {path.parent.name: path for path in folder.glob(f"*/{_BESIDE}")}
    for path in sorted((folder / "annotations").glob("*.json")):
        if not path.name.startswith((*_OTHER_TASKS, ".")):
            found[path.stem.removeprefix("instances_")] = path
    return found


def _single_file(folder: Path) -> Path | None:
    return next((folder / name for name in _SINGLE if (folder / name).is_file()), None)


def _image_folder(folder: Path, annotations: Path, split: str, entries: Iterable[ImageEntry]) -> Path:
    """The first of the usual folders that has one of the first images."""
    usual = [folder / split, folder / "images" / split, folder / "images", annotations.parent, folder]
    candidates = [path for path in usual if path.is_dir()]
    names = [entry.file_name for entry, _ in zip(entries, range(20), strict=False)]
    return next((path for path in candidates if any(folders.is_there(path / name) for name in names)), candidates[0])


def _find_image(root: Path, entry: ImageEntry, allow_outside: bool) -> Path:
    path = root / entry.file_name
    if not allow_outside and not folders.is_inside(path, root):
        raise AnnotationError("names a image outside the data folder")
    if not folders.is_there(path):
        raise AnnotationError(f"no such image in {root}")
    return path
