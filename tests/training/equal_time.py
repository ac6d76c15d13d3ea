"""Trains SSDLite and SSD300 with VGG16 on photographs for the same CPU time, one after the other on one thread.

    python -m tests.training.equal_time DATA FOLDER [--epochs lite=11 imagenet=2 scratch=2] [--seeds 0] [--weights FILE]

DATA is trained on by its split `train`; its splits `val` and `test` are scored once each, after the last epoch. The
numbers of epochs are to be chosen such that the CPU minutes printed are equal.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

import ssd

SIDES: dict[str, dict[str, Any]] = {
    "lite": {
        "model.backbone": "mobilenet_v3_large",
        "model.backbone_weights": "none",
        "model.head": "lite",
        "model.input_size": 320,
    },
    "imagenet": {},
    "scratch": {"model.backbone_weights": "none"},
}
COMMON = {
    "data.train": "train",
    "data.val": "val",
    "data.bad_objects": "drop",
    "data.workers": 0,
    "train.device": "cpu",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", nargs="+", default=["lite=11", "imagenet=2", "scratch=2"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--weights", default="imagenet", help="of VGG16's convolutions")
    args = parser.parse_args()
    torch.set_num_threads(1)
    SIDES["imagenet"]["model.backbone_weights"] = args.weights
    for seed in args.seeds:
        for word in args.epochs:
            side, _, epochs = word.partition("=")
            length = {"train.epochs": int(epochs), "train.eval_every": int(epochs), "seed": seed}
            overrides = {**COMMON, **SIDES[side], **length}
            start = time.process_time()
            result = ssd.train(args.data, name=f"{side}-{seed}", output=args.folder, overrides=overrides)
            minutes = (time.process_time() - start) / 60
            assert result.last is not None
            row = {"side": side, "seed": seed, "steps": result.steps, "CPU minutes": round(minutes, 2)}
            for split in ("val", "test"):
                evaluation = ssd.evaluate(result.last, split=split)
                row[split] = {name: round(evaluation.metrics[name], 3) for name in ("AP", "AP50", "AP75")}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
