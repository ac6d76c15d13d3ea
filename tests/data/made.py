"""Tiny data sets on disk, with whatever defect a test wants."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Box = Sequence[object]


def write_image(path: Path, width: int = 40, height: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.arange(width * height * 3, dtype=np.uint32).reshape(height, width, 3) % 255
    ok, data = cv2.imencode(path.suffix.lower(), image.astype(np.uint8))
    assert ok
    path.write_bytes(data.tobytes())
    return path


def xml_object(name: str = "cat", box: Box = (2, 3, 12, 13), extra: str = "") -> str:
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><bndbox>{tags}</bndbox>{extra}</object>"


def xml(*objects: str, size: tuple[int, int] | None = (40, 20), filename: str = "") -> str:
    sides = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation><filename>{filename}</filename>{sides}{''.join(objects)}</annotation>"


def voc_folder(root: Path, annotations: dict[str, str], split: str = "train") -> Path:
    """A VOC folder with one 40x20 image for every annotation, all in one split."""
    for name, text in annotations.items():
        write_image(root / "JPEGImages" / f"{name}.jpg")
        write_text(root / "Annotations" / f"{name}.xml", text)
    write_text(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in annotations))
    return root


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def coco_content(**changes: Any) -> dict[str, Any]:
    """Two images of 40x20 with one object each, of the categories 3 and 90."""
    content: dict[str, Any] = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 40, "height": 20},
            {"id": 9, "file_name": "b.jpg", "width": 40, "height": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [2, 3, 10, 10], "area": 60.5, "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 40, 20], "area": 800, "iscrowd": 1},
        ],
        "categories": [
            {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
            {"id": 3, "name": "car", "supercategory": "vehicle"},
        ],
    }
    return content | changes


def coco_folder(root: Path, content: Any, split: str = "train") -> Path:
    write_text(root / "annotations" / f"instances_{split}.json", json.dumps(content))
    for name in ("a.jpg", "b.jpg"):
        write_image(root / split / name)
    return root
