"""`export WEIGHTS --format ...`: a graph for other engines, given its name only when it detects the same."""

import argparse
import dataclasses
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssd.commands._shared import add_force, guarded
from ssd.errors import ArgumentError, MissingExtraError
from ssd.system.files import refuse_existing

if TYPE_CHECKING:
    from torch import nn

    from ssd.exporters.sample_images import Images
    from ssd.exporters.verify import Check
    from ssd.settings import Settings

NOT_DONE = 1
FORMATS = ("onnx", "openvino", "pt2")

EPILOG = """examples:
  export.py runs/bccd --format onnx
  export.py runs/bccd --format openvino --int8 --calibrate bccd
  export.py coco --format onnx --parity photos/ --score-threshold 0.3 --max-detections 50

The graph takes uint8 RGB images, any number at once, and gives boxes (as fractions of the image), scores,
labels and counts: normalising and suppression are inside. Class names and settings travel in the file, so
`ssd.load("best.onnx")` makes a detector of it and detect.py and eval.py take it as --weights.

It is checked against PyTorch in fp32 on real images: those of --parity, else the validation split of
--calibrate, else the run's own. Tolerances: box (pixels of the network's input), score, missing (share of
detections lost or gained), least_score (weaker ones are not compared) and ap (fall of AP where there are
annotations; for bf16 and int8). Beyond them the file is named *.rejected.*, and the exit code is 1.
Exit code 2: a mistake, and nothing was exported."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="export",
        description="Export a detector for other engines, with a parity report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("weights", help="a weights file, a run's folder, or coco")
    p.add_argument("--format", required=True, choices=FORMATS, help="openvino writes an .xml and a .bin")
    p.add_argument("--out", type=Path, metavar="FILE", help="default: beside the weights, under their name")
    add_force(p)
    p.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16: numbers of 16 bits (openvino); default fp32",
    )
    p.add_argument("--int8", action="store_true", help="compute in 8 bits (openvino); needs --calibrate")
    p.add_argument("--calibrate", metavar="DATA", help="a data set (its training split) or a folder of images")
    p.add_argument("--parity", metavar="DATA", help="check on this data set (validation split) or folder of images")
    p.add_argument("--split", metavar="NAME", help="another split of the parity's data set")
    p.add_argument("--limit", type=int, metavar="N", help="images checked; default: 32, and all where AP is measured")
    p.add_argument("--tolerance", nargs="+", default=[], metavar="NAME=X", help="box, score, missing, least_score, ap")
    p.add_argument("--score-threshold", type=float, metavar="S", help="built in; default: the weights' own")
    p.add_argument("--iou-threshold", type=float, metavar="IOU", help="built in; default: the weights' own")
    p.add_argument("--top-k", type=int, metavar="N", help="candidates of a class, built in; default: the weights' own")
    p.add_argument("--max-detections", type=int, metavar="N", help="per image, built in; default: the weights' own")
    p.add_argument("--box-voting", type=float, metavar="SIGMA", help="built in; 0: none; default: the weights' own")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Export and check; the exit code is 1 when the graph detects something else, 2 for a mistake of the user's."""
    args = parser().parse_args(argv)
    precision = "int8" if args.int8 else args.precision
    _check_arguments(args, precision)
    if args.int8:
        _check_int8()
    out = _output(args, precision)

    from ssd.exporters.export import export
    from ssd.exporters.parity import TOLERANCES
    from ssd.exporters.verify import check  # brings torch, so only now
    from ssd.inference.detector import load_network

    tolerance = TOLERANCES[precision]
    for text in args.tolerance:
        tolerance = tolerance.changed(text)
    network, settings = load_network(args.weights)
    settings = _with_rules(network, settings, args)
    images, calibration = _images(args)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as folder:
        unchecked = Path(folder) / out.name
        print(f"exporting {args.weights} to {args.format}, {precision}", flush=True)
        export(network, settings, unchecked, args.format, precision=precision, calibration=calibration)
        limit = args.limit or (32 if precision == "fp32" or images.drawn else None)
        outcome = check(network, settings, unchecked, images, limit, tolerance, precision)
        return _finish(args, outcome, unchecked, out)


def _finish(args: argparse.Namespace, outcome: "Check", unchecked: Path, out: Path) -> int:
    """Give the files their name: the good one, or that of a rejected export."""
    place = out if outcome.accepted else out.with_name(f"{out.stem}.rejected{out.suffix}")
    for part in _files(unchecked):
        part.replace(place.with_suffix(part.suffix))
    report = outcome.write(place, args.weights, args.format)
    print(outcome.as_text())
    size = sum(part.stat().st_size for part in _files(place))
    if outcome.accepted:
        print(f"done: {place} ({size / 1e6:.1f} MB), report: {report}")
        return 0
    print(f"NOT DONE: {'; '.join(outcome.failures)}", file=sys.stderr)
    print(f"what was exported is kept as {place}, report: {report}", file=sys.stderr)
    return NOT_DONE


def _check_arguments(args: argparse.Namespace, precision: str) -> None:
    if args.format != "openvino" and precision != "fp32":
        remedy = "Use --format openvino."
        raise ArgumentError(f"{args.format} is not exported in {precision}", place="--format", remedy=remedy)
    if args.int8 and args.calibrate is None:
        remedy = "Add --calibrate DATA: images like those it will see."
        raise ArgumentError("needs images to measure on", place="--int8", remedy=remedy)
    if args.calibrate is not None and not args.int8:
        raise ArgumentError("is for 8 bits", place="--calibrate", remedy="Add --int8, or use --parity.")
    if args.limit is not None and args.limit < 1:
        raise ArgumentError(f"{args.limit} is too small", place="--limit", remedy="Use 1 or more.")


def _check_int8() -> None:
    """Raise `MissingExtraError` unless what 8 bits need is installed; nothing is loaded for it."""
    for package in ("nncf", "openvino"):
        if importlib.util.find_spec(package) is None:
            problem, remedy = f"{package} is not installed", 'Run: pip install "ssd-vgg[int8]"'
            raise MissingExtraError(problem, place="--int8", remedy=remedy)


def _output(args: argparse.Namespace, precision: str) -> Path:
    """Where the file goes; never onto one that is there, unless told so."""
    suffix = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}[args.format]
    out: Path | None = args.out
    if out is None:
        weights = Path(args.weights)
        beside = weights / "best" if weights.is_dir() else weights.with_suffix("") if weights.exists() else None
        name = beside or Path(args.weights.rstrip("/").rpartition("/")[2])
        out = name.with_name(f"{name.name}{'' if precision == 'fp32' else f'.{precision}'}{suffix}")
    if out.suffix != suffix:
        raise ArgumentError(f"does not end in {suffix}", place=out, remedy=f"{args.format} is written as {suffix}.")
    refuse_existing(*_files(out), force=args.force)
    return out


def _files(path: Path) -> list[Path]:
    """What an export consists of; the `.xml` comes last: where it is, its `.bin` is."""
    return [path.with_suffix(".bin"), path] if path.suffix == ".xml" else [path]


def _with_rules(network: "nn.Module", settings: "Settings", args: argparse.Namespace) -> "Settings":
    """Build in the thresholds that were given, checked as `detect` checks them."""
    from ssd.inference.detector import checked_rules

    names = ("score_threshold", "iou_threshold", "top_k", "max_detections", "box_voting")
    given: dict[str, Any] = {name: getattr(args, name) for name in names}
    return dataclasses.replace(settings, postprocessing=checked_rules(settings.postprocessing, given))


def _images(args: argparse.Namespace) -> "tuple[Images, Any]":
    """What to check on, and what to calibrate with, if anything."""
    from ssd.exporters.sample_images import open_images, own_images

    calibration = None
    if args.calibrate is not None:
        from ssd.exporters.int8 import CALIBRATION_IMAGES

        calibration = open_images(args.calibrate, "train").some(CALIBRATION_IMAGES)
    named = args.parity or args.calibrate
    return (open_images(named, "val", args.split) if named else own_images(args.weights)), calibration
