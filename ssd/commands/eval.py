"""`eval [WEIGHTS] --coco / --voc`: evaluates weights on the run's validation set or on other data."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ssd.commands._shared import add_data, add_force, add_runtime, check_numbers, guarded, start_work, threshold, tiles
from ssd.errors import ArgumentError, printable

EPILOG = """examples:
  ssd eval --coco                                     the newest run on its own validation set
  ssd eval runs/bccd --coco --voc                     both sets of rules, one pass over the images
  ssd eval runs/bccd --voc --data bccd --split test
  ssd eval runs/bccd --coco --report                  a page to look at: curves, confusions, the worst mistakes
  ssd eval runs/bccd --set-thresholds f1              a threshold for each class, in a copy of the weights
  ssd eval coco --coco --format coco2017              torchvision's weights on COCO's val2017, fetched once
  torchrun --nproc-per-node 2 -m ssd eval ...        the same figures from two processes

The figures are printed and written as JSON beside the weights. The file's name says so where the weights are not the
run's best.safetensors or the data not its own: eval-coco.best.onnx.json, eval-coco.test.json. Classes meet by name:
one that the detector does not know counts as AP 0, detections of one that the data does not have are dropped."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd eval",
        description="Evaluate weights.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "weights",
        nargs="?",
        help="a weights file, an exported graph, a run's folder, or coco; default: the newest run, else coco",
    )
    p.add_argument("--coco", action="store_true", help="AP over IoU 0.50 to 0.95 by pycocotools (default)")
    p.add_argument("--voc", action="store_true", help="AP at IoU 0.5 by the VOC rules: area, and 11 points (VOC07)")
    add_data(p)
    p.add_argument(
        "--score-threshold", metavar="S", help="0.3, own, or WBC=0.3,RBC=0.5; default: all, mostly from 0.01 on"
    )
    p.add_argument(
        "--set-thresholds",
        metavar="RULE",
        help="f1, precision=0.95 or recall=0.9: choose a threshold for each class here, and write a copy of the "
        "weights that has them: best.thresholds.safetensors",
    )
    p.add_argument("--weights-output", type=Path, metavar="FILE", help="another name for that copy")
    p.add_argument("--box-voting", type=float, metavar="SIGMA", help="0: none; default: the weights' own")
    p.add_argument(
        "--max-detections", type=int, metavar="N", help="of an image, also in COCO's figures; default: there 100"
    )
    p.add_argument(
        "--tiles", metavar="N|RxC|auto", help="search parts of large images too; 1: none; default: the weights' own"
    )
    add_runtime(p)
    p.add_argument(
        "--coco-backend", choices=("pycocotools", "fast"), default="pycocotools", help="fast: faster-coco-eval"
    )
    p.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: eval-coco.json (-voc, -coco-voc) by the weights, with what is not the run's own in its name",
    )
    p.add_argument("--results", type=Path, metavar="FILE", help="also write the detections as a COCO results file")
    p.add_argument(
        "--draw", type=int, default=0, metavar="N", help="draw N images, truth beside detections, by the figures"
    )
    p.add_argument(
        "--report",
        nargs="?",
        const="auto",
        metavar="FILE.html",
        help="write a page to look at: both rules, curves, confusions, the worst mistakes; default: by the weights",
    )
    add_force(p)
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Evaluate; the exit code is 2 for a user's mistake."""
    args = parser().parse_args(argv)
    check_numbers(args, batch_size=1, workers=0, draw=0, max_detections=11)
    start_work()
    from ssd.system import distributed  # brings torch, so only now

    with distributed.process_group(distributed.local_device(args.device)):
        return _run(args, first=distributed.rank() == 0)


def _run(args: argparse.Namespace, *, first: bool) -> int:
    from ssd.api.evaluate import BESIDE_WEIGHTS, METRICS, evaluate

    if args.draw and args.output is not None:
        _refuse_images(_folder_of_images(Path(args.output)), force=args.force)

    asked: dict[str, Any] = {
        "score_threshold": threshold(args.score_threshold),
        "box_voting": args.box_voting,
        "max_detections": args.max_detections,
        "tiles": tiles(args.tiles),
    }
    result = evaluate(
        args.weights,
        args.data,
        split=args.split,
        format=args.format,
        metric=[name for name in METRICS if getattr(args, name)] or "coco",
        overrides=args.set,
        set_thresholds=args.set_thresholds,
        weights_output=args.weights_output,
        batch_size=args.batch_size,
        workers=args.workers,
        device=args.device,
        precision=args.precision,
        backend=args.backend,
        coco_backend=args.coco_backend,
        figures=args.output or BESIDE_WEIGHTS,
        results=args.results,
        report=args.report,
        force=args.force,
        progress=not args.quiet and sys.stderr.isatty(),
        **asked,
    )
    if not first:
        return 0
    assert result.figures_file is not None
    print(result.to_text())
    print(printable(f"figures: {result.figures_file}"))
    if args.draw:
        from ssd.evaluation.page.drawn_images import draw_images

        folder = _folder_of_images(result.figures_file)
        count = draw_images(result.detector, result.dataset, args.draw, folder, **asked)
        print(printable(f"{count} drawn images: {folder}"))
    if result.thresholds_file is not None:
        print(printable(f"weights with thresholds: {result.thresholds_file}"))
    if result.report is not None:
        print(printable(f"report: {result.report}"))
    return 0


def _folder_of_images(figures: Path) -> Path:
    return figures.with_name(f"{figures.stem}-images")


def _refuse_images(folder: Path, *, force: bool) -> None:
    """Drawn images replace no others, which may be the data's own."""
    if folder.is_dir() and any(folder.iterdir()) and not force:
        remedy = "Name another --output, or add --force to write the drawn images there."
        raise ArgumentError("is not empty, and --draw writes into it", place=folder, remedy=remedy)
