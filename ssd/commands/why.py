"""`why [RUN] [--data F]`: why objects are missed, what mending each cause would regain, and what to try first."""

import argparse
import json
import sys

from ssd.commands._shared import add_data, add_force, add_runtime, check_numbers, guarded, start_work, threshold
from ssd.errors import printable

EPILOG = """examples:
  ssd why                                  the newest run on its own validation images
  ssd why runs/bccd --report missed.html   a page to look at, with the missed objects of every cause
  ssd why runs/bccd --data bccd --split test --score-threshold 0.3

An object is missed where no detection of its class from its score threshold on has an IoU of 0.5 with it. Its cause is
the first stage of the pipeline that explains it: a probably wrong label, the input's resolution, the default boxes, the
score, another class, the place, the suppression, the threshold. AP50 is that of the detections from the thresholds
on, so it is below that of `ssd eval`, which counts all of them."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd why",
        description="Say why objects are missed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "weights", nargs="?", metavar="RUN", help="a run's folder or weights; default: the newest in runs/, else coco"
    )
    add_data(p)
    p.add_argument(
        "--score-threshold", metavar="S", help="0.3, own, or WBC=0.3,RBC=0.5; default: the weights' own, else 0.5"
    )
    p.add_argument("--show", type=int, default=10, metavar="N", help="missed objects listed, default %(default)s")
    p.add_argument("--report", metavar="FILE.html", help="write a page to look at")
    p.add_argument("--json", action="store_true", help="print everything as JSON instead")
    add_runtime(p)
    add_force(p)
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Explain; the exit code is 2 for a user's mistake."""
    args = parser().parse_args(argv)
    check_numbers(args, batch_size=1, workers=0, show=0)
    start_work()

    from ssd.api.why import why  # brings torch, so only now

    result = why(
        args.weights,
        args.data,
        split=args.split,
        format=args.format,
        overrides=args.set,
        score_threshold=threshold(args.score_threshold),
        batch_size=args.batch_size,
        workers=args.workers,
        device=args.device,
        precision=args.precision,
        backend=args.backend,
        report=args.report,
        force=args.force,
        progress=not args.quiet and sys.stderr.isatty(),
    )
    print(json.dumps(result.to_dict(), indent=2, allow_nan=False) if args.json else result.to_text(args.show))
    if result.report is not None:
        print(printable(f"report: {result.report}"), file=sys.stderr)
    return 0
