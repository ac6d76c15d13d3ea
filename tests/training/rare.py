"""Measures AP of a class 30 times rarer than the others, in plain drawn images, with and without what is for it.

python -m tests.training.rare FOLDER SEED [SEED ...]
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

import ssd
from tests.data.made import write_text, xml, xml_object

CLASSES = ("disc", "square", "ring")
RARE = "ring"  # a disc with a hole
SIDE = 64
SETTINGS = {
    "off": {"train.epochs": 9},  # about as many steps as with repetitions
    "balance": {"data.balance": 1.0, "train.epochs": 8},
    "weights": {"loss.class_weights": {RARE: 5.0}, "train.epochs": 9},
}
SMALL = {
    "model.backbone": "vgg11_bn",
    "model.backbone_weights": "none",
    "model.width": 0.15,
    "model.input_size": SIDE,
    "model.extras_norm": "batch",
    "model.box_table": "voc",
    "augment.photometric": False,
    "augment.expand": 1.0,
    "augment.crop": 1.0,
    "optim.lr": 0.01,
    "optim.ema": 0.95,
    "optim.warmup": 20,
    "train.eval_every": 30,
    "train.precision": "fp32",
    "train.device": "cpu",
    "data.workers": 0,
}


def write_folder(root: Path, images: int = 240) -> Path:
    """`images` to train on, of which one in 30 has a ring and the others two objects; 120 to evaluate on."""
    for split, count, every in (("train", images, 30), ("val", 120, 2)):
        rng = np.random.default_rng(len(split))
        names = [f"{split}_{index}x" for index in range(count)]
        for index, name in enumerate(names):
            kinds = list(rng.choice(CLASSES[:2], 2))
            if index % every == 0:
                kinds[0] = RARE
            write(root, name, rng, kinds)
        write_text(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in names))
    return root


def write(root: Path, name: str, rng: np.random.Generator, kinds: list[str]) -> None:
    """One image with an object in its left half and one in its right half."""
    image = np.full((SIDE, SIDE, 3), rng.integers(60, 120), np.uint8)
    objects = []
    for half, kind in enumerate(kinds):
        radius = int(rng.integers(8, 15))
        x, y = int(rng.integers(radius, 32 - radius + 1)) + 32 * half, int(rng.integers(radius, SIDE - radius))
        colour = [int(value) for value in rng.integers(150, 255, 3)]
        if kind == "square":
            cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), colour, -1)
        else:
            cv2.circle(image, (x, y), radius, colour, -1 if kind == "disc" else 4)
        objects.append(xml_object(kind, (x - radius + 1, y - radius + 1, x + radius + 1, y + radius + 1)))
    noisy = image + rng.normal(0, 8, image.shape)
    path = root / "JPEGImages" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", noisy.clip(0, 255).astype(np.uint8))[1].tobytes())
    write_text(root / "Annotations" / f"{name}.xml", xml(*objects, size=(SIDE, SIDE)))


def main(folder: Path, seeds: list[int]) -> None:
    data = folder / "data"
    if not data.exists():
        write_folder(data)
    for name, changes in SETTINGS.items():
        for seed in seeds:
            overrides = {**SMALL, **changes, "seed": seed}
            result = ssd.train(data, name=f"{name}-{seed}", output=folder / "runs", overrides=overrides)
            assert result.last is not None
            evaluation = ssd.evaluate(result.last, device="cpu")
            by_class = {kind: round(own["AP"], 3) for kind, own in evaluation.metrics["per_class"].items()}
            print(json.dumps({"setting": name, "seed": seed, "steps": result.steps, "AP": by_class}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]])
