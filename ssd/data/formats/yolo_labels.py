"""YOLO's label files: finds the one of an image, and parses its rows."""

import math
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssd.data.formats import paths as folders
from ssd.data.formats.annotations import RawObject
from ssd.errors import AnnotationError
from ssd.system.unicode_names import Named, nfc

LABELS = ("labels", "label", "annotations", "annotation", "bboxes")  # folders of labels, in the order of trust
_IMAGES = {name.lower() for name in folders.IMAGE_FOLDERS}


def label_file(image: Path) -> Path:
    """Where the labels of an image are by convention: `labels` for the last `images` of its path."""
    parts = list(image.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


class LabelFinder:
    """Finds the label file of each image, in any case of letters and either Unicode form."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._inner: dict[Path, list[Path]] = {}
        self._pairs = folders.split_pairs(root)
        texts = (
            Path(place, name) for place, names in folders.listings(root) for name in sorted(names) if _is_text(name)
        )
        self.files: Named[list[Path]] = Named()  # by their paths in lower case
        for path in texts:
            self.files.setdefault(path.as_posix().lower(), []).append(path)

    def find(self, image: Path) -> Path | None:
        """The label file: where `labels` replaces `images`, else beside the image, else in `labels/`."""
        for place in self._places(image):
            for name in (place.with_suffix(".txt"), place.parent / f"{image.name}.txt"):
                found = self.files.find(name.as_posix().lower())
                if found is not None:
                    return max(found, key=lambda path: _equal_letters(path, name))
                if name.is_file():
                    return name
        return None

    def is_by_name(self, image: Path, label: Path) -> bool:
        """Whether the label file of an image in a deeper folder lies in the root's folder of labels, without that."""
        return label.parent in self._label_folders(self.root) and self.root not in (image.parent, image.parent.parent)

    def _places(self, image: Path) -> Iterator[Path]:
        """Where the labels may be, the suffix aside; the usual place comes first and mostly suffices."""
        yield label_file(image)
        yield from self._swapped(image)
        yield image

    def classes(self, image: Path) -> set[str]:
        """The numbers of the classes in an image; none where its label file is missing or cannot be read."""
        label = self.find(image)
        try:
            return set() if label is None else {line.split()[0] for line in folders.read_lines(label) if line}
        except AnnotationError:
            return set()

    def _swapped(self, image: Path) -> list[Path]:
        """The places with `labels` for a folder of images under another name, and in the folders of labels."""
        if not image.is_relative_to(self.root):
            return []
        parts = image.relative_to(self.root).parts
        places = [place for place, part in enumerate(parts[:-1]) if part.lower() in _IMAGES]
        swapped = [
            folder.joinpath(*parts[place + 1 :])
            for place in reversed(places)
            for folder in self._label_folders(self.root.joinpath(*parts[:place]))
        ]
        beside = [
            labels / image.relative_to(images)
            for images, labels in self._pairs.values()
            if image.is_relative_to(images)
        ]
        tops = self._label_folders(self.root)
        return [*swapped, *beside, *(top.joinpath(*parts) for top in tops), *(top / image.name for top in tops)]

    def _label_folders(self, folder: Path) -> list[Path]:
        """The folders of labels in a folder, `labels` first; each folder is listed once."""
        if folder not in self._inner:
            found = folders.annotation_folders(folder, LABELS)
            self._inner[folder] = list(dict.fromkeys((folder / "labels", *found)))
        return self._inner[folder]


def _equal_letters(path: Path, name: Path) -> int:
    """How many letters of two paths are equal in case too."""
    return sum(map(operator.eq, nfc(path.as_posix()), nfc(name.as_posix())))


def _is_text(name: str) -> bool:
    return name.lower().endswith(".txt") and not name.startswith(".")


def read_row(
    line: str, number: int, names: Sequence[str], width: int, height: int, keypoints: int
) -> RawObject | tuple[str, str]:
    """One row as an object, or its problem as (kind, message).

    Five numbers are a class and a box; with `keypoints` more, a pose whose box comes first; an odd seven and more, a
    polygon.
    """
    try:
        label, *values = (float(word) for word in line.split())
    except ValueError:
        return "not_a_number", f"{line[:60]!r} is not a row of numbers"
    if not all(map(math.isfinite, values)):  # `min` below would lose a NaN
        return "not_finite", f"{line[:60]!r} is not finite"
    if not (label.is_integer() and 0 <= label < len(names)):
        return "unknown_class", f"class {label:g} is not one of 0 to {len(names) - 1}"
    if len(values) == 4 or (keypoints and len(values) == 4 + keypoints):
        x, y, w, h = values[:4]
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    elif keypoints:
        return "no_box", f"has {1 + len(values)} numbers, not 5 (a box) or {5 + keypoints} (kpt_shape of data.yaml)"
    elif len(values) >= 6 and len(values) % 2 == 0:
        corners = (min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2]))
    else:
        score = "; the sixth looks like a score of predictions: remove it" if len(values) == 5 else ""
        return "no_box", f"has {1 + len(values)} numbers, not 5 (a box) or an odd 7 and more (a polygon){score}"
    left, top, right, bottom = corners
    return RawObject(number, names[int(label)], (left * width, top * height, right * width, bottom * height))
