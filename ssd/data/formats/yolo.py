"""YOLO folders as Ultralytics has them: one text file a image, `class x y width height` as fractions of it.

`data.yaml` names the classes and where each split's images are (a folder, several, or a list file). Without it
`images/<split>` or `<split>/images` are the splits and `classes.txt` has the names. Labels lie where `labels` replaces
the last `images` of the path, else beside the images. A row of a polygon gives the polygon's box; a image without
a label file has no objects.
"""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem, RawImage, RawObject, RawSplit, unreadable
from ssd.errors import AnnotationError, DatasetError, ImageDecodeError
from ssd.images.decode import read_size
from ssd.system.yaml import parse_yaml, shown

_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_SPLITS = ("train", "val", "valid", "test")  # the keys of data.yaml that name images


def looks_like(folder: Path) -> bool:
    """Whether it has a data.yaml, or `images` and `labels`, or text labels and classes.txt."""
    if _yaml_file(folder) is not None:
        return True
    if (folder / "labels").is_dir() and (folder / "images").is_dir():
        return True
    if any(folder.glob("*/labels")):
        return True
    return (folder / "classes.txt").is_file() and _has_labels_beside(folder)


def splits(folder: Path) -> tuple[str, ...]:
    """The names of the splits."""
    return tuple(_split_sources(folder)) or folders.HASHED_SPLITS


def read(folder: Path, split: str, *, allow_outside: bool = False) -> RawSplit:
    """Read the labels of one split; sizes come from the images' headers.

    Raises:
        DatasetError: the class names or the split's images cannot be found.
    """
    names = _class_names(folder)
    problems: list[Problem] = []
    found = []
    listed = _list_split(folder, split, allow_outside)
    counts = Counter(image_id for _, image_id in listed)
    for path, image_id in listed:
        try:
            if not allow_outside and not folders.is_inside(path, folder):
                raise AnnotationError("lies outside the data folder")
            if counts[image_id] > 1:
                raise AnnotationError("shares its name, and so its labels, with another image of the split")
            found.append(_read_image(path, image_id, folder, names, problems))
        except (AnnotationError, ImageDecodeError) as error:
            problems.append(unreadable(folders.relative(path, folder), error))
    return RawSplit(tuple(found), names, tuple(range(1, len(names) + 1)), tuple(problems))


def _read_image(path: Path, image_id: str, folder: Path, names: tuple[str, ...], problems: list[Problem]) -> RawImage:
    width, height = read_size(path)
    label = label_file(path)
    source = folders.relative(label, folder)
    objects = []
    lines = folders.read_lines(label) if label.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        item = _read_line(line, number, names, width, height)
        if isinstance(item, RawObject):
            objects.append(item)
        else:
            kind, message = item
            problems.append(Problem(source, kind, message, index=number, unit="line"))
    return RawImage(str(path), image_id, source, width, height, tuple(objects), "line")


def label_file(image: Path) -> Path:
    """Where the labels of a image are: `labels` for the last `images` of its path."""
    parts = list(image.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _read_line(line: str, number: int, names: tuple[str, ...], width: int, height: int) -> RawObject | tuple[str, str]:
    """One row as an object, or what is wrong with it as (kind, message)."""
    try:
        label, *values = (float(word) for word in line.split())
    except ValueError:
        return "not_a_number", f"{line[:60]!r} is not a row of numbers"
    if not all(map(math.isfinite, values)):  # `min` below would lose a NaN
        return "not_finite", f"{line[:60]!r} is not finite"
    if not (label.is_integer() and 0 <= label < len(names)):
        return "unknown_class", f"class {label:g} is not one of 0 to {len(names) - 1}"
    if len(values) == 4:
        x, y, w, h = values
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    elif len(values) >= 6 and len(values) % 2 == 0:
        corners = (min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2]))
    else:
        return "no_box", f"has {1 + len(values)} numbers, not 5 (a box) or an odd 7 and more (a polygon)"
    left, top, right, bottom = corners
    return RawObject(number, names[int(label)], (left * width, top * height, right * width, bottom * height))


def _list_split(folder: Path, split: str, allow_outside: bool) -> list[tuple[Path, str]]:
    """The split's images, each with its id: its path below the split's folder, without the suffix."""
    values = _split_sources(folder).get(split)
    if values is None:  # no splits: divide what is there
        root = folder / "images" if (folder / "images").is_dir() else folder
        by_id = {_without_suffix(path, root): path for path in folders.list_images(root, deep=True)}
        return [(by_id[name], name) for name in folders.hashed_split(by_id, split)]
    listed: list[tuple[Path, str]] = []
    for value in values:
        source = _find_source(folder, value)
        if not allow_outside and not folders.is_inside(source, folder):
            remedy = "Move it inside, or set data.allow_outside=true."
            raise DatasetError(f"names {value!r} outside the data folder", place=_yaml_file(folder), remedy=remedy)
        root = source if len(values) == 1 else folder  # images of several folders may share their names
        if source.is_dir():
            listed += [(path, _without_suffix(path, root)) for path in folders.list_images(source, deep=True)]
        else:
            paths = [source.parent / line for line in folders.read_lines(source) if line]
            listed += [(path, _without_suffix(path, folder)) for path in paths]
    return listed


def _has_labels_beside(folder: Path) -> bool:
    """Whether a image has a text file of its name; classes.txt alone may belong to VOC's XML."""
    return any((folder / f"{stem}.txt").is_file() for stem in folders.images_by_stem(folder))


def _without_suffix(path: Path, root: Path) -> str:
    return Path(folders.relative(path, root)).with_suffix("").as_posix()


def _split_sources(folder: Path) -> dict[str, list[str]]:
    """Each split and the places of its images, as data.yaml or the folder names have them."""
    path = _yaml_file(folder)
    if path is None:
        inner = [f"images/{sub.name}" for sub in _folders(folder / "images") if any(folders.list_images(sub))]
        outer = [f"{sub.name}/images" for sub in _folders(folder) if (sub / "images").is_dir()]
        return {place.replace("images", "").strip("/"): [place] for place in inner or outer}
    content = _load_yaml(path)
    found = {key: content[key] for key in _SPLITS if content.get(key)}
    return {
        key: [str(item) for item in (value if isinstance(value, list) else [value])] for key, value in found.items()
    }


def _find_source(folder: Path, value: str) -> Path:
    """A place named by data.yaml. Its `path` is often another machine's, and Roboflow writes one `../` too many."""
    path = _yaml_file(folder)
    root = str(_load_yaml(path).get("path") or ".") if path is not None else "."
    tried = [folder / root / value, folder / value, folder / value.removeprefix("../")]
    found = next((place for place in tried if folders.is_there(place)), None)
    if found is None:
        looked = ", ".join(dict.fromkeys(map(str, tried)))
        raise DatasetError(f"names {value!r}, which is not there", place=path or folder, remedy=f"Looked for {looked}.")
    return found


def _class_names(folder: Path) -> tuple[str, ...]:
    path = _yaml_file(folder)
    if path is None:
        lists = [folder / "classes.txt", folder / "labels" / "classes.txt", folder / "obj.names"]
        path = next((place for place in lists if place.is_file()), None)
        if path is None:
            raise DatasetError("no class names", place=folder, remedy="Add data.yaml with `names:`, or classes.txt.")
        names = [line for line in folders.read_lines(path) if line]
    else:
        given = _load_yaml(path).get("names")
        if isinstance(given, dict) and set(given) == set(range(len(given))):
            given = [given[number] for number in range(len(given))]
        if not isinstance(given, list) or not given:
            raise DatasetError(f"names is {shown(given)}", place=path, remedy="List the class names, from class 0 on.")
        if not all(isinstance(name, str | int | float) for name in given):
            raise DatasetError(f"names is {shown(given)}", place=path, remedy="A name is a word, not a list.")
        names = [str(name).strip() for name in given]
    if len(set(names)) < len(names):
        raise DatasetError(f"a class name comes twice: {', '.join(names)}", place=path, remedy="Rename one.")
    return tuple(names)


def _yaml_file(folder: Path) -> Path | None:
    usual = next((folder / name for name in _YAML if (folder / name).is_file()), None)
    if usual is not None:
        return usual
    found = sorted(path for path in folder.glob("*.y*ml") if path.is_file())
    return found[0] if len(found) == 1 and "names" in _load_yaml(found[0]) else None


def _load_yaml(path: Path) -> dict[str, Any]:
    content = parse_yaml(folders.read_text(path), path, AnnotationError)
    if not isinstance(content, dict):
        raise AnnotationError(f"holds {type(content).__name__}, not `names:`, `train:` and `val:`", place=path)
    return content


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
