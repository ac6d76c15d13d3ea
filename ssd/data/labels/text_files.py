"""Writes labels as text: YOLO's rows, its `data.yaml`, and the list of class names."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ssd.data.formats import paths as folders
from ssd.data.labels.labelled import Images, Labelled, one_line
from ssd.system.files import write_atomic


def write_yolo(folder: Path, images: Images, class_names: Sequence[str], splits: Sequence[str]) -> None:
    """`labels/NAME.txt` for each image in `images/`, `data.yaml` and `classes.txt`."""
    start_yolo(folder, class_names, splits)
    ids = {name: number for number, name in enumerate(class_names)}
    for image in images():
        path = folder / "labels" / image.split / f"{image.stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, _rows(image, ids).encode())


def start_yolo(folder: Path, class_names: Sequence[str], splits: Sequence[str]) -> None:
    """Make the folders, and write `data.yaml` and `classes.txt`."""
    names = [one_line(name) for name in class_names]
    for inner in ("images", "labels"):
        (folder / inner).mkdir(exist_ok=True)
    write_atomic(folder / "classes.txt", "".join(f"{name}\n" for name in names).encode())
    places = {key: f"images/{split}".rstrip("/") for split, key in _keys(splits).items()}
    listed = "".join(f"  {label}: {json.dumps(name, ensure_ascii=False)}\n" for label, name in enumerate(names))
    keys = "".join(f"{split}: {place}\n" for split, place in places.items())
    write_atomic(folder / "data.yaml", f"path: .\n{keys}names:\n{listed}".encode())


def _keys(splits: Sequence[str]) -> dict[str, str]:
    """The key of each split: `train`, `val` or `test`, which YOLO's tools ask for, where it alone means that."""
    usual = {split: folders.usual_split(split or "train") for split in splits}
    counts = Counter(usual.values())
    return {split: key if key is not None and counts[key] == 1 else split for split, key in usual.items()}


def write_class_list(folder: Path, class_names: Sequence[str]) -> None:
    """`labels.txt` with the names in their order, which the readers take; none where a name would not come back."""
    if all(name == one_line(name).strip() and name and "," not in name for name in class_names):
        write_atomic(folder / "labels.txt", "".join(f"{name}\n" for name in class_names).encode())


def _rows(image: Labelled, ids: dict[str, int]) -> str:
    rows = []
    for label in image.labels:
        left, top, right, bottom = label.box
        across = ((left + right) / 2 / image.width, (right - left) / image.width)
        down = ((top + bottom) / 2 / image.height, (bottom - top) / image.height)
        numbers = (across[0], down[0], across[1], down[1])
        rows.append(" ".join([str(ids[label.name]), *(f"{number:.7f}" for number in numbers)]) + "\n")
    return "".join(rows)
