"""Milliseconds per image of each stage, from file to detections."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ssd.data.dataset import Dataset
from ssd.inference.detector import Detector
from ssd.report.blocks import Block, Cell, Row, Section, Table
from ssd.tiles import Window

_TIMED, _WARM_UP = 10, 2  # images
_STAGES = ("read and decode", "resize and normalise", "network", "post-processing")


def speed_section(summary: Mapping[str, Any], stages: Mapping[str, float]) -> Section:
    """The stages side by side, and the images per second of the evaluation."""
    total = sum(stages.values())
    rows: list[Row] = [
        [name, f"{milliseconds:.1f}", Cell(f"{milliseconds / total:.0%}", bar=milliseconds / total)]
        for name, milliseconds in stages.items()
    ]
    rows.append(["together", f"{total:.1f}", ""])
    intro = (
        f"The whole evaluation went through {summary['images']} images in {summary['seconds']:.1f} s "
        f"({summary['images_per_second']:.1f} images/s, decoding in threads beside the network). The stages were timed "
        "afterwards, one after another, on a few of the images."
    )
    blocks: list[Block] = [Table(["stage", "ms an image", "share"], rows, total=True)] if stages else []
    return Section("speed", "Speed", blocks, intro)


@torch.inference_mode()
def time_stages(
    detector: Detector, dataset: Dataset, plan: Callable[[int, int], list[Window]] | None = None
) -> dict[str, float]:
    """Milliseconds per image of each stage, one image at a time: the median over a few images.

    With the `plan` of `plan_of` an image is searched window by window.
    """
    rows = []
    for place in range(min(_WARM_UP + _TIMED, len(dataset))):
        clock = [time.perf_counter()]
        image = dataset.load(place).image
        clock.append(time.perf_counter())
        shown = [] if plan is None else plan(*image.shape[:2])
        parts = [image[window.top : window.bottom, window.left : window.right] for window in shown] or [image]
        inputs = [detector.preprocess([part]) for part in parts]
        clock.append(time.perf_counter())
        predictions = [detector.predict(part) for part in inputs]
        if detector.device.startswith("cuda"):
            torch.cuda.synchronize(detector.device)
        clock.append(time.perf_counter())
        for part in predictions:
            detector.postprocess(part).counts.tolist()  # waits for a GPU
        clock.append(time.perf_counter())
        rows.append(np.diff(clock))
    kept = rows[_WARM_UP:] or rows
    return dict(zip(_STAGES, (1000 * np.median(kept, axis=0)).tolist(), strict=True)) if kept else {}
