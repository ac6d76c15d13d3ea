"""The data sets of the accuracy suite: which images are trained on and scored in each phase, as lists of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssd.data.dataset import Dataset, open_dataset
from ssd.data.formats import paths as folders
from ssd.data.formats.division import Division
from ssd.data.formats.registry import is_test, splits
from ssd.data.shapes.dataset import CLASS_NAMES, shapes
from ssd.errors import ArgumentError, DatasetError
from ssd.images.drawing import write_image
from ssd.structures import Record
from ssd.system.files import write_atomic

Phase = Literal["val", "test"]
_VAL_FRACTION = 0.2  # of the training images of a folder without a validation split
_TINY_IMAGES, _TINY_SIDE = 2, 64


@dataclass(frozen=True)
class ImageSet:
    """The images of one data set in one phase."""

    name: str
    phase: Phase
    folder: Path
    train: tuple[str, ...]  # paths from the folder on
    scored: tuple[str, ...]
    lists: Path  # folder of the list files

    def train_list(self, images: int) -> Path:
        """Write the list of the first `images` training images, and return its path."""
        return self._write(f"train-{images}", self.train[:images])

    def scored_list(self) -> Path:
        """Write the list of the images that are scored, and return its path."""
        return self._write("scored", self.scored)

    def _write(self, what: str, names: Sequence[str]) -> Path:
        path = self.lists / f"{what}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, "".join(f"{name}\n" for name in names).encode(errors="surrogateescape"))
        return path.absolute()


def image_set(name: str, folder: Path, phase: Phase, lists: Path) -> ImageSet:
    """Choose the images of a phase.

    `val`: train on the training split, score the validation split; where there is none, a fifth of the training images,
    without leaks. `test`: train on both (`trainval`), score the test split.

    Raises:
        DatasetError: no such folder, or a phase without its split.
    """
    there = splits(folder)
    train, val = _named(there, "train", "training"), _named(there, "val", "valid", "validation")
    both, test = _named(there, "trainval"), next(filter(is_test, there), None)
    learned = [both] if both and (phase == "test" or train is None) else [split for split in (train,) if split]
    if not learned:
        remedy = f"Name a folder with a split train; there is: {', '.join(there)}."
        raise DatasetError("has no training split", place=folder, remedy=remedy)
    if phase == "test":
        if test is None:
            remedy = f"Use --split val, or add a split test; there is: {', '.join(there)}."
            raise DatasetError("has no test split", place=folder, remedy=remedy)
        learned += [val] if val and not both else []
        chosen = [path for split in learned for path in _paths(_open(folder, split), folder)]
        scored = _paths(_open(folder, test), folder)
    elif val is not None and learned != [both]:
        chosen, scored = (_paths(_open(folder, split), folder) for split in (learned[0], val))
    else:
        chosen, scored = _divide(_open(folder, learned[0]), folder)
    return ImageSet(
        name, phase, folder.absolute(), tuple(dict.fromkeys(chosen)), tuple(scored), lists / f"{name}-{phase}"
    )


def _named(there: Sequence[str], *names: str) -> str | None:
    return next((split for name in names for split in there if split.lower().rstrip("0123456789-_") == name), None)


def _open(folder: Path, split: str) -> Dataset:
    return open_dataset(folder, split, bad_objects="drop")


def _paths(dataset: Dataset, folder: Path) -> list[str]:
    return [folders.relative(Path(record.path), folder) for record in dataset.records]


def _divide(dataset: Dataset, folder: Path) -> tuple[list[str], list[str]]:
    """Divide the training images, with near duplicates on one side and every class on both where it can be."""
    by_name = {folders.relative(Path(record.path), folder): record for record in dataset.records}
    images = {name: Path(record.path) for name, record in by_name.items()}

    def classes(name: str) -> set[str]:
        return {dataset.class_names[label] for label in by_name[name].labels.tolist()}

    chosen = set(Division("val", _VAL_FRACTION).choose(images, classes))
    return [name for name in by_name if name not in chosen], [name for name in by_name if name in chosen]


def parse_sets(words: Sequence[str]) -> dict[str, Path]:
    """The folders of `name=folder` words.

    Raises:
        ArgumentError: a word of another form, or a name that occurs twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or not folder or not name.replace("-", "").replace("_", "").isalnum() or name in found:
            raise ArgumentError("is no data set", place=word, remedy="Write name=folder, each name once.")
        found[name] = Path(folder)
    return found


def write_tiny_set(folder: Path) -> None:
    """Write a YOLO folder of drawn shapes with the splits train, val and test, unless it is there."""
    for split in ("train", "val", "test"):
        drawn = shapes(split, 8, _TINY_SIDE)
        kept = [place for place, record in enumerate(drawn.records) if len(record.labels)][:_TINY_IMAGES]
        for place in kept:
            image, labels = (folder / kind / split / f"{place}" for kind in ("images", "labels"))
            image.parent.mkdir(parents=True, exist_ok=True)
            labels.parent.mkdir(parents=True, exist_ok=True)
            write_image(image.with_suffix(".png"), drawn.load(place).image)
            write_atomic(labels.with_suffix(".txt"), _yolo(drawn.records[place]).encode())
    write_atomic(folder / "classes.txt", "".join(f"{name}\n" for name in CLASS_NAMES).encode())


def _yolo(record: Record) -> str:
    """One line for each object: class, centre and sides as fractions."""
    lines = []
    for label, box in zip(record.labels.tolist(), (record.boxes / record.width).tolist(), strict=True):
        x1, y1, x2, y2 = box
        lines.append(f"{label} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n")
    return "".join(lines)
