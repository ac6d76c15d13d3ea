"""`compare A B [--data FOLDER]`: says whether B is better than A, or whether the images cannot tell."""

import argparse
import sys
from pathlib import Path

from ssd.commands._shared import add_data, add_force, add_runtime, check_numbers, guarded, start_work
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
    add_data(p, "A")
    p.add_argument(
        "--max-detections", type=int, metavar="N", help="of an image, also in COCO's figures; default: there 100"
    )
    p.add_argument("--resamples", type=int, default=1000, metavar="N", help="default %(default)s; 100 or more")
    add_runtime(p)
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
    start_work()
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
