"""Folders as tools export them and people download them, small, with one cat of 10x10 pixels in each image."""

import json
from pathlib import Path

import cv2
import numpy as np

from tests.data.made import write_text, xml, xml_object

ROW = "0 0.175 0.4 0.25 0.5\n"  # the box 2 3 12 13 of an image of 40x20
BOX = [2.0, 3.0, 12.0, 13.0]


def image(path: Path, seed: int = 0, size: tuple[int, int] = (40, 20)) -> Path:
    """An image unlike the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    suffix = path.suffix.lower() if path.suffix.lower() in (".png", ".bmp") else ".jpg"
    path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    return path


def voc_pair(annotations: Path, images: Path, count: int = 12, suffix: str = ".jpg", name: str = "im{}") -> None:
    """Annotations and images of the same names; boxes as VOC counts them."""
    for number in range(count):
        stem = name.format(number)
        image(images / f"{stem}{suffix}", number)
        text = xml(xml_object(box=(3, 4, 13, 14)), filename=f"{Path(stem).name}{suffix}")
        write_text(annotations / f"{stem}.xml", text)


def yolo_pair(labels: Path, images: Path, count: int = 12, suffix: str = ".txt") -> None:
    for number in range(count):
        image(images / f"im{number}.jpg", number)
        write_text(labels / f"im{number}{suffix}", ROW)


def coco(names: list[str], **changes: object) -> str:
    """COCO JSON for images of those names."""
    content: dict[str, object] = {
        "images": [{"id": n + 1, "file_name": name, "width": 40, "height": 20} for n, name in enumerate(names)],
        "annotations": [
            {"id": n + 1, "image_id": n + 1, "category_id": 1, "bbox": [2, 3, 10, 10], "area": 100, "iscrowd": 0}
            for n in range(len(names))
        ],
        "categories": [{"id": 1, "name": "cat", "supercategory": ""}],
    }
    return json.dumps(content | changes)


def coco_images(folder: Path, count: int = 12) -> list[str]:
    return [image(folder / f"im{number}.jpg", number).name for number in range(count)]
