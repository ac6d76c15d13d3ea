"""Measures AP of platelets with a tenth of the images that show them, on photographs, with and without `data.balance`.

    python -m tests.training.rare_cells BCCD FOLDER [--settings off balance weights] [--seeds 0 1 2]

In nine of ten training images with platelets these are painted over by their surroundings, so that none is left that
is not annotated. The validation images stay as they are. Every setting trains for about as many steps.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import ssd
from ssd.data.dataset import Dataset, open_dataset
from ssd.data.labels.data_sets import write_data_sets
from ssd.structures import Record
from tests.api.wrong_cells import SMALL

RARE = "Platelets"
SETTINGS: dict[str, dict[str, Any]] = {
    "off": {"train.epochs": 16},
    "balance": {"data.balance": 1.0, "train.epochs": 13},  # its epochs are longer
    "weights": {"loss.class_weights": {RARE: 5.0}, "train.epochs": 16},
}


def thinned(data: Dataset, images: Path, every: int = 10) -> list[Record]:
    """The records with the rare class in one of `every` images that have it, and the others painted over."""
    images.mkdir(parents=True)
    label, seen, records = data.class_names.index(RARE), 0, []
    for record in data.records:
        rare = record.labels == label
        seen += bool(rare.any())
        if rare.any() and seen % every != 1:
            records.append(_without(record, rare, images))
        else:
            path = shutil.copyfile(record.path, images / Path(record.path).name)
            records.append(dataclasses.replace(record, path=str(path)))
    return records


def _without(record: Record, rare: np.ndarray, images: Path) -> Record:
    image = cv2.imread(record.path)
    mask = np.zeros(image.shape[:2], np.uint8)
    for x1, y1, x2, y2 in record.boxes[rare].round().astype(int).tolist():
        mask[max(y1 - 4, 0) : y2 + 4, max(x1 - 4, 0) : x2 + 4] = 255
    path = images / f"{Path(record.path).stem}.png"
    cv2.imwrite(str(path), cv2.inpaint(image, mask, 5, cv2.INPAINT_TELEA))
    columns = ("boxes", "labels", "difficult", "crowd", "areas")
    return dataclasses.replace(record, path=str(path), **{name: getattr(record, name)[~rare] for name in columns})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bccd", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    data = args.folder / "data"
    if not data.exists():
        whole = open_dataset(args.bccd, "train", bad_objects="drop")
        records = thinned(whole, args.folder / "painted")
        counts = [int((record.labels == whole.class_names.index(RARE)).sum()) for record in records]
        print(f"{RARE}: {sum(counts)} in {np.count_nonzero(counts)} of {len(records)} images", flush=True)
        painted = dataclasses.replace(whole, records=tuple(records))
        write_data_sets(data, ["coco-data"], {"train": painted}, args.folder / "painted", copy=True)
    for seed in args.seeds:
        for name in args.settings:
            overrides = {**SMALL, **SETTINGS[name], "seed": seed}
            result = ssd.train(data, name=f"{name}-{seed}", output=args.folder / "runs", overrides=overrides)
            assert result.last is not None
            evaluation = ssd.evaluate(result.last, args.bccd, split="val", overrides={"data.bad_objects": "drop"})
            by_class = {
                kind: [round(own["AP"], 3), round(own["AP50"], 3)]
                for kind, own in evaluation.metrics["per_class"].items()
            }
            print(json.dumps({"setting": name, "seed": seed, "steps": result.steps, "AP, AP50": by_class}), flush=True)


if __name__ == "__main__":
    main()
