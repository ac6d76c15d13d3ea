"""The accuracy suite: trains and scores this package and torchvision's SSD300 on data sets, row by row.

    nohup python -m ssd.benchmark.accuracy bccd=FOLDER cards=FOLDER --split val --out accuracy &
    python -m ssd.benchmark.accuracy bccd=FOLDER cards=FOLDER --split test --out accuracy

The same command goes on where it was stopped: finished rows (rows.jsonl in the output folder) are skipped, and an
unfinished training is resumed. Both sides train for the same number of steps, on the same images, from the same
backbone. Defaults are chosen with `--split val`; `--split test` scores each network once.
"""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ssd.benchmark.accuracy_rows import OURS, PEER, Rows, Training, best_lr, parse_images
from ssd.benchmark.accuracy_sets import ImageSet, Phase, image_set, parse_sets, write_tiny_set
from ssd.benchmark.accuracy_table import table
from ssd.benchmark.accuracy_trainers import TRAINERS, Machine, StoppedError, Trainer, remove_states
from ssd.benchmark.torchvision_training import IMAGENET, RANDOM
from ssd.errors import ArgumentError, SSDError, at_least, printable
from ssd.system.environment import environment
from ssd.system.malloc import keep_freed_memory
from ssd.training.run_lock import lock_folder, owner_of

_TINY = ["--epochs", "1", "--batch-size", "2", "--seeds", "0", "--images", "all", "--backbone", RANDOM]
_TINY_CHANGES = ("model.input_size=64", "model.width=0.1")


def parser() -> argparse.ArgumentParser:
    """Arguments of the script."""
    p = argparse.ArgumentParser(
        prog="python -m ssd.benchmark.accuracy",
        description="Train and score this package and torchvision's SSD300 on data sets; go on where it was stopped.",
    )
    p.add_argument("sets", nargs="*", metavar="NAME=FOLDER", help="data sets, such as bccd=data/bccd")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="rows.jsonl, runs and lists of images")
    p.add_argument(
        "--split", choices=("val", "test"), default="val", help="val (default): to choose; test: to report, once"
    )
    p.add_argument(
        "--images", nargs="+", default=["all", "50"], metavar="N[:EPOCHS]", help="first N of them; default: all 50"
    )
    p.add_argument("--epochs", type=int, default=25, metavar="N", help="default: %(default)s")
    p.add_argument("--batch-size", type=int, default=8, metavar="N", help="default: %(default)s")
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    p.add_argument("--detectors", nargs="+", choices=(OURS, PEER), default=[OURS, PEER], help="default: both")
    p.add_argument(
        "--lr",
        nargs="+",
        type=float,
        default=[0.003],
        metavar="LR",
        help="of torchvision's; of several, the best on train -> val with the first seed; default: 0.003",
    )
    p.add_argument("--set", action="append", default=[], metavar="GROUP.KEY=VALUE", help="a change of this package's")
    p.add_argument("--backbone", default=IMAGENET, metavar="FILE", help="VGG16's features.*; imagenet (default); none")
    p.add_argument("--workers", type=int, default=0, metavar="N", help="default: %(default)s")
    p.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")
    p.add_argument("--table", action="store_true", help="print the table of the finished rows, and train nothing")
    p.add_argument("--tiny", action="store_true", help="a few steps on drawn shapes: does everything work?")
    return p


def main(argv: list[str] | None = None) -> int:
    """Train what is missing, print the table; 2 for a user's mistake, 1 if a training failed."""
    words = sys.argv[1:] if argv is None else argv
    args = parser().parse_args([*_TINY, *words] if "--tiny" in words else words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    keep_freed_memory()
    try:
        return _run(args)
    except SSDError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    except StoppedError as stopped:
        return stopped.exit_code
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace) -> int:
    at_least(1, epochs=args.epochs, batch_size=args.batch_size)
    sizes, folders = parse_images(args.images, args.epochs), parse_sets(args.sets)
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    with _locked(args.out):
        if args.tiny:
            folders["shapes"] = args.out / "shapes"
            write_tiny_set(folders["shapes"])
            args.set = [*_TINY_CHANGES, *args.set]
        if not folders and not args.table:
            raise ArgumentError("no data set", place="the command line", remedy="Name one: cells=FOLDER.")
        suite = Suite(args, Rows(args.out / "rows.jsonl"))
        # Every folder is read before the first training starts.
        phases = {name: suite.phases(name, folder) for name, folder in folders.items() if not args.table}
        for found in phases.values():
            for count, epochs in sizes:
                failed += suite.complete(found, count, epochs)
        print(table(suite.rows.rows, args.split))
    return int(failed > 0)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    lock = lock_folder(out)
    if lock is None:
        raise ArgumentError(f"{owner_of(out)} works in this folder", place=out, remedy="Wait until it ends.")
    with contextlib.closing(lock):
        yield


class Suite:
    """The trainings of one command, and the rows they give."""

    def __init__(self, args: argparse.Namespace, rows: Rows, trainers: Mapping[str, Trainer] = TRAINERS) -> None:
        self.args, self.rows, self.trainers = args, rows, trainers
        self.machine = Machine(args.out, args.device, args.workers)

    def phases(self, name: str, folder: Path) -> dict[Phase, ImageSet]:
        """The images of the phases that are needed: `val` too where learning rates are compared."""
        needed: list[Phase] = [self.args.split]
        if PEER in self.args.detectors and len(self.args.lr) > 1 and self.args.split == "test":
            needed.append("val")
        return {phase: image_set(name, folder, phase, self.args.out / "lists") for phase in needed}

    def complete(self, phases: Mapping[Phase, ImageSet], count: int | None, epochs: int) -> int:
        """Train what is missing of one set at one number of images; return how many trainings failed."""
        failed, images = 0, phases[self.args.split]
        self._check_count(images, count)
        if OURS in self.args.detectors:
            for seed in self.args.seeds:
                failed += self._finish(self._training(images, count, epochs, OURS, seed), images)
        if PEER not in self.args.detectors:
            return failed
        lr = self.args.lr[0]
        if len(self.args.lr) > 1:
            tried = phases.get("val", images)
            self._check_count(tried, count)
            trials = [self._training(tried, count, epochs, PEER, self.args.seeds[0], lr) for lr in self.args.lr]
            failed += sum(self._finish(trial, tried) for trial in trials)
            best = best_lr(self.rows, trials)
            if best is None:
                return failed
            lr = best
        for seed in self.args.seeds:
            failed += self._finish(self._training(images, count, epochs, PEER, seed, lr), images)
        return failed

    def _check_count(self, images: ImageSet, count: int | None) -> None:
        if count is not None and count > len(images.train):
            there = f"{images.name} has {len(images.train)} images to train on"
            raise ArgumentError(f"{count} are too many; {there}", place="--images", remedy="Use fewer, or all.")

    def _training(
        self, images: ImageSet, count: int | None, epochs: int, detector: str, seed: int, lr: float | None = None
    ) -> Training:
        args = self.args
        return Training(
            data=images.name,
            phase=images.phase,
            images=len(images.train) if count is None else count,
            every=count is None,
            epochs=epochs,
            batch_size=args.batch_size,
            detector=detector,
            seed=seed,
            backbone=args.backbone,
            lr=lr,
            changes=tuple(args.set) if detector == OURS else (),
        )

    def _finish(self, training: Training, images: ImageSet) -> bool:
        """Train unless the row is there; True if that failed."""
        if self.rows.find(training) is None:
            print(printable(f"{training.name}: {training.label}, {training.steps} steps"), flush=True)
            try:
                score = self.trainers[training.detector](training, images, self.machine)
            except SSDError as error:
                print(printable(f"{training.name} failed: {error}"), file=sys.stderr, flush=True)
                return True
            self.rows.add(training, score, **self._facts(images))
            remove_states(training, self.machine)
        return False

    def _facts(self, images: ImageSet) -> dict[str, Any]:
        machine = {"device": self.machine.device, "precision": self.machine.precision}
        return {"scored_images": len(images.scored), **machine, **environment()}


if __name__ == "__main__":
    sys.exit(main())
