"""Trains torchvision's SSD300 by the recipe of its references, and evaluates it with this package.

    python -m ssd.benchmark.train_torchvision --data VOC_FOLDER --steps 2000 --lr 0.001

It is the baseline in RESULTS.md: network, loss, augmentation and post-processing are torchvision's; data sets are read
and detections evaluated by this package.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ssd.benchmark.torchvision_baseline import as_float
from ssd.benchmark.torchvision_training import IMAGENET, Recipe, new_model, train, trains_in_bf16
from ssd.data.dataset import Dataset, open_dataset
from ssd.errors import SSDError, at_least
from ssd.evaluation.evaluate import Evaluation, evaluate
from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.metrics.voc import VocMetric
from ssd.evaluation.text import summary_line
from ssd.settings import Postprocessing
from ssd.structures import BatchDetections
from ssd.system.environment import environment
from ssd.system.files import refuse_existing, write_json
from ssd.system.malloc import keep_freed_memory


class TorchvisionDetector:
    """A torchvision detector with the interface of `ssd.evaluation.evaluate`."""

    def __init__(self, model: nn.Module, class_names: Sequence[str], device: torch.device) -> None:
        self.model = model.to(device).eval()
        self.class_names = tuple(class_names)
        self.device = str(device)

    def preprocess(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        """Images as floats from 0 to 1, (3, H, W); resizing is part of the model."""
        return [as_float(torch.from_numpy(image).permute(2, 0, 1).contiguous()) for image in images]

    def predict(self, images: list[Tensor]) -> list[tuple[dict[str, Tensor], tuple[int, int]]]:
        """Detections of each image in pixels, and its height and width."""
        outputs = self.model([image.to(self.device) for image in images])
        return [(output, (image.shape[1], image.shape[2])) for output, image in zip(outputs, images, strict=True)]

    def postprocess(
        self, predictions: list[tuple[dict[str, Tensor], tuple[int, int]]], rules: Postprocessing | None = None
    ) -> BatchDetections:
        """The detections with boxes as fractions of the image and labels from 0."""
        assert rules is None, "the model has its own"
        counts = [len(output["scores"]) for output, _ in predictions]
        shape = len(predictions), max(counts, default=0)
        boxes, scores, labels = torch.zeros(*shape, 4), torch.zeros(shape), torch.zeros(shape, dtype=torch.int64)
        for row, (output, (height, width)) in enumerate(predictions):
            kept = slice(0, counts[row])
            boxes[row, kept] = output["boxes"].cpu() / torch.tensor([width, height, width, height])
            scores[row, kept] = output["scores"].cpu()
            labels[row, kept] = output["labels"].cpu() - 1
        return BatchDetections(boxes, scores, labels, torch.tensor(counts))


def score(model: nn.Module, dataset: Dataset, class_names: Sequence[str], device: torch.device) -> Evaluation:
    """Evaluate by the COCO and the VOC rules with this package."""
    detector = TorchvisionDetector(model, class_names, device)
    coco = CocoMetric(dataset.records, dataset.class_names, dataset.category_ids)
    evaluation = evaluate(detector, dataset, coco, VocMetric(dataset.records, dataset.class_names), progress=False)
    assert evaluation is not None  # no `stop` was passed
    return evaluation


def parser() -> argparse.ArgumentParser:
    """Arguments of the script."""
    p = argparse.ArgumentParser(
        prog="python -m ssd.benchmark.train_torchvision",
        description="Train torchvision's SSD300 on a data set and score it with this package's evaluation.",
    )
    p.add_argument(
        "--data", required=True, metavar="FOLDER", help="a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...)"
    )
    p.add_argument("--train-split", default="train", metavar="NAME", help="default: %(default)s")
    p.add_argument("--split", default="val", metavar="NAME", help="the split that is scored, default: %(default)s")
    p.add_argument("--steps", type=int, required=True, metavar="N")
    p.add_argument("--batch-size", type=int, default=Recipe.batch_size, metavar="N", help="default: %(default)s")
    p.add_argument("--lr", type=float, default=Recipe.lr, help="default: %(default)s")
    p.add_argument("--backbone", default=IMAGENET, metavar="FILE", help="VGG16's features.*; imagenet (default); none")
    p.add_argument("--workers", type=int, default=Recipe.workers, metavar="N", help="default: %(default)s")
    p.add_argument("--seed", type=int, default=Recipe.seed, help="default: %(default)s")
    p.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")
    p.add_argument("--out", type=Path, metavar="FILE.json", help="write figures, recipe and versions to this new file")
    return p


def main(argv: list[str] | None = None) -> int:
    """Train, evaluate, print; the exit code is 2 for a user's mistake."""
    args = parser().parse_args(argv)
    keep_freed_memory()
    try:
        _run(args)
    except SSDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(args: argparse.Namespace) -> None:
    at_least(1, steps=args.steps, batch_size=args.batch_size)
    refuse_existing(args.out, force=False)
    device = torch.device(args.device)
    recipe = Recipe(
        args.steps,
        args.batch_size,
        args.lr,
        autocast=trains_in_bf16(device),
        workers=args.workers,
        seed=args.seed,
    )
    data = open_dataset(args.data, args.train_split, bad_objects="drop")
    held_out = open_dataset(args.data, args.split, classes=data.class_names, bad_objects="drop")
    torch.manual_seed(recipe.seed)
    model = new_model(len(data.class_names), args.backbone)
    seconds = train(model, data, recipe, device, functools.partial(log_step, every=max(1, recipe.steps // 50)))
    evaluation = score(model, held_out, data.class_names, device)
    for name, figures in evaluation.by_metric.items():
        print(summary_line(name, figures))
    print(
        f"{recipe.steps} steps in {seconds:.0f} s; {held_out.name}, split {held_out.split}: {evaluation.images} images"
    )
    if args.out is not None:
        facts = {"recipe": asdict(recipe), "seconds": seconds, **evaluation.by_metric, **environment()}
        write_json(args.out, facts)
        print(f"figures: {args.out}")


def log_step(step: int, loss: float, *, every: int) -> None:
    """Print the loss of every so many steps."""
    if step % every == 0:
        print(f"step {step} loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
