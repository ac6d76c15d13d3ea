"""What tiles are worth: images of a VOC folder pasted to large sheets, where objects are small, searched in parts.

    python examples/small_objects.py my_voc --split test --weights runs/finetune --grid 4

Images are set side by side, `--grid` to a row and as many rows. On such a sheet, shrunk to the network's input,
objects have a quarter of the size (for 4) that the network was trained for. Printed are recall and precision on the
sheets for several `tiles`, and those of the images one by one, which is about what tiles can win back. Recall is also
given by size: the square root of the share of the sheet that an object covers.

    python examples/small_objects.py my_voc --write sheets
    ssd train --data sheets data.tiles=3

`--write` makes a COCO folder of sheets of the splits train, val and test, to train on.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import ssd
from ssd.boxes import iou_of_arrays
from ssd.commands._shared import guarded
from ssd.data.dataset import open_dataset
from ssd.errors import ArgumentError
from ssd.images.decode import load_image
from ssd.images.drawing import write_image
from ssd.inference.detections import Detections

MATCH_IOU = 0.5
SIZES = {"< 2 %": 0.02, "2-5 %": 0.05, "> 5 %": 1.0}
SPLITS = ("train", "val", "test")


@dataclass
class Sheet:
    """An image with the boxes (N, 4) and class names of its objects."""

    image: np.ndarray
    boxes: np.ndarray
    names: list[str]


@dataclass
class Count:
    """Objects found, objects there, detections made; a sheet has an area of so many pixels."""

    pixels: int
    found: int = 0
    objects: int = 0
    detections: int = 0
    found_by_size: Counter[str] = field(default_factory=Counter)
    objects_by_size: Counter[str] = field(default_factory=Counter)

    def add(self, sheet: Sheet, detections: Detections) -> None:
        """Pair each detection, best score first, with the free object of its class that it covers best."""
        for name in detections.class_names:
            mine = detections.filter(name)
            there = sheet.boxes[np.array([other == name for other in sheet.names], bool)]
            self.objects += len(there)
            self.detections += len(mine)
            sizes = sizes_of(there, self.pixels)
            self.objects_by_size.update(sizes)
            overlaps = iou_of_arrays(mine.boxes, there)
            for row in overlaps:
                if len(there) and row.max() >= MATCH_IOU:
                    self.found += 1
                    self.found_by_size[sizes[row.argmax()]] += 1
                    overlaps[:, row.argmax()] = 0


def sizes_of(boxes: np.ndarray, pixels: int) -> list[str]:
    """The size of each box (N, 4): the root of the share that it covers of a sheet of so many pixels."""
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) / pixels)
    return [next(name for name, most in SIZES.items() if side <= most) for side in sides]


def sheets(data: Path, split: str, grid: int, limit: int) -> Iterator[Sheet]:
    """`limit` sheets of `grid` x `grid` images; every cell is as large as the first image.

    Of a larger image the rest is cut off, with the objects whose centres lie there.
    """
    dataset = open_dataset(data, split, format="auto", bad_objects="drop")
    height, width = load_image(dataset.records[0].path).shape[:2]
    if len(dataset.records) < grid * grid:
        raise ArgumentError(f"has {len(dataset.records)} images in {split!r}", place=data, remedy="Lower --grid.")
    for first in range(0, len(dataset.records) - grid * grid + 1, grid * grid)[:limit]:
        canvas = np.zeros((height * grid, width * grid, 3), np.uint8)
        boxes, names = [], []
        for cell, record in enumerate(dataset.records[first : first + grid * grid]):
            row, column = divmod(cell, grid)
            image = load_image(record.path)[:height, :width]
            canvas[row * height :, column * width :][: image.shape[0], : image.shape[1]] = image
            seen = ((record.boxes[:, :2] + record.boxes[:, 2:]) / 2 < [width, height]).all(axis=1)
            boxes.append(record.boxes[seen].clip(0, [width, height] * 2) + [column * width, row * height] * 2)
            names += [dataset.class_names[label] for label in record.labels[seen]]
        yield Sheet(canvas, np.concatenate(boxes), names)


def measure(
    detector: ssd.Detector, pages: list[Sheet], score_threshold: float, tiles: object, pixels: int
) -> tuple[Count, float]:
    """What is found on all the pages, and the seconds that one takes; a sheet has so many pixels."""
    count, start = Count(pixels), time.perf_counter()
    for sheet in pages:
        options = {"score_threshold": score_threshold, "max_detections": 1000, "tiles": tiles}
        count.add(sheet, detector.detect(sheet.image, **options))
    return count, (time.perf_counter() - start) / len(pages)


def write(data: Path, grid: int, folder: Path) -> None:
    """Write the sheets of all splits as a COCO folder."""
    for split in SPLITS:
        names = open_dataset(data, split, format="auto", bad_objects="drop").class_names
        images, annotations = [], []
        (folder / split).mkdir(parents=True)
        for number, sheet in enumerate(sheets(data, split, grid, sys.maxsize), start=1):
            write_image(folder / split / f"{number}.jpg", sheet.image)
            height, width = sheet.image.shape[:2]
            images.append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
            for (x1, y1, x2, y2), name in zip(sheet.boxes.tolist(), sheet.names, strict=True):
                place = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                what = {"id": len(annotations) + 1, "image_id": number, "category_id": names.index(name) + 1}
                annotations.append(what | place)
        categories = [{"id": label, "name": name} for label, name in enumerate(names, start=1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        print(f"{split}: {len(images)} sheets, {len(annotations)} objects")


def parser() -> argparse.ArgumentParser:
    """Arguments of the example."""
    p = argparse.ArgumentParser(description="Recall of small objects, with and without tiles.")
    p.add_argument("data", type=Path, help="a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...)")
    p.add_argument("--split", default="test", help="default: test")
    p.add_argument("--weights", default="coco", help="as for detect.py, default: coco")
    p.add_argument("--grid", type=int, default=4, metavar="N", help="N x N images to a sheet, default: 4")
    p.add_argument("--limit", type=int, default=4, metavar="N", help="sheets at most, default: 4")
    p.add_argument("--write", type=Path, metavar="FOLDER", help="write the sheets of all splits as a data set, and end")
    p.add_argument("--score-threshold", type=float, default=0.5, metavar="S", help="default: 0.5")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Print a Markdown table; the exit code is 2 for a mistake of the user's."""
    args = parser().parse_args(argv)
    if args.write is not None:
        if args.write.exists():
            raise ArgumentError("is there already", place=args.write, remedy="Name a new folder.")
        write(args.data, args.grid, args.write)
        return 0
    detector = ssd.load(args.weights)
    pages = list(sheets(args.data, args.split, args.grid, args.limit))
    singles = list(sheets(args.data, args.split, 1, args.limit * args.grid**2))
    height, width = pages[0].image.shape[:2]
    print(f"{len(pages)} sheets of {width} x {height}, {sum(len(page.names) for page in pages)} objects\n")
    print(f"| tiles | recall | precision | {' | '.join(SIZES)} | s an image |\n|{' --- |' * (4 + len(SIZES))}")
    rows = [(str(tiles), tiles, pages) for tiles in (1, 2, 3, 4, "auto")]
    for title, tiles, searched in [*rows, ("the images one by one", 1, singles)]:
        count, seconds = measure(detector, searched, args.score_threshold, tiles, height * width)
        recall = count.found / max(1, count.objects)
        precision = count.found / max(1, count.detections)
        by_size = (f"{count.found_by_size[name] / max(1, count.objects_by_size[name]):.3f}" for name in SIZES)
        print(f"| {title} | {recall:.3f} | {precision:.3f} | {' | '.join(by_size)} | {seconds:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
