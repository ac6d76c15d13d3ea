"""Measures AP of a class 30 times rarer than the others, in drawn images, with and without what repeats or weights it.

python -m tests.training.rare FOLDER SEED [SEED ...]
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

import ssd
from ssd.data.dataset import Dataset
from ssd.data.shapes.dataset import shapes
from tests.data.made import write_text, xml, xml_object

RARE = "star"
SETTINGS = {
    "off": {"train.epochs": 18},  # about as many steps as with repetitions
    "balance": {"data.balance": 1.0, "train.epochs": 16},
    "weights": {"loss.class_weights": {RARE: 5.0}, "train.epochs": 18},
}
SMALL = {
    "model.backbone": "vgg11_bn",
    "model.backbone_weights": "none",
    "model.width": 0.12,
    "model.input_size": 64,
    "model.extras_norm": "batch",
    "train.eval_every": 30,
    "train.precision": "fp32",
    "train.device": "cpu",
    "data.workers": 0,
}


def write_folder(root: Path, images: int = 300) -> Path:
    """`images` to train on with one star to 30 objects of another class, and 160 to evaluate on with all four alike."""
    train = shapes("train", 40 * images, 64)
    star = train.class_names.index(RARE)
    with_star = [index for index, record in enumerate(train.records) if star in record.labels]
    without = [index for index, record in enumerate(train.records) if star not in record.labels]
    objects = sum(len(train.records[index].labels) for index in without[:images]) / 3
    stars: list[int] = []
    for index in with_star:
        if sum(int((train.records[i].labels == star).sum()) for i in stars) >= objects / 30:
            break
        stars.append(index)
    write(root, train, [*stars, *without[: images - len(stars)]], "train")
    write(root, shapes("val", 160, 64), range(160), "val")
    return root


def write(root: Path, dataset: Dataset, chosen: "list[int] | range", split: str) -> None:
    for index in chosen:
        sample, name = dataset.load(index), f"{split}_{index}x"
        path = root / "JPEGImages" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(sample.image[..., ::-1]))[1].tobytes())
        pairs = zip(sample.labels, sample.boxes, strict=True)
        objects = [xml_object(dataset.class_names[label], box + 1) for label, box in pairs]
        write_text(root / "Annotations" / f"{name}.xml", xml(*objects, size=(64, 64)))
    lines = "".join(f"{split}_{index}x\n" for index in chosen)
    write_text(root / "ImageSets" / "Main" / f"{split}.txt", lines)


def main(folder: Path, seeds: list[int]) -> None:
    data = folder / "data"
    if not data.exists():
        write_folder(data)
    for seed in seeds:
        for name, changes in SETTINGS.items():
            overrides = {**SMALL, **changes, "seed": seed}
            result = ssd.train(data, name=f"{name}-{seed}", output=folder / "runs", overrides=overrides)
            evaluation = ssd.evaluate(result.last, device="cpu")
            by_class = {kind: round(own["AP"], 3) for kind, own in evaluation.metrics["per_class"].items()}
            print(json.dumps({"setting": name, "seed": seed, "steps": result.steps, "AP": by_class}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]])
