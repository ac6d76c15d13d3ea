"""Large synthetic COCO sets, and what the start of a training on them takes.

    python -m ssd.benchmark.scale make FOLDER coco         # 118,000 images, 860,000 boxes; or openimages
    python -m ssd.benchmark.scale measure FOLDER           # the first start and the second, with their memory

All images are links to copies of one JPEG, since only the annotations differ in size.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ssd.data.fingerprint import fingerprint
from ssd.data.index import RecordIndex
from ssd.experiment import data as experiment
from ssd.experiment.config_file import load
from ssd.experiment.starting_settings import build_settings
from ssd.settings import Preprocessing

SIZES = {  # images and boxes for training, images for validation
    "coco": (118_000, 860_000, 5_000),
    "openimages": (1_740_000, 14_600_000, 41_000),
    "tiny": (200, 1_500, 20),
}
_CLASSES = {"coco": 80, "openimages": 500, "tiny": 80}
_LINKS = 30_000  # to one file; some file systems allow 65,000
_WIDTH, _HEIGHT = 640, 480
_WORKERS = 2
_SETTLED = 5.0  # seconds in which the workers fill their queues


def make(folder: Path, size: str) -> None:
    """Write a set with its validation split."""
    images, boxes, val = SIZES[size]
    for split, count, number in (("train", images, boxes), ("val", val, val * boxes // images)):
        _link_images(folder / split, count)
        path = folder / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        with path.open("w") as file:
            file.writelines(_content(count, number, _CLASSES[size]))


def _link_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for start in range(0, count, _LINKS):
        first = folder / f"{start + 1:012}.jpg"
        Image.new("RGB", (_WIDTH, _HEIGHT), (90, 120, 150)).save(first)
        for number in range(start + 2, min(start + _LINKS, count) + 1):
            os.link(first, folder / f"{number:012}.jpg")


def _content(images: int, boxes: int, classes: int) -> Iterator[str]:
    """The text of an annotation file with objects at random, in parts."""
    yield '{"info": {}, "images": [\n'
    for number in range(1, images + 1):
        entry = {"id": number, "file_name": f"{number:012}.jpg", "width": _WIDTH, "height": _HEIGHT, "license": 1}
        yield json.dumps(entry) + (",\n" if number < images else '\n], "annotations": [\n')
    generator = np.random.default_rng(0)
    at_once = 100_000
    for start in range(0, boxes, at_once):
        count = min(at_once, boxes - start)
        owners = generator.integers(1, images + 1, count).tolist()
        labels = generator.integers(1, classes + 1, count).tolist()
        corners = generator.uniform((0, 0, 8, 8), (400, 300, 200, 150), (count, 4)).round(2).tolist()
        rows = zip(range(start + 1, start + count + 1), owners, labels, corners, strict=True)
        yield from (
            f'{{"id": {number}, "image_id": {owner}, "category_id": {label}, "bbox": {box}, '
            f'"area": {box[2] * box[3]:.4f}, "iscrowd": 0}}' + (",\n" if number < boxes else "\n")
            for number, owner, label, box in rows
        )
    names = [{"id": label, "name": f"class {label}"} for label in range(1, classes + 1)]
    yield f'], "categories": {json.dumps(names)}}}'


def measure(folder: Path) -> None:
    """Start on a set twice, with a cache folder of its own, and print what each start took."""
    with tempfile.TemporaryDirectory() as home:
        tiny = Path(home, "tiny")
        make(tiny, "tiny")
        base = _started(tiny, home)
        for name in ("first start", "later start"):
            facts = _started(folder, home)
            more = max(0.0, facts["worker_mb"] - base["worker_mb"])
            sys.stdout.write(
                f"{name}: {facts['seconds']:.1f} s to the first batch request ({facts['cpu_seconds']:.1f} s of CPU), "
                f"peak {facts['peak_mb']:,.0f} MB, index {facts['index_mb']:,.0f} MB, "
                f"each worker {more:.1f} MB more than on {SIZES['tiny'][0]} images\n"
            )


def _started(folder: Path, home: str) -> dict[str, float]:
    command = [sys.executable, "-m", "ssd.benchmark.scale", "start", str(folder)]
    done = subprocess.run(command, env={**os.environ, "SSD_HOME": home}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return facts


def start(folder: Path) -> dict[str, float]:
    """Do with the data what a training does before its first step, then take one batch."""
    config = load(None, [("data.folder", str(folder)), ("data.workers", _WORKERS), ("train.batch_size", 8)])
    began, cpu_began = time.perf_counter(), time.process_time()
    train_set = experiment.open_split(config, "train")
    val_set = experiment.open_split(config, "val", class_names=train_set.class_names)
    experiment.report_folder(config, train_set, val_set)
    experiment.metric(config, val_set)
    experiment.check_images(train_set, val_set)
    fingerprint(train_set.records)
    settings = build_settings(config, train_set.class_names, Preprocessing())
    with contextlib.closing(experiment.train_loader(config, train_set, settings)) as loader:
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        next(loader.epoch(0))
        time.sleep(_SETTLED)
        workers = [_private_mb(child.pid) for child in multiprocessing.active_children() if child.pid]
    assert isinstance(train_set.records, RecordIndex)
    arrays = train_set.records.columns.arrays().values()
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "index_mb": sum(array.nbytes for array in arrays) / 1e6,
        "worker_mb": max(workers),
    }


def _private_mb(process: int) -> float:
    """Memory that a process has written and shares with no other; pages of a mapped file are the system's."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) / 1024


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "measure", "start"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", nargs="?", choices=SIZES, default="coco")
    args = parser.parse_args()
    if args.what == "make":
        make(args.folder, args.size)
    elif args.what == "measure":
        measure(args.folder)
    else:
        sys.stdout.write(json.dumps(start(args.folder)) + "\n")


if __name__ == "__main__":
    main()
