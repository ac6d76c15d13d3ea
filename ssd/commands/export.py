"""`export WEIGHTS --format ...`: exports a detector for other runtimes, and checks that it detects the same."""

import argparse
import sys
from pathlib import Path

from ssd.commands._shared import add_force, check_numbers, guarded
from ssd.errors import ArgumentError, printable

NOT_DONE = 1
FORMATS = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}  # format -> suffix

EPILOG = """examples:
  ssd export runs/bccd --format onnx
  ssd export runs/bccd --format openvino --int8 --calibrate bccd
  ssd export runs/bccd --format onnx --plain --opset 17
  ssd export coco --format onnx --parity photos/ --score-threshold 0.3 --max-detections 50

The graph takes uint8 RGB images, any number at once, and gives boxes (as fractions of the image), scores,
labels and counts: normalising and suppression are inside. Class names and settings travel in the file, so
`ssd.load("best.onnx")` makes a detector of it and ssd detect and ssd eval take it, too. A .pt2 is for Python
alone, with `ssd.load("best.pt2", trust=True)`: loading one can run code that its author put there.

--plain writes a graph of plain operators (float32 images NCHW from 0 to 255 in; decoded boxes and softmax
scores of every default box out) without resize and suppression, for OpenCV, ncnn, TensorRT, CoreML and
ssd.light, which detects without PyTorch. Its contract is in docs/embed.md and in the file.

It is checked against PyTorch in fp32 on real images: those of --parity, else the validation split of
--calibrate, else the run's own. Tolerances: box (pixels of the network's input), score, missing (share of
detections lost or gained), least_score (weaker ones are not compared) and ap (fall of AP where there are
annotations; for bf16 and int8). Beyond them the file is named *.rejected.*, and the exit code is 1.
Exit code 2: a mistake, and nothing was exported."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd export",
        description="Export a detector for other engines, with a parity report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("weights", help="a weights file, a run's folder, hf://owner/name, coco or ssdlite")
    p.add_argument("--format", required=True, choices=FORMATS, help="openvino writes an .xml and a .bin")
    p.add_argument("--out", type=Path, metavar="FILE", help="default: beside the weights, under their name")
    add_force(p)
    p.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        help="bf16: numbers of 16 bits (openvino); default fp32",
    )
    p.add_argument("--int8", action="store_true", help="compute in 8 bits (openvino); needs --calibrate")
    p.add_argument("--calibrate", metavar="DATA", help="a data set (its training split) or a folder of images")
    p.add_argument("--parity", metavar="DATA", help="check on this data set (validation split) or folder of images")
    p.add_argument("--split", metavar="NAME", help="another split of the parity's data set")
    p.add_argument("--limit", type=int, metavar="N", help="images checked; default: 32, and all where AP is measured")
    p.add_argument(
        "--tolerance",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=X",
        help="box, score, missing, least_score, ap",
    )
    p.add_argument("--plain", action="store_true", help="no resize, no suppression, plain operators (onnx)")
    p.add_argument(
        "--opset",
        type=int,
        metavar="N",
        help="of the plain graph, 14 to 23; default: 17, or 18 where 17 lacks an operator",
    )
    p.add_argument("--score-threshold", type=float, metavar="S", help="built in; default: the weights' own")
    p.add_argument("--iou-threshold", type=float, metavar="IOU", help="built in; default: the weights' own")
    p.add_argument("--top-k", type=int, metavar="N", help="candidates of a class, built in; default: the weights' own")
    p.add_argument("--max-detections", type=int, metavar="N", help="per image, built in; default: the weights' own")
    p.add_argument("--box-voting", type=float, metavar="SIGMA", help="built in; 0: none; default: the weights' own")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Export and check; the exit code is 1 if the graph's detections differ, 2 for a user's mistake."""
    args = parser().parse_args(argv)
    check_numbers(args, limit=1)
    suffix = FORMATS[args.format]
    if args.out is not None and args.out.suffix != suffix:
        remedy = f"{args.format} is written as {suffix}."
        raise ArgumentError(f"does not end in {suffix}", place=args.out, remedy=remedy)
    if args.int8 and args.precision is not None:
        raise ArgumentError(
            f"is {args.precision}, and --int8 asks for 8 bits", place="--precision", remedy="Leave one out."
        )
    tolerance = dict(map(_tolerance, args.tolerance))

    from ssd.api.export import export  # brings torch, so only now

    args.precision = "int8" if args.int8 else args.precision or "fp32"
    print(printable(f"exporting {args.weights} to {args.format}, {args.precision}"), flush=True)
    result = export(
        args.weights,
        args.out or args.format,
        precision=args.precision,
        calibrate=args.calibrate,
        parity=args.parity,
        split=args.split,
        limit=args.limit,
        tolerance=tolerance,
        score_threshold=args.score_threshold,
        iou_threshold=args.iou_threshold,
        top_k=args.top_k,
        max_detections=args.max_detections,
        box_voting=args.box_voting,
        plain=args.plain,
        opset=args.opset,
        force=args.force,
    )
    print(result.check.as_text())
    if result.accepted:
        print(printable(f"done: {result.path} ({result.size / 1e6:.1f} MB), report: {result.report}"))
        return 0
    print(printable(f"NOT DONE: {'; '.join(result.failures)}"), file=sys.stderr)
    print(printable(f"what was exported is kept as {result.path}, report: {result.report}"), file=sys.stderr)
    return NOT_DONE


def _tolerance(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        remedy = "Write NAME=NUMBER, such as box=0.2."
        raise ArgumentError(f"{text!r} is not a tolerance", place="--tolerance", remedy=remedy) from None
