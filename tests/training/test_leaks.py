"""What a division costs or hides: AP on frames of the same videos, on other videos of the folder, and on fresh ones."""

from pathlib import Path
from typing import Any

import pytest

import ssd
from tests.data.videos import write_videos

SMALL: dict[str, Any] = {
    "model.backbone": "vgg11_bn",
    "model.backbone_weights": "none",
    "model.width": 0.2,
    "model.input_size": 64,
    "model.extras_norm": "batch",
    "model.box_table": "voc",
    "augment.photometric": False,  # nothing that keeps the network from learning its scenes by heart
    "augment.expand": 1.0,
    "augment.crop": 1.0,
    "augment.mirror": False,
    "optim.lr": 0.01,
    "optim.ema": 0.98,
    "optim.warmup": 30,
    "train.eval_every": 15,
    "train.precision": "fp32",
    "data.workers": 0,
    "data.val_fraction": 0.25,
}


@pytest.mark.slow
def test_the_figure_of_the_group_division_is_near_that_of_fresh_videos(tmp_path: Path) -> None:
    folder, fresh = tmp_path / "videos", tmp_path / "fresh"
    write_videos(folder, 16, size=64)
    write_videos(fresh, 60, frames=2, size=64, seed=1)
    found: dict[str, tuple[float, float]] = {}
    for group in ("copies", "auto"):
        overrides = {**SMALL, "data.group": group}
        result = ssd.train(folder, name=group, output=tmp_path / "runs", epochs=15, overrides=overrides, device="cpu")
        assert result.last is not None
        own = ssd.evaluate(result.last, device="cpu").metrics["AP"]
        found[group] = own, ssd.evaluate(result.last, fresh, split="all", device="cpu").metrics["AP"]
    print(found)  # group -> AP of its own validation images, AP of fresh videos
    gap = {group: own - other for group, (own, other) in found.items()}
    assert gap["copies"] > 0.1
    assert abs(gap["auto"]) < 0.5 * gap["copies"]
