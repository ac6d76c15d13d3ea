"""`check-data DATA`: everything that is wrong with a data set at once, and what the default boxes reach in it."""

import argparse
import functools
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ssd.commands._shared import add_force, guarded
from ssd.errors import ArgumentError, MissingExtraError
from ssd.system.files import refuse_existing

if TYPE_CHECKING:
    from ssd.audit.decoding import StrictDecoder
    from ssd.audit.readiness import Readiness
    from ssd.audit.report import Report
    from ssd.experiment.config import Config

EPILOG = """examples:
  check_data.py my_images                         every split: annotations, images, copies, classes, sizes
  check_data.py my_images --fix drop              what training with data.bad_objects=drop would leave out
  check_data.py my_images --fit-boxes --set model.input_size=512
  check_data.py my_images --preview augmented.png --json report.json
  check_data.py my_images --report data.html      a page to look at: balance, sizes, problems with their images
  check_data.py --set data.format=coco2017          a named set

Nothing in the data folder is ever changed. The exit code is 1 where training, or evaluation on a split, would stop."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="check-data",
        description="Check a data set before training.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("data", nargs="?", metavar="DATA", help="a VOC, COCO or YOLO folder")
    p.add_argument("--split", metavar="NAME", help="this split alone; default: all there are")
    p.add_argument(
        "--set", action="append", default=[], metavar="GROUP.KEY=VALUE", help="what training would set, repeatable"
    )
    p.add_argument("--fix", choices=("drop",), help="drop: judge as if bad objects were left out (data.bad_objects)")
    p.add_argument("--deep", action="store_true", help="find damage inside JPEG files too; needs simplejpeg")
    p.add_argument("--fit-boxes", action="store_true", help="fit the default boxes to the training split")
    p.add_argument("--preview", type=Path, metavar="FILE.png", help="draw augmented images with their boxes to FILE")
    p.add_argument("--report", type=Path, metavar="FILE.html", help="write a page to look at")
    p.add_argument("--json", metavar="FILE", help="write everything as JSON; - prints it instead of the text")
    p.add_argument("--show", type=int, default=10, metavar="N", help="lines of each list, default %(default)s")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 2, metavar="N", help="threads that decode")
    add_force(p)
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Check; the exit code is 1 where training would stop, 2 for a mistake of the user's."""
    args = parser().parse_args(argv)
    for name, least in (("show", 0), ("workers", 1)):
        if getattr(args, name) < least:
            problem = f"{getattr(args, name)} is too small"
            raise ArgumentError(problem, place=f"--{name}", remedy=f"Use {least} or more.")
    if args.report is not None and args.report.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"{str(args.report)!r} is no .html file", place="--report", remedy="Name one.")
    refuse_existing(args.json, args.preview, args.report, force=args.force)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = _config(args)
    report = _examine(args, config)

    from ssd.audit.readiness import judge
    from ssd.audit.text import as_dict, as_text

    verdict = judge(report)
    if args.json != "-":
        print(as_text(report, verdict, show=args.show))
    if args.preview is not None:
        _preview(config, args.preview, report)
    if args.report is not None:
        _write_page(config, args.report, report, verdict)
    if args.json is not None:
        _write_json(json.dumps(as_dict(report, verdict), indent=2, allow_nan=False), args.json)
    return int(verdict.stops)


def _config(args: argparse.Namespace) -> "Config":
    """The config with which `train --data DATA` would train."""
    from ssd.experiment import config as configs

    folder = [] if args.data is None else [f"data.folder={json.dumps(args.data)}"]
    drop = [] if args.fix is None else [f"data.bad_objects={args.fix}"]
    return configs.resolve(configs.load(configs.builtin("finetune"), [*folder, *args.set, *drop]))


def _examine(args: argparse.Namespace, config: "Config") -> "Report":
    from ssd.audit.report import examine
    from ssd.audit.splits import Reading
    from ssd.experiment.start import starting_settings

    data = config.data
    reading = Reading(data.format, data.classes, data.voc_offset, data.allow_outside, data.train, data.val)
    return examine(
        data.folder,
        reading,
        starting_settings(config, ("object",)).boxes,
        only=args.split,
        drop=data.bad_objects == "drop",
        skip=data.bad_images == "skip",
        fit_boxes=args.fit_boxes,
        strict=_strict(args),
        workers=args.workers,
        progress=not args.quiet and sys.stderr.isatty(),
    )


def _strict(args: argparse.Namespace) -> "StrictDecoder | None":
    """The strict decoder if it was asked for and is installed; the rest of the check is worth having without it."""
    from ssd.audit.decoding import strict_decoder

    if not args.deep:
        return None
    try:
        return strict_decoder()
    except MissingExtraError as error:
        print(f"note: {error}", file=sys.stderr)
        return None


def _preview(config: "Config", path: Path, report: "Report") -> None:
    from ssd.experiment.data import preview

    if report.usable is None or not len(report.usable):
        print("no image can be drawn", file=sys.stderr)
        return
    preview(config, path, report.usable)
    print(f"augmented images: {path}", file=sys.stderr)


def _write_page(config: "Config", path: Path, report: "Report", verdict: "Readiness") -> None:
    from ssd.audit.page.gather import write_dataset_page
    from ssd.experiment.data import augmented_sheet

    write_dataset_page(path, report, verdict, functools.partial(augmented_sheet, config))
    print(f"report: {path}", file=sys.stderr)


def _write_json(text: str, place: str) -> None:
    from ssd.system.files import write_atomic

    if place == "-":
        print(text)
        return
    write_atomic(place, text.encode())
    print(f"figures: {place}")
