"""`review FOLDER --folds 3`: labels that are probably wrong, found by networks that never saw the image."""

import argparse
import re
import sys

from ssd.commands._shared import check_numbers, guarded, start_work
from ssd.errors import ArgumentError, printable

EPILOG = """examples:
  ssd review my_images                              three trainings with the defaults of ssd train
  ssd review my_images --folds 5 --epochs 15 model.input_size=512
  ssd review my_images --as yolo                    the images in question with proposed labels, for a labelling tool

Each network is trained without a part of the images and judges the labels of that part: a missing label, a wrong class,
a loose box, a spare label. The result is a ranked list, review.json, and a page, review.html, in --output; the same
command goes on after Ctrl-C. AP of each part, their mean and standard deviation are k-fold figures. Nothing in the data
folder is ever changed."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd review",
        description="Find labels that are probably wrong.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "data",
        metavar="FOLDER",
        help="a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...); all its splits are reviewed",
    )
    p.add_argument("overrides", nargs="*", metavar="group.key=value", help="what training sets")
    p.add_argument("--folds", type=int, default=3, metavar="K", help="trainings, default %(default)s")
    p.add_argument("--epochs", type=int, metavar="N", help="the same as train.epochs=N")
    p.add_argument("--split", metavar="NAME", help="review this split alone")
    p.add_argument("--output", metavar="FOLDER", help="default: runs/review/<name of the data folder>")
    p.add_argument(
        "--as",
        dest="as_format",
        metavar="LIST",
        help="also write proposed labels: coco, voc, yolo, labelme, labelstudio, cvat; several with commas",
    )
    p.add_argument("--show", type=int, default=10, metavar="N", help="labels listed, default %(default)s")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Review; the exit code is 2 for a user's mistake, 130 after Ctrl-C."""
    args = parser().parse_intermixed_args(argv)
    check_numbers(args, folds=2, epochs=1, show=0)
    for word in args.overrides:
        if not re.match(r"\w+(\.\w+)*=", word):
            raise ArgumentError("is no override", place=word, remedy="Write group.key=value, and one folder.")
    start_work()

    from ssd.api.review import review  # brings torch, so only now

    result = review(
        args.data,
        folds=args.folds,
        split=args.split,
        output=args.output,
        overrides=args.overrides,
        epochs=args.epochs,
        as_format=args.as_format,
        progress=not args.quiet and sys.stderr.isatty(),
    )
    print(result.to_text(args.show))
    print(printable(f"report: {result.report}"))
    if result.proposals is not None:
        print(printable(f"proposed labels: {result.proposals}"))
    return 0
