"""`compare A B [--data FOLDER]`: says whether B is better than A, or whether the images cannot tell."""

import argparse
import sys
from pathlib import Path

from ssd.commands._shared import add_force, check_numbers, guarded, show_log
from ssd.errors import printable

EPILOG = """examples:
  ssd compare runs/before runs/after                  on the validation set that the first was trained with
  ssd compare runs/before runs/after --data bccd --split test
  ssd compare runs/cells runs/cells/best.xml          weights and their export
  ssd compare runs/before runs/after --report compare.html

Every figure has a 95 % interval, from random halves of the images. B is better or worse where the interval of the
difference does not hold 0; else it cannot be told, and about how many images would tell is said."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd compare",
        description="Compare two detectors on the same images.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "a weights file, an exported graph, a run's folder, or coco"
    p.add_argument("a", metavar="A", help=what)
    p.add_argument("b", metavar="B", help="the same, compared with A")
    p.add_argument("--voc", action="store_true", help="AP at IoU 0.5 by the VOC rules; default: COCO's figures")
    p.add_argument(
        "--data", metavar="FOLDER", help="a data folder (VOC, COCO, YOLO, LabelMe, CVAT, ...) instead of A's own data"
    )
    p.add_argument("--split", metavar="NAME", help="which split; default: the data's validation split")
    p.add_argument("--format", metavar="KIND", help="voc, coco, yolo, shapes, voc07+12, coco2017; default: recognised")
    p.add_argument(
        "--set", action="append", default=[], metavar="GROUP.KEY=VALUE", help="change A's config, repeatable"
    )
    p.add_argument(
        "--max-detections", type=int, metavar="N", help="of an image, also in COCO's figures; default: there 100"
    )
    p.add_argument("--resamples", type=int, default=1000, metavar="N", help="default %(default)s; 100 or more")
    p.add_argument("--batch-size", type=int, default=8, metavar="N", help="images at a time, default %(default)s")
    p.add_argument("--workers", type=int, metavar="N", help="decoding threads; default: 2, on a GPU nearly all cores")
    p.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")
    p.add_argument("--precision", default="auto", help="auto (default), fp32, bf16, fp16")
    p.add_argument("--backend", default="auto", help="auto (default), torch, openvino")
    p.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    p.add_argument("--report", type=Path, metavar="FILE.html", help="write a page to look at")
    add_force(p)
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Compare; the exit code is 2 for a user's mistake."""
    args = parser().parse_args(argv)
    check_numbers(args, batch_size=1, workers=0, resamples=100, max_detections=11)
    show_log()
    from ssd.api.compare import compare  # brings torch, so only now

    result = compare(
        args.a,
        args.b,
        args.data,
        split=args.split,
        format=args.format,
        metric="voc" if args.voc else "coco",
        overrides=args.set,
        max_detections=args.max_detections,
        resamples=args.resamples,
        batch_size=args.batch_size,
        workers=args.workers,
        device=args.device,
        precision=args.precision,
        backend=args.backend,
        figures=args.output,
        report=args.report,
        force=args.force,
        progress=not args.quiet and sys.stderr.isatty(),
    )
    print(result.to_text())
    for name, path in (("figures", result.figures_file), ("report", result.report)):
        if path is not None:
            print(printable(f"{name}: {path}"))
    return 0
