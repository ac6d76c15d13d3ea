"""Writes annotated images as a new VOC, COCO or YOLO folder, with copies of the images, for a labelling tool."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ssd.errors import ArgumentError, printable
from ssd.structures import Record
from ssd.system.files import write_atomic

_SPLIT = "train"


def write_folder(folder: Path, format: str, records: Sequence[Record], class_names: Sequence[str]) -> None:
    """Write the records' images and objects into a new or empty folder, as a data set with the split `train`.

    Raises:
        ArgumentError: an unknown format, or a folder with files in it.
    """
    if format not in WRITERS:
        raise ArgumentError(f"{format!r} is unknown", place="as", remedy=f"Choose from {', '.join(WRITERS)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError("is there already", place=folder, remedy="Name a new folder.")
    WRITERS[format](folder, records, _file_names(records), class_names)


def _file_names(records: Sequence[Record]) -> list[str]:
    """The name of each copy: the file's own, with a number where another one has it."""
    names, stems = [], set[str]()
    for record in records:
        path, number = Path(record.path), 1
        stem = path.stem
        while stem.casefold() in stems:
            number += 1
            stem = f"{path.stem}-{number}"
        stems.add(stem.casefold())
        names.append(f"{stem}{path.suffix}")
    return names


def _copy(records: Sequence[Record], names: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for record, name in zip(records, names, strict=True):
        shutil.copyfile(record.path, folder / name)


def _write_yolo(folder: Path, records: Sequence[Record], names: Sequence[str], class_names: Sequence[str]) -> None:
    _copy(records, names, folder / "images")
    (folder / "labels").mkdir()
    for record, name in zip(records, names, strict=True):
        rows = []
        for label, (x1, y1, x2, y2) in zip(record.labels.tolist(), record.boxes.tolist(), strict=True):
            numbers = [
                (x1 + x2) / 2 / record.width,
                (y1 + y2) / 2 / record.height,
                (x2 - x1) / record.width,
                (y2 - y1) / record.height,
            ]
            rows.append(" ".join([str(label), *(f"{number:.7f}" for number in numbers)]) + "\n")
        write_atomic(folder / "labels" / f"{Path(name).stem}.txt", "".join(rows).encode())
    shown = [printable(name) for name in class_names]
    write_atomic(folder / "classes.txt", "".join(f"{name}\n" for name in shown).encode())
    listed = "".join(f"  {label}: {json.dumps(name)}\n" for label, name in enumerate(shown))
    write_atomic(folder / "data.yaml", f"path: .\ntrain: images\nnames:\n{listed}".encode())


def _write_coco(folder: Path, records: Sequence[Record], names: Sequence[str], class_names: Sequence[str]) -> None:
    _copy(records, names, folder / _SPLIT)
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        for row, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(record.labels[row]) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(record.areas[row]),
                    "iscrowd": int(record.crowd[row]),
                }
            )
    content = {
        "images": [
            {"id": number, "file_name": name, "width": record.width, "height": record.height}
            for number, (record, name) in enumerate(zip(records, names, strict=True), start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": label, "name": name} for label, name in enumerate(class_names, start=1)],
    }
    (folder / "annotations").mkdir()
    write_atomic(folder / "annotations" / f"instances_{_SPLIT}.json", json.dumps(content).encode())


def _write_voc(folder: Path, records: Sequence[Record], names: Sequence[str], class_names: Sequence[str]) -> None:
    """Coordinates count from 1, as VOC's own."""
    _copy(records, names, folder / "JPEGImages")
    for inner in (folder / "Annotations", folder / "ImageSets" / "Main"):
        inner.mkdir(parents=True)
    for record, name in zip(records, names, strict=True):
        root = ElementTree.Element("annotation")
        _add(root, "filename", name)
        size = ElementTree.SubElement(root, "size")
        for tag, value in (("width", record.width), ("height", record.height), ("depth", 3)):
            _add(size, tag, str(value))
        for row, corners in enumerate(record.boxes.tolist()):
            item = ElementTree.SubElement(root, "object")
            _add(item, "name", class_names[record.labels[row]])
            _add(item, "difficult", str(int(record.difficult[row])))
            box = ElementTree.SubElement(item, "bndbox")
            for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
                _add(box, tag, f"{value + 1:g}")
        ElementTree.indent(root)
        write_atomic(folder / "Annotations" / f"{Path(name).stem}.xml", ElementTree.tostring(root, encoding="utf-8"))
    stems = "".join(f"{Path(name).stem}\n" for name in names)
    write_atomic(folder / "ImageSets" / "Main" / f"{_SPLIT}.txt", os.fsencode(stems))


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


WRITERS: dict[str, Callable[[Path, Sequence[Record], Sequence[str], Sequence[str]], None]] = {
    "voc": _write_voc,
    "coco": _write_coco,
    "yolo": _write_yolo,
}
