"""`check-data DATA`: all problems of a data set, and the objects that the default boxes reach."""

import argparse
import json
import os
import re
import sys
from pathlib import Path

from ssd.commands._shared import add_force, check_numbers, guarded, show_log
from ssd.errors import ArgumentError, MissingExtraError, printable
from ssd.system.files import check_writable, refuse_existing, write_atomic

EPILOG = """examples:
  ssd check-data my_images                         every split: annotations, images, copies, classes, sizes
  ssd check-data my_images --fix drop              what training with data.bad_objects=drop would leave out
  ssd check-data my_images --fit-boxes model.input_size=512
  ssd check-data my_images --preview augmented.png --json report.json
  ssd check-data my_images --report data.html      a page to look at: balance, sizes, problems with their images
  ssd check-data my_images --divide 0.2 --out lists    lists of images for training and validation, without leaks
  ssd check-data my_images --write coco --out as_coco    the same labels for other tools, also with commas
  ssd check-data data.format=coco2017              a named set

Nothing in the data folder is ever changed. The exit code is 1 where training, or evaluation on a split, would stop."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd check-data",
        description="Check a data set before training.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "words",
        nargs="*",
        metavar="DATA | group.key=value",
        help="a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...), and what training sets",
    )
    p.add_argument("--data", metavar="FOLDER", help="the folder, as for `ssd train`")
    p.add_argument("--split", metavar="NAME", help="this split alone; default: all there are")
    p.add_argument(
        "--set", action="append", default=[], metavar="GROUP.KEY=VALUE", help="the same as group.key=value alone"
    )
    p.add_argument("--fix", choices=("drop",), help="drop: judge as if bad objects were left out (data.bad_objects)")
    p.add_argument("--deep", action="store_true", help="find damage inside JPEG files too; needs simplejpeg")
    p.add_argument("--fit-boxes", action="store_true", help="fit the default boxes to the training split")
    p.add_argument(
        "--divide",
        type=float,
        metavar="SHARE",
        help="divide the images anew, so many for validation, such as 0.2, into lists in --out",
    )
    p.add_argument(
        "--by",
        default="group,class",
        metavar="group,class",
        help="with --divide: group keeps near duplicates and frames together (data.group), class puts each class on "
        "both sides; default both",
    )
    p.add_argument(
        "--write",
        metavar="LIST",
        help="write the good labels anew into --out: coco, voc, yolo, labelme, labelstudio, cvat; several with commas",
    )
    p.add_argument("--copy", action="store_true", help="with --write: copy the images too, as yolo always does")
    p.add_argument("--out", type=Path, metavar="FOLDER", help="for --divide (train.txt and val.txt) or --write")
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
    """Check; the exit code is 1 if training would stop, 2 for a user's mistake."""
    args = parser().parse_intermixed_args(argv)
    check_numbers(args, show=0, workers=1)
    folder, overrides = _split_words(args.words, args.data)
    refuse_existing(args.json, force=args.force)
    check_writable(args.json)
    if args.json is not None and not Path(args.json).parent.is_dir():
        raise ArgumentError("its folder does not exist", place=args.json, remedy="Make it first.")
    _check_division(args)
    formats = _label_formats(args, folder)
    show_log()

    from ssd.api.check_data import check_data  # brings torch, so only now

    check = check_data(
        folder,
        split=args.split,
        overrides=[*overrides, *args.set],
        drop_bad_objects=args.fix == "drop",
        deep=args.deep and _can_look_deep(),
        fit_boxes=args.fit_boxes,
        preview=args.preview,
        report=args.report,
        force=args.force,
        workers=args.workers,
        progress=not args.quiet and sys.stderr.isatty(),
    )
    if args.json != "-":
        print(check.to_text(args.show))
    if args.preview is not None:
        print(
            printable(f"augmented images: {check.preview}") if check.preview else "no image can be drawn",
            file=sys.stderr,
        )
    if args.report is not None:
        print(printable(f"report: {args.report}"), file=sys.stderr)
    if args.divide is not None:
        divided = check.divide(args.divide, by=args.by.split(","))
        print("\n" + divided.to_text(divided.write(args.out)), file=sys.stderr if args.json == "-" else sys.stdout)
    if formats:
        print(str(check.rewrite(formats, args.out, copy=args.copy)), file=sys.stderr)
    if args.json is not None:
        _write_json(json.dumps(check.to_dict(), indent=2, allow_nan=False), args.json)
    return int(not check.ready)


def _check_division(args: argparse.Namespace) -> None:
    """Refuse a division that cannot be made or written, before the work."""
    if args.write is not None and args.divide is not None:
        raise ArgumentError("are two steps", place="--write and --divide", remedy="Give one of them at a time.")
    if (args.divide is None and args.write is None) != (args.out is None):
        remedy = "Write --divide 0.2 --out FOLDER, or --write coco --out FOLDER."
        raise ArgumentError("belong together", place="--divide or --write, and --out", remedy=remedy)
    if args.divide is not None:
        if not 0 < args.divide < 1:
            raise ArgumentError(f"{args.divide:g} is out of range", place="--divide", remedy="Use 0.2, for example.")
        lists = args.out / "train.txt", args.out / "val.txt"
        refuse_existing(*lists, force=args.force)
        check_writable(*lists)


def _label_formats(args: argparse.Namespace, folder: str | None) -> tuple[str, ...]:
    """The formats of --write, and a look at its folder before the work."""
    if args.write is None:
        return ()
    from ssd.audit.rewrite import check_output
    from ssd.data.labels.label_formats import parse_label_formats

    formats = parse_label_formats(args.write, "--write")
    check_output(args.out, folder, force=args.force)
    return formats


def _split_words(words: list[str], data: str | None) -> tuple[str | None, list[str]]:
    """The folder, and the overrides; a folder may have `=` in its name."""
    overrides = [word for word in words if re.match(r"\w+(\.\w+)*=", word) and not Path(word).exists()]
    places = [word for word in words if word not in overrides] + ([] if data is None else [data])
    if len(places) > 1:
        raise ArgumentError(f"{', '.join(places)}: more than one folder", place="the command line", remedy="Name one.")
    return places[0] if places else None, overrides


def _can_look_deep() -> bool:
    """Whether the strict decoder is installed; the other checks do not need it."""
    from ssd.audit.decoding import strict_decoder

    try:
        strict_decoder()
    except MissingExtraError as error:
        print(f"note: {error}", file=sys.stderr)
        return False
    return True


def _write_json(text: str, place: str) -> None:
    if place == "-":
        print(text)
        return
    write_atomic(place, text.encode())
    print(printable(f"figures: {place}"))
