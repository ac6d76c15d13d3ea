"""Data sets with known wrong labels: some of the objects removed, given another class, moved, or made up."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ssd.boxes import iou_of_arrays
from ssd.data.dataset import Dataset
from ssd.data.labels.data_sets import write_data_sets
from ssd.evaluation.causes.suspects import Fault, Suspect
from ssd.structures import Record


def corrupt(
    records: Sequence[Record], classes: int, share: float, seed: int = 0, faults: Sequence[Fault] = tuple(Fault)
) -> tuple[list[Record], dict[Fault, list[tuple[int, np.ndarray]]]]:
    """The records with a share of all boxes wrong by each fault, and for each fault the images and boxes of these.

    The box of a missing object is the removed one, of the others the one that the label now has.
    """
    rng = np.random.default_rng(seed)
    planted: dict[Fault, list[tuple[int, np.ndarray]]] = {fault: [] for fault in faults}
    changed = []
    for place, record in enumerate(records):
        boxes, labels = record.boxes.copy(), record.labels.copy()
        kept = np.ones(len(labels), bool)
        made: list[tuple[np.ndarray, int]] = []
        for row in range(len(labels)):
            draw = rng.random() / share
            if draw >= len(faults):
                continue
            fault = faults[int(draw)]
            if fault is Fault.MISSING:
                kept[row] = False
                planted[fault].append((place, boxes[row].copy()))
            elif fault is Fault.WRONG_CLASS:
                labels[row] = (labels[row] + rng.integers(1, classes)) % classes
                planted[fault].append((place, boxes[row].copy()))
            elif fault is Fault.LOOSE:
                boxes[row] = _moved(boxes[row], record, rng)
                planted[fault].append((place, boxes[row].copy()))
            else:
                spare = _empty_place(boxes[row], record, rng)
                if spare is not None:
                    made.append((spare, int(labels[row])))
                    planted[fault].append((place, spare))
        all_boxes = np.concatenate([boxes[kept], np.array([box for box, _ in made], np.float32).reshape(-1, 4)])
        count = len(all_boxes)
        changed.append(
            dataclasses.replace(
                record,
                boxes=all_boxes.astype(np.float32),
                labels=np.concatenate([labels[kept], np.array([label for _, label in made], np.int64)]),
                difficult=np.zeros(count, bool),
                crowd=np.zeros(count, bool),
                areas=(all_boxes[:, 2:] - all_boxes[:, :2]).prod(axis=1).astype(np.float32),
            )
        )
    return changed, planted


def _moved(box: np.ndarray, record: Record, rng: np.random.Generator) -> np.ndarray:
    """Shifted by 35 % of both sides, inwards where there is no room."""
    sides = box[2:] - box[:2]
    sign = np.where(rng.random(2) < 0.5, -1, 1)
    size = np.array([record.width, record.height])
    low = box[:2] + sign * 0.35 * sides
    low = np.where((low < 0) | (low + sides > size), box[:2] - sign * 0.35 * sides, low)
    low = low.clip(0, size - sides)
    return np.concatenate([low, low + sides])


def _empty_place(box: np.ndarray, record: Record, rng: np.random.Generator) -> np.ndarray | None:
    sides = box[2:] - box[:2]
    for _ in range(50):
        low = rng.random(2) * (np.array([record.width, record.height]) - sides)
        there = np.concatenate([low, low + sides]).astype(np.float32)
        if iou_of_arrays(there[None], record.boxes).max() < 0.05:
            return there
    return None


def write_shapes(folder: Path, drawn: Dataset, records: Sequence[Record]) -> Path:
    """A COCO folder of drawn images, with the given labels."""
    images = folder.with_name(f"{folder.name}-images")
    images.mkdir(parents=True)
    filed = []
    for place, record in enumerate(records):
        path = images / f"shape-{place}x.png"
        path.write_bytes(cv2.imencode(".png", drawn.load(place).image[..., ::-1])[1].tobytes())
        filed.append(dataclasses.replace(record, path=str(path)))
    write_data_sets(
        folder, ["coco-data"], {"train": dataclasses.replace(drawn, records=tuple(filed))}, images, copy=True
    )
    return folder


def precision_and_recall(
    suspects: Sequence[Suspect], fault: Fault, planted: Sequence[tuple[str, np.ndarray]], first: int | None = None
) -> tuple[float, float]:
    """Of the first suspects of a kind (as many as were planted): the share that is planted, and of the planted found.

    `planted` are the file's name and the box.
    """
    own = [item for item in suspects if item.fault is fault][: len(planted) if first is None else first]
    taken: set[int] = set()
    for item in own:
        for place, (name, box) in enumerate(planted):
            same = Path(item.path).name == name and place not in taken
            if same and iou_of_arrays(np.array([item.box]), box[None].astype(np.float64))[0, 0] >= 0.5:
                taken.add(place)
                break
    return len(taken) / max(len(own), 1), len(taken) / max(len(planted), 1)
