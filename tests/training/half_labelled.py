"""Measures AP where each of two folders hides one class: complete for its own class, and as if it were for both.

Compared with both folders fully labelled, which are twice as many labels, and with one of them, which are as many.

python -m tests.training.half_labelled FOLDER SEED [SEED ...]
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

import ssd
from tests.data.made import write_text
from tests.training.rare import SMALL, write

CLASSES = ("disc", "square")


def write_folder(root: Path, train: int, val: int, seed: int, hidden: str | None = None) -> Path:
    """Plain images with one or two objects; those of the class `hidden` are drawn, but not annotated."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        names = [f"{split}_{index}x" for index in range(count)]
        for name in names:
            write(root, name, rng, list(rng.choice(CLASSES, 2)))
            if hidden is not None:
                path = root / "Annotations" / f"{name}.xml"
                write_text(path, re.sub(rf"<object><name>{hidden}</name>.*?</object>", "", path.read_text()))
        write_text(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in names))
    return root


def write_folders(root: Path, train: int = 120) -> None:
    """The folders a and b with all objects, a-half and b-half with the same images and one class, and test."""
    for seed, (name, hidden) in enumerate((("a", "square"), ("b", "disc"))):
        write_folder(root / name, train, 10, seed)
        write_folder(root / f"{name}-half", train, 10, seed, hidden)
    write_folder(root / "test", 1, 120, 2)


def settings(root: Path) -> dict[str, list[dict[str, Any]]]:
    """`data.folders` of the four ways."""
    return {
        "all labelled": [{"path": str(root / name)} for name in ("a", "b")],
        "as many labels": [{"path": str(root / "a")}],
        "masked": [{"path": str(root / f"{name}-half")} for name in ("a", "b")],
        "unmasked": [{"path": str(root / f"{name}-half"), "complete_for": list(CLASSES)} for name in ("a", "b")],
    }


def measure(root: Path, way: str, seed: int, epochs: int = 16) -> dict[str, float]:
    """AP and AP50 on fully labelled images, of all detections and of those with a score of 0.5 or more."""
    folders = settings(root)[way]
    overrides = {**SMALL, "train.epochs": epochs * 2 // len(folders), "seed": seed, "data.folders": folders}
    result = ssd.train(name=f"{way}-{seed}", output=root / "runs", overrides=overrides)
    assert result.last is not None
    found = {}
    for threshold, name in ((None, ""), (0.5, " at 0.5")):
        data = {"split": "val", "device": "cpu", "score_threshold": threshold}
        metrics = ssd.evaluate(result.last, root / "test", **data).metrics
        found |= {f"{figure}{name}": round(metrics[figure], 3) for figure in ("AP", "AP50")}
    return found


def main(root: Path, seeds: list[int]) -> None:
    if not (root / "test").exists():
        write_folders(root)
    for seed in seeds:
        for way in settings(root):
            print(json.dumps({"labels": way, "seed": seed, **measure(root, way, seed)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]])
