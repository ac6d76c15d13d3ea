"""Writes labels as JSON: COCO, LabelMe and Label Studio."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from ssd.data.labels.labelled import Images, Label, Labelled
from ssd.system.files import open_atomic, write_json


def write_coco(folder: Path, images: Images, class_names: Sequence[str], splits: Sequence[str]) -> None:
    """`annotations/instances_SPLIT.json`, `instances_default.json` without splits; classes count from 1."""
    ids = {name: number for number, name in enumerate(class_names, start=1)}
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in ids.items()]
    (folder / "annotations").mkdir(exist_ok=True)
    for split in splits:
        with open_atomic(folder / "annotations" / f"instances_{split or 'default'}.json") as file:
            file.write(b'{"images": ')
            _write_list(file, (_coco_image(number, image) for number, image in _numbered(images, split)))
            file.write(f',\n"categories": {json.dumps(categories)},\n"annotations": '.encode())
            labels = ((number, label) for number, image in _numbered(images, split) for label in image.labels)
            rows = (_coco_label(key, number, label, ids) for key, (number, label) in enumerate(labels, start=1))
            _write_list(file, rows)
            file.write(b"}\n")


def _numbered(images: Images, split: str) -> Iterable[tuple[int, Labelled]]:
    return enumerate((image for image in images() if image.split == split), start=1)


def _coco_image(number: int, image: Labelled) -> dict[str, Any]:
    return {"id": number, "file_name": image.name, "width": image.width, "height": image.height}


def _coco_label(key: int, number: int, label: Label, ids: dict[str, int]) -> dict[str, Any]:
    left, top, right, bottom = label.box
    width, height = round(right - left, 3), round(bottom - top, 3)
    row = {"id": key, "image_id": number, "category_id": ids[label.name], "bbox": [left, top, width, height]}
    row |= {"area": round(width * height, 3), "iscrowd": int(label.crowd), "segmentation": []}
    return row if label.score is None else row | {"score": round(label.score, 6)}


def write_labelme(folder: Path, images: Images, class_names: Sequence[str], splits: Sequence[str]) -> None:
    """A JSON file for each image: beside its copy, else in the folder under the image's name."""
    for image in images():
        inside = Path("images") if image.copied else Path()
        path = folder / inside / image.split / f"{image.stem}.json"
        content: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": [_shape(label) for label in image.labels],
            "imagePath": os.path.relpath(folder / image.place, path.parent).replace(os.sep, "/"),
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        write_json(path, content)


def _shape(label: Label) -> dict[str, Any]:
    left, top, right, bottom = label.box
    shape = {"label": label.name, "points": [[left, top], [right, bottom]], "group_id": None}
    score = "" if label.score is None else f"score {label.score:.3f}"
    return shape | {"description": score, "shape_type": "rectangle", "flags": {}, "mask": None}


def write_label_studio(folder: Path, images: Images, class_names: Sequence[str], splits: Sequence[str]) -> None:
    """`label-studio.json`, or `label-studio_SPLIT.json` for each split: tasks for local files.

    Detections are predictions of their tasks, labels are annotations. The labelling interface needs
    `<Image name="image" value="$image"/>` and `<RectangleLabels name="label" toName="image">`.
    """
    for split in splits:
        with open_atomic(folder / (f"label-studio_{split}.json" if split else "label-studio.json")) as file:
            _write_list(file, (_task(number, image) for number, image in _numbered(images, split)))
            file.write(b"\n")


def _task(number: int, image: Labelled) -> dict[str, Any]:
    results = [_result(f"{number}-{place}", label, image) for place, label in enumerate(image.labels, start=1)]
    scores = [label.score for label in image.labels if label.score is not None]
    address = quote((image.place if image.copied else image.name).encode(errors="surrogateescape"))
    task: dict[str, Any] = {"id": number, "data": {"image": f"/data/local-files/?d={address}"}}
    if image.detected:
        best = {"model_version": "ssd", "score": round(max(scores, default=0.0), 6), "result": results}
        return task | {"annotations": [], "predictions": [best]}
    return task | {"annotations": [{"result": results, "was_cancelled": False}], "predictions": []}


def _result(key: str, label: Label, image: Labelled) -> dict[str, Any]:
    left, top, right, bottom = label.box
    sides = 100 / image.width, 100 / image.height
    value = {"x": left * sides[0], "y": top * sides[1]}
    value |= {"width": (right - left) * sides[0], "height": (bottom - top) * sides[1], "rotation": 0}
    kind = "rectanglelabels"
    row: dict[str, Any] = {
        "id": key,
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "value": value | {kind: [label.name]},
    }
    row |= {"original_width": image.width, "original_height": image.height, "image_rotation": 0}
    return row if label.score is None else row | {"score": round(label.score, 6)}


def _write_list(file: BinaryIO, rows: Iterable[dict[str, Any]]) -> None:
    """A JSON list with a row a line."""
    separator = "["
    for row in rows:
        file.write(f"{separator}\n{json.dumps(row)}".encode())
        separator = ","
    file.write(b"[]" if separator == "[" else b"\n]")
