"""Measures what `ssd review` finds of planted wrong labels in photographs.

    python -m tests.api.wrong_cells BCCD FOLDER [--folds 2] [--epochs 16]

5 % of all boxes are removed, 5 % get another class, 5 % are shifted, and as many are made up.
"""

import argparse
import dataclasses
from pathlib import Path

import ssd
from ssd.data.dataset import open_dataset
from ssd.data.labels.data_sets import write_data_sets
from ssd.evaluation.causes.suspects import Fault
from tests.api.corrupted import corrupt, precision_and_recall

SMALL = {
    "model.backbone": "vgg11_bn",
    "model.backbone_weights": "none",
    "model.width": 0.25,
    "model.input_size": 160,
    "model.extras_norm": "batch",
    "optim.lr": 0.01,
    "train.eval_every": 16,
    "data.workers": 0,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bccd", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=16)
    args = parser.parse_args()
    known = [open_dataset(args.bccd, split, bad_objects="drop") for split in ("train", "val", "test")]
    records, planted = corrupt([record for data in known for record in data.records], len(known[0].class_names), 0.05)
    data = args.folder / "data"
    if not data.exists():
        whole = dataclasses.replace(known[0], records=tuple(records))
        write_data_sets(data, ["coco-data"], {"train": whole}, args.bccd, copy=True)
    result = ssd.review(
        data, folds=args.folds, output=args.folder / "review", epochs=args.epochs, overrides=SMALL, progress=False
    )
    print(result.to_text(0))
    objects = sum(len(record.labels) for record in records)
    for fault in Fault:
        named = [(Path(records[place].path).name, box) for place, box in planted[fault]]
        for part in (4, 2, 1):
            first = len(named) // part
            precision, recall = precision_and_recall(result.suspects, fault, named, first)
            print(f"{fault.value}: {len(named)} planted; first {first}: {precision:.2f}, {recall:.2f}")
        print(f"  random order {len(named) / objects:.3f}")


if __name__ == "__main__":
    main()
