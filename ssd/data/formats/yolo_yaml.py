"""The description of a YOLO folder: `data.yaml`, darknet's lists, or the names of its sub-folders."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ssd.data.formats import paths as folders
from ssd.data.formats.class_lists import class_list_file, read_class_list
from ssd.data.formats.image_finder import ImageFinder, find_tail
from ssd.data.formats.yolo_labels import LABELS
from ssd.errors import AnnotationError, DatasetError
from ssd.system.yaml import parse_yaml_text, shown

_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NO_PLACE = re.compile(r"|~|null|true|false|\d*\.\d+", re.IGNORECASE)  # a value that is no path
_DARKNET = re.compile(r"obj_(.+)_data")


@dataclass(frozen=True)
class YoloFolder:
    """The folder, and its YAML file if it has one."""

    root: Path
    yaml: Path | None
    content: dict[str, Any]

    def splits(self) -> dict[str, list[str]]:
        """Each split and the places of its images; empty where none are named."""
        named = {
            str(key): [str(item) for item in (value if isinstance(value, list) else [value])]
            for key, value in self.content.items()
            if _names_split(key, value)
        }
        if named:
            return named
        lists = {name: [folders.relative(path, self.root)] for name, path in image_lists(self.root).items()}
        found = lists or self.image_folders()
        return found if any(map(folders.is_split, found)) else {}

    def image_folders(self) -> dict[str, list[str]]:
        """The folders of images by name: splits, or sorted by something else, such as a camera or a date."""
        inner = {
            sub.name: [folders.relative(sub, self.root)]
            for place in folders.named_subfolders(self.root, folders.IMAGE_FOLDERS)
            for sub in folders.subfolders(place)
            if _has_images(sub)
        }
        subs = folders.subfolders(self.root)
        outer = {
            sub.name: [folders.relative(images[0], self.root)]
            for sub in subs
            if (images := folders.named_subfolders(sub, folders.IMAGE_FOLDERS))
        }
        darknet = {match[1]: [sub.name] for sub in subs if (match := _DARKNET.fullmatch(sub.name)) and _has_images(sub)}
        beside = {sub.name: [sub.name] for sub in subs if folders.is_split(sub.name) and _has_images(sub)}
        pairs = {
            name: [folders.relative(images, self.root)] for name, (images, _) in folders.split_pairs(self.root).items()
        }
        return inner or outer or darknet or beside or pairs

    def find(self, value: str) -> tuple[Path, bool]:
        """The place of that name, and whether it was found only by the end of its path.

        A YAML file's `path` is often another machine's, and Roboflow writes one `../` too many.

        Raises:
            DatasetError: it is not there.
        """
        written = value.replace("\\", "/")
        top = str(self.content.get("path") or ".").replace("\\", "/")
        tried = [self.root / top / written, self.root / written, self.root / written.removeprefix("../")]
        found = next((place for place in tried if folders.is_there(place)), None)
        if found is not None:
            return folders.below(found, self.root), False
        finder = ImageFinder(self.root)
        if (place := finder.in_other_form(f"{top}/{written}") or finder.in_other_form(written)) is not None:
            return place, False
        tail = find_tail([self.root], written)
        if tail is None:
            looked = ", ".join(dict.fromkeys(map(str, tried)))
            remedy = (
                f"Looked for {looked}, and for the end of that path in {self.root}. "
                "Correct it, or delete its line: a single split is divided."
            )
            raise DatasetError(f"names {value!r}, which is not there", place=self.yaml or self.root, remedy=remedy)
        return tail, True

    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes from class 0 on; None if there are none.

        Raises:
            DatasetError: they are no list of words, or one comes twice.
        """
        place: Path | None = self.yaml
        if self.yaml is not None and "names" in self.content:
            names = self._names_of_yaml()
        else:
            lists = {path: read_class_list(path, numbered=True) for path in self._class_lists()}
            if not lists:
                if self.yaml is not None:
                    raise DatasetError(
                        "names is None", place=self.yaml, remedy="List the class names, from class 0 on."
                    )
                return None
            place = max(lists, key=lambda path: len(lists[path]))
            names = lists[place]
            other = next((path for path, some in lists.items() if some != names[: len(some)]), None)
            if other is not None:
                problem = f"numbers the classes otherwise than {folders.relative(other, self.root)}"
                remedy = "Number them alike in both folders, and keep one list beside them."
                raise DatasetError(problem, place=place, remedy=remedy)
        if len(set(names)) < len(names):
            raise DatasetError(f"a class name comes twice: {', '.join(names)}", place=place, remedy="Rename one.")
        return names

    def _class_lists(self) -> list[Path]:
        """The list of class names of the folder, else those beside the labels and images: labelImg writes one each."""
        own = class_list_file(self.root)
        if own is not None:
            return [own]
        tops = [self.root, *(sub for sub in folders.subfolders(self.root) if folders.is_split(sub.name))]
        inner = [
            place
            for top in tops
            for place in (
                *folders.annotation_folders(top, LABELS),
                *folders.named_subfolders(top, folders.IMAGE_FOLDERS),
            )
        ]
        splits = [sub for place in inner for sub in folders.subfolders(place) if folders.is_split(sub.name)]
        found = map(class_list_file, dict.fromkeys((*inner, *tops, *splits)))
        return [path for path in found if path is not None]

    def _names_of_yaml(self) -> tuple[str, ...]:
        given = self.content["names"]
        if isinstance(given, dict):
            try:
                numbered = {int(key): name for key, name in given.items()}
            except ValueError:
                numbered = {}
            if set(numbered) == set(range(len(given))):
                given = [numbered[number] for number in range(len(given))]
        if not isinstance(given, list) or not given:
            remedy = "List the class names, from class 0 on: names: [cat, dog]."
            raise DatasetError(f"names is {shown(given)}", place=self.yaml, remedy=remedy)
        if not all(isinstance(name, str) for name in given):
            remedy = "A name is a word, not a list."
            raise DatasetError(f"names is {shown(given)}", place=self.yaml, remedy=remedy)
        return tuple(name.strip() for name in given)

    def keypoints(self) -> int:
        """How many numbers of each row are keypoints, as `kpt_shape: [17, 3]` says; 0 without it."""
        shape = self.content.get("kpt_shape")
        if not isinstance(shape, list) or len(shape) != 2:
            return 0
        if not all(isinstance(side, str) and re.fullmatch(r"\d{1,4}", side) for side in shape):
            return 0
        return int(shape[0]) * int(shape[1])


def _has_images(folder: Path) -> bool:
    """Whether images lie in a folder; in that of a split, as of several cameras, some folders below count too."""
    files = folders.walk(folder) if folders.is_split(folder.name) else folder.iterdir()
    return any(map(folders.is_image, files))


def read_folder(path: Path) -> YoloFolder:
    """What a folder, or a YAML file in it, says about its images and classes.

    Raises:
        AnnotationError: the YAML file is none, or holds no mapping.
    """
    root = path.parent if path.is_file() else path
    file = path if path.is_file() else find_yaml(root)
    return YoloFolder(root, file, {} if file is None else _load(file))


def find_yaml(folder: Path) -> Path | None:
    """The YAML file that describes the data: under its usual name, or the only one with train, val or names."""
    usual = next((folder / name for name in _YAML if (folder / name).is_file()), None)
    if usual is not None and _counts(usual, broken=True):
        return usual
    if not folder.is_dir():
        return None
    found = [path for path in sorted(folder.glob("*.y*ml")) if path.is_file() and _counts(path, broken=False)]
    return found[0] if len(found) == 1 else None


def image_lists(folder: Path) -> dict[str, Path]:
    """The files `train.txt` and such that list images, by split: in the folder, else in `data` as Darknet has them."""
    for place in (folder, *folders.named_subfolders(folder, ("data",))):
        texts = sorted(place.glob("*.txt"))
        named = [path for name in folders.SPLITS for path in texts if folders.without_year(path.stem) == name]
        found = {path.stem: path for path in named if _is_image_list(path)}
        if found:
            return found
    return {}


@lru_cache(maxsize=8)
def _parse(text: str, path: Path) -> Any:
    """The value of a YAML file, which several steps of opening a folder ask for; it is not to be changed."""
    return parse_yaml_text(text, path, AnnotationError)


def _counts(path: Path, *, broken: bool) -> bool:
    try:
        content = _parse(folders.read_text(path), path)
    except AnnotationError:
        return broken
    return _describes(content) if isinstance(content, dict) else broken


def _describes(content: dict[Any, Any]) -> bool:
    """Whether it has names or splits; those of a config for training (`train: {epochs: 5}`) are groups of keys."""
    return "names" in content or any(_names_split(key, value) for key, value in content.items())


def _names_split(key: Any, value: Any) -> bool:
    """Whether it says where images of a split are: `val2017: PATH`, or `night: images/night` as `--write yolo` has."""
    if value is None or isinstance(value, dict) or _NO_PLACE.fullmatch(str(value)):
        return False
    return folders.is_split(str(key)) or value == f"images/{key}"


def _load(path: Path) -> dict[str, Any]:
    content = _parse(folders.read_text(path), path)
    if not isinstance(content, dict):
        raise AnnotationError(f"holds {type(content).__name__}, not `names:`, `train:` and `val:`", place=path)
    if any(isinstance(content.get(group), dict) for group in ("train", "model", "data")) and not _describes(content):
        raise AnnotationError("is a config for training, not a data set", place=path, remedy="Name the data folder.")
    return content


def _is_image_list(path: Path) -> bool:
    """Whether its first lines are paths of images."""
    if not path.is_file():
        return False
    try:
        lines = [line for line in folders.first_lines(path) if line][:20]
    except AnnotationError:
        return False
    return bool(lines) and all(line.lower().endswith(folders.IMAGE_SUFFIXES) for line in lines)
