"""Thresholds chosen on some images and judged on others, beside 0.5 for all classes.

    python -m tests.evaluation.own_thresholds RUN [--val 400] [--test 4000]

RUN is trained on drawn shapes. Intervals are percentiles over 1,000 resamples of the images to be judged on.
"""

import argparse
from pathlib import Path

import numpy as np

from ssd.api.own_thresholds import choose_thresholds
from ssd.data.shapes.dataset import shapes
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.metrics.error_breakdown import Kind, judge
from ssd.evaluation.metrics.thresholds import Rule
from ssd.structures import ImageDetections, Record
from tests.evaluation.coverage import LEAST, detect
from tests.evaluation.metrics.made import hand_in


def counts(records: list[Record], found: list[ImageDetections], least: np.ndarray) -> np.ndarray:
    """For each image and class: right ones, kept ones, objects."""
    table = np.zeros((len(records), len(least), 3))
    for row, record, one in zip(table, records, found, strict=True):
        kept = one.subset(one.scores > least[one.labels])
        judged = judge(record, kept)
        np.add.at(row[:, 0], judged.labels[judged.kinds == Kind.CORRECT], 1)
        np.add.at(row[:, 1], judged.labels[judged.kinds != Kind.SPARED], 1)
        np.add.at(row[:, 2], record.labels, 1)
    return table


def figures(table: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1, each the mean over the classes."""
    right, kept, objects = np.moveaxis(np.einsum("ri,ick->rck", weights, table), 2, 0)
    f1 = 2 * right / np.maximum(kept + objects, 1)
    parts = {"precision": right / np.maximum(kept, 1), "recall": right / np.maximum(objects, 1), "F1": f1}
    return {name: values.mean(axis=1) for name, values in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    for name, value in (("val", 400), ("test", 4000), ("images", 20_000), ("side", 96)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    data, found = shapes("many", args.val + args.test, args.side), detect(args.run, args.images, args.side)
    names, records = data.class_names, list(data.records)
    details = Details(records[: args.val], names)
    hand_in(details, {item.image_id: one for item, one in zip(records[: args.val], found, strict=False)})
    tested = records[args.val :], found[args.val : args.val + args.test]
    drawn = np.random.default_rng(0).multinomial(args.test, np.full(args.test, 1 / args.test), size=1000)
    weights = np.concatenate([np.ones((1, args.test)), drawn])
    usual = figures(counts(*tested, np.full(len(names), 0.5, np.float32)), weights)
    for text in ("0.5", "f1", "precision=0.8", "precision=0.9", "recall=0.5"):
        least = np.full(len(names), 0.5, np.float32)
        if text != "0.5":
            chosen = choose_thresholds(details, Rule.parse(text), names, LEAST)
            least = np.array([one.value for one in chosen], np.float32)
        print(text, dict(zip(names, least.round(3).tolist(), strict=True)))
        for name, values in figures(counts(*tested, least), weights).items():
            ends, change = np.quantile(values[1:], [0.025, 0.975]), values - usual[name]
            gain = np.quantile(change[1:], [0.025, 0.975])
            print(f"  {name} {values[0]:.3f} ({ends[0]:.3f} to {ends[1]:.3f}), {change[0]:+.3f} {gain.round(3)}")


if __name__ == "__main__":
    main()
