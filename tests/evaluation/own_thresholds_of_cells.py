"""Thresholds chosen on BCCD's `val` and judged on `test`, beside 0.5 for all classes.

    python -m tests.evaluation.own_thresholds_of_cells RUN BCCD

Intervals are percentiles over 1,000 resamples of the images to be judged on.
"""

import sys
from pathlib import Path

import numpy as np

import ssd
from ssd.api.own_thresholds import choose_thresholds
from ssd.data.dataset import open_dataset
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.metrics.thresholds import Rule
from ssd.structures import ImageDetections
from tests.evaluation.metrics.made import hand_in
from tests.evaluation.own_thresholds import counts, figures

LEAST = 0.01


def main(run: Path, bccd: Path) -> None:
    detector = ssd.load(run, device="cpu", backend="torch")
    names, found, records = detector.class_names, {}, {}
    for split in ("val", "test"):
        data = open_dataset(bccd, split, classes=names, bad_objects="drop")
        paths = [record.path for record in data.records]
        found[split] = [
            ImageDetections(one.boxes, one.scores, one.labels)
            for one in detector.detect_batch(paths, score_threshold=LEAST)
        ]
        records[split] = list(data.records)
    details = Details(records["val"], names)
    hand_in(details, {record.image_id: one for record, one in zip(records["val"], found["val"], strict=True)})
    count = len(records["test"])
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=1000)
    weights = np.concatenate([np.ones((1, count)), drawn])
    usual = figures(counts(records["test"], found["test"], np.full(len(names), 0.5, np.float32)), weights)
    for text in ("0.5", "f1", "precision=0.9", "recall=0.9"):
        least = np.full(len(names), 0.5, np.float32)
        if text != "0.5":
            chosen = choose_thresholds(details, Rule.parse(text), names, LEAST)
            least = np.array([one.value for one in chosen], np.float32)
        print(text, dict(zip(names, least.round(3).tolist(), strict=True)))
        for name, values in figures(counts(records["test"], found["test"], least), weights).items():
            ends, change = np.quantile(values[1:], [0.025, 0.975]), values - usual[name]
            gain = np.quantile(change[1:], [0.025, 0.975])
            print(f"  {name} {values[0]:.3f} ({ends[0]:.3f} to {ends[1]:.3f}), {change[0]:+.3f} {gain.round(3)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
