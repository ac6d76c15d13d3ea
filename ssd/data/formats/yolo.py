"""YOLO folders: one text file per image, `class x y width height` as fractions of it.

`data.yaml` names the classes and where each split's images are (a folder, several, or a list file). Without it
`train.txt` and such lists, `images/<split>` or `<split>/images` are the splits, and `classes.txt` or `obj.names`
has the names. Labels lie where `labels` replaces the last `images` of the path, else beside the images. A row of a
polygon gives the polygon's box; an image without a label file has no objects.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import Problem, RawImage, RawObject, RawSplit, unreadable
from ssd.data.formats.class_lists import NAMES, find_class_list
from ssd.data.formats.division import Division
from ssd.data.formats.image_finder import ImageFinder
from ssd.data.formats.yolo_images import list_split, listed_in
from ssd.data.formats.yolo_labels import LABELS, LabelFinder, read_row
from ssd.data.formats.yolo_yaml import YoloFolder, find_yaml, image_lists, read_folder
from ssd.errors import AnnotationError, DatasetError, ImageDecodeError
from ssd.images.decode import read_size
from ssd.system.unicode_names import nfc

_MAX_CLASSES = 10_000  # of a set that names none
_TELLING = 4  # objects that tell how classes are counted


def looks_like(folder: Path) -> bool:
    """Whether it has a data.yaml, darknet's files, `images` and `labels`, or labels beside the images."""
    if folder.is_file():
        return folder.suffix.lower() in (".yaml", ".yml")
    if find_yaml(folder) is not None or (folder / "obj.data").is_file():
        return True
    subs = folders.subfolders(folder)
    if any(_are_rows(place) for top in (folder, *subs) for place in folders.annotation_folders(top, LABELS)):
        return True
    if any(_are_rows(labels) for _, labels in folders.split_pairs(folder).values()):
        return True
    images = [*folders.named_subfolders(folder, folders.IMAGE_FOLDERS), *(sub for sub in subs if "obj_" in sub.name)]
    splits = [sub for sub in subs if folders.is_split(sub.name)]
    if any(_has_labels_beside(place) for place in [*images, *splits]):
        return True
    if find_class_list(folder, NAMES) is not None and _has_labels_beside(folder, deep=False):
        return True
    return bool(image_lists(folder)) and _lists_have_labels(folder)


def splits(folder: Path) -> tuple[str, ...]:
    """The names of the splits; none where the folder has none."""
    return tuple(read_folder(folder).splits())


def image_folders(folder: Path) -> tuple[str, ...]:
    """The names of folders of images that are no splits, such as cameras; each can be read by itself too."""
    source = read_folder(folder)
    return () if source.splits() else tuple(source.image_folders())


def read(
    folder: Path,
    split: str | None,
    *,
    division: Division | None = None,
    classes: Sequence[str] | None = None,
    allow_outside: bool = False,
) -> RawSplit:
    """Read the labels of one split, or of all, or a part of that; sizes come from the images' headers.

    `classes` are the names where the folder has none.

    Raises:
        DatasetError: the class names or the split's images cannot be found.
    """
    source = read_folder(folder)
    problems: list[Problem] = []
    labels = LabelFinder(source.root)
    listed = list_split(source, split, allow_outside, problems)
    shared = _shared(listed, labels) | _of_one_label(source, listed, labels)
    if division is not None:
        counts = Counter(image_id for _, image_id in listed)
        places = {image_id if counts[image_id] == 1 else f"{image_id}{path.suffix}": path for path, image_id in listed}
        chosen = division.choose(places, lambda image_id: labels.classes(places[image_id]))
        listed = [(places[image_id], image_id) for image_id in chosen]
    names = source.class_names() or tuple(classes or ()) or _numbered(source, labels, problems)
    stated = source.content.get("nc")
    if isinstance(stated, str) and re.fullmatch(r"\d{1,6}", stated) and int(stated) != len(names):
        message = f"nc is {stated}, and {len(names)} classes are named: the names count"
        problems.append(Problem(folders.relative(source.yaml or folder, source.root), "nc", message, "note"))
    reader = _Reader(source, labels, names, problems, allow_outside)
    found = []
    for path, image_id in listed:
        try:
            if path in shared:
                raise AnnotationError("shares its name, and so its labels, with another image of the split")
            found.append(reader.read_image(path, image_id))
        except (AnnotationError, ImageDecodeError) as error:
            problems.append(unreadable(folders.relative(path, source.root), error))
    ids = tuple(range(1, len(names) + 1))
    return RawSplit(tuple(found), names, ids, tuple(_one_based(problems, found, names)), "centres")


def _shared(listed: Sequence[tuple[Path, str]], labels: LabelFinder) -> set[Path]:
    """The images that have one name but for the suffix, or of which names in other cases have one label file."""
    alike: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for path, image_id in listed:
        alike[nfc(image_id).lower()].append((path, nfc(image_id)))
    shared: set[Path] = set()
    for images in (images for images in alike.values() if len(images) > 1):
        names = Counter(name for _, name in images)
        files = {path: labels.find(path) or path for path, _ in images}
        counts = Counter(files.values())
        shared |= {path for path, name in images if names[name] > 1 or counts[files[path]] > 1}
    return shared


def _of_one_label(source: YoloFolder, listed: Sequence[tuple[Path, str]], labels: LabelFinder) -> set[Path]:
    """The images of several folders for which one label file is found by its name alone, in any of the splits."""
    found = {path: labels.find(path) for path, _ in listed}
    by_name = {label for path, label in found.items() if label is not None and labels.is_by_name(path, label)}
    if not by_name:
        return set()
    splits = tuple(source.splits()) or (None,)
    everywhere = {path for split in splits for path, _ in list_split(source, split, True, [])}
    users = Counter(label for label in map(labels.find, everywhere) if label in by_name)
    return {path for path, label in found.items() if label is not None and users[label] > 1}


def _one_based(problems: list[Problem], images: list[RawImage], names: Sequence[str]) -> list[Problem]:
    """In place of classes that are one too many for the names: the one problem that all ids start at 1."""
    unknown = [problem for problem in problems if problem.kind == "unknown_class"]
    good = [item.name for image in images for item in image.objects]
    if (
        not unknown
        or names[0] in good
        or len(good) + len(unknown) < _TELLING
        or any(f"class {len(names)} is" not in problem.message for problem in unknown)
    ):
        return problems
    message = (
        f"class ids look 1-based: {len(unknown)} rows have class {len(names)} and none has class 0, which is "
        f"{names[0]!r}; subtract 1 from every id"
    )
    return [Problem(unknown[0].path, "one_based", message, "file"), *(p for p in problems if p not in unknown)]


def used_files(folder: Path) -> set[str]:
    """The paths of the images and labels that belong to some split, and the lists of them."""
    source = read_folder(folder)
    labels = LabelFinder(source.root)
    used = {source.find(value)[0] for values in source.splits().values() for value in values}
    for split in tuple(source.splits()) or (None,):
        for path, _ in list_split(source, split, True, []):
            found = labels.find(path)
            used |= {path} if found is None else {path, found}
    return set(map(str, used))


class _Reader:
    """Reads images and their labels; adds their problems to `problems`."""

    def __init__(
        self,
        source: YoloFolder,
        labels: LabelFinder,
        names: tuple[str, ...],
        problems: list[Problem],
        allow_outside: bool,
    ) -> None:
        self.source, self.labels, self.names, self.problems = source, labels, names, problems
        self.allow_outside = allow_outside
        self.inside = ImageFinder(source.root)
        self.keypoints = source.keypoints()

    def read_image(self, path: Path, image_id: str) -> RawImage:
        """One image with its objects."""
        root = self.source.root
        if not self.allow_outside and not self.inside.is_inside(path):
            raise folders.outside(path, "lies outside the data folder")
        width, height = read_size(path)
        label = self.labels.find(path)
        place = folders.relative(path, root)
        if label is None:
            message = "has no label file and counts as an image without objects"
            self.problems.append(Problem(place, "no_labels", message, "note"))
            return RawImage(str(path), image_id, place, width, height, (), "line")
        where = folders.relative(label, root)
        if nfc(label.stem) != nfc(path.stem):
            message = f"is read as the labels of {path.name}; {path.stem}.txt is the usual name"
            self.problems.append(Problem(where, "label_name", message, "note"))
        objects = []
        for number, line in enumerate(folders.read_lines(label), start=1):
            if not line:
                continue
            item = read_row(line, number, self.names, width, height, self.keypoints)
            if isinstance(item, RawObject):
                objects.append(item)
            else:
                self.problems.append(Problem(where, *item, index=number, unit="line"))
        return RawImage(str(path), image_id, where, width, height, tuple(objects), "line")


def _numbered(source: YoloFolder, labels: LabelFinder, problems: list[Problem]) -> tuple[str, ...]:
    """Names for classes without names: class_0 and so on, up to the largest number in any label file."""
    largest = -1
    for path in sorted(path for files in labels.files.values() for path in files):
        try:
            rows = [line.split() for line in folders.read_lines(path)]
        except AnnotationError:
            continue
        numbers = [int(row[0]) for row in rows if len(row) >= 5 and re.fullmatch(r"\d{1,4}", row[0])]
        largest = max([largest, *numbers])
    if not 0 <= largest < _MAX_CLASSES:
        raise DatasetError("no class names", place=source.root, remedy="Add data.yaml with `names:`, or classes.txt.")
    message = "nothing names the classes: they are called class_0, class_1, ...; write the names into classes.txt"
    problems.append(Problem(str(source.root), "no_class_names", message, "note"))
    return tuple(f"class_{number}" for number in range(largest + 1))


def _has_labels_beside(folder: Path, *, deep: bool = True) -> bool:
    """Whether some image has a text file with rows of numbers beside it."""
    places = folders.listings(folder)
    for place, names in places if deep else islice(places, 1):
        texts = {name[:-4] for name in names if name.endswith(".txt")}
        for name in names if texts else ():
            stem = name.rpartition(".")[0]
            if stem in texts and folders.is_image_name(name) and _is_row_file(Path(place, f"{stem}.txt")):
                return True
    return False


def _lists_have_labels(folder: Path) -> bool:
    """Whether one of the first images of `train.txt` and such has a label file."""
    labels = LabelFinder(folder)
    files = image_lists(folder).values()
    return any(labels.find(path) for file in files for path in listed_in(file, folder, [])[:100])


def _are_rows(folder: Path) -> bool:
    """Whether the folder has text files, and the first ones hold rows of numbers."""
    texts = [path for path in folders.walk(folder) if path.suffix.lower() == ".txt"][:1000]
    return any(_is_row_file(path) for path in texts) or (bool(texts) and all(not path.stat().st_size for path in texts))


def _is_row_file(path: Path) -> bool:
    try:
        lines = [line for line in folders.read_lines(path) if line][:1]
    except AnnotationError:
        return False
    return bool(lines) and re.fullmatch(r"[\d.]+(\s+[-\d.eE+]+){4,}", lines[0]) is not None
