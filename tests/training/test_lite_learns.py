"""SSDLite learns: a handful of images by heart, in a few dozen steps."""

from pathlib import Path

import pytest

from ssd.experiment import config_file as configs
from ssd.report.run_log import read_rows
from ssd.training import trainer


@pytest.mark.slow
def test_ssdlite_learns_eight_images_by_heart(tmp_path: Path) -> None:
    words = (
        *("model.head=lite", "model.backbone=mobilenet_v3_small", "model.width=1", "data.shapes=[8,4,96]"),
        *("train.epochs=60", "train.eval_every=60", "train.log_every=1", "train.precision=fp32", "train.device=cpu"),
        *("optim.lr=0.02", "optim.warmup=10", "augment.mirror=false", "data.workers=0", f"output={tmp_path}"),
    )
    outcome = trainer.train(configs.load(configs.builtin("demo"), words), progress=False)
    losses = [row["loss"] for row in read_rows(outcome.folder.path / "train.jsonl")]
    assert losses[0] > 5
    assert max(losses[-5:]) < 1
