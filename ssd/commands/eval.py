"""`eval [WEIGHTS] --coco / --voc`: figures on the run's validation set, or on the data that is named."""

import argparse
import dataclasses
import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssd.commands._shared import add_force, guarded, refuse_existing
from ssd.errors import ArgumentError, EvaluationError
from ssd.evaluation.text import as_dict, as_text
from ssd.settings import SIGMA_REMEDY, can_be_sigma

if TYPE_CHECKING:
    from ssd.data.dataset import Dataset
    from ssd.evaluation.metrics.coco import CocoMetric
    from ssd.evaluation.metrics.details import Details
    from ssd.evaluation.metrics.error_breakdown import ErrorBreakdown
    from ssd.evaluation.metrics.voc import VocMetric
    from ssd.experiment.config import Config

EPILOG = """examples:
  eval.py --coco                                     the newest run on its own validation set
  eval.py runs/bccd --coco --voc                     both sets of rules, one pass over the images
  eval.py runs/bccd --voc --data bccd --split test
  eval.py runs/bccd --coco --report                  a page to look at: curves, confusions, the worst mistakes
  eval.py coco --coco --format coco2017              torchvision's weights on COCO's val2017, fetched once
  torchrun --nproc-per-node 2 tools/eval.py ...      the same figures from two processes

The figures are printed and written as JSON beside the weights. The file's name says so where the weights are not the
run's best.safetensors or the data not its own: eval-coco.best.onnx.json, eval-coco.test.json. Classes meet by name:
one that the detector does not know counts as AP 0, detections of one that the data does not have are dropped."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="eval",
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
    p.add_argument("--data", metavar="FOLDER", help="a VOC, COCO or YOLO folder instead of the run's own data")
    p.add_argument("--split", metavar="NAME", help="which split; default: the data's validation split")
    p.add_argument("--format", metavar="KIND", help="voc, coco, yolo, shapes, voc07+12, coco2017; default: recognised")
    p.add_argument(
        "--set", action="append", default=[], metavar="GROUP.KEY=VALUE", help="change the config, repeatable"
    )
    p.add_argument("--batch-size", type=int, default=8, metavar="N", help="images at a time, default %(default)s")
    p.add_argument("--workers", type=int, default=2, metavar="N", help="decoding threads, default %(default)s")
    p.add_argument("--score-threshold", type=float, metavar="S", help="default: the weights' own, mostly 0.01")
    p.add_argument("--box-voting", type=float, metavar="SIGMA", help="0: none; default: the weights' own")
    p.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")
    p.add_argument("--precision", default="auto", help="auto (default), fp32, bf16, fp16")
    p.add_argument("--backend", default="auto", help="auto (default), torch, openvino")
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
        const="",
        metavar="FILE.html",
        help="write a page to look at: both rules, curves, confusions, the worst mistakes; default: by the weights",
    )
    add_force(p)
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Evaluate; the exit code is 2 for a mistake of the user's."""
    args = parser().parse_args(argv)
    _check(args)
    refuse_existing(args.output, args.results, args.report, force=args.force)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from ssd.system import distributed  # brings torch, so only now

    device = distributed.local_device(args.device)
    with distributed.process_group(device):
        return _run(args, str(device), first=distributed.rank() == 0)


def _run(args: argparse.Namespace, device: str, *, first: bool) -> int:
    from ssd.evaluation.evaluate import evaluate
    from ssd.experiment import data as experiment_data
    from ssd.inference.detector import checked_rules, load

    weights, config = _find(args)
    dataset = experiment_data.open_split(config, "val")
    detector = load(weights, device=device, precision=args.precision, backend=args.backend)
    changes = {"score_threshold": args.score_threshold, "box_voting": args.box_voting}
    rules = checked_rules(detector.settings.postprocessing, changes)
    detector.settings = dataclasses.replace(detector.settings, postprocessing=rules)
    metrics = _metrics(args, dataset)
    evaluation = evaluate(
        detector,
        dataset,
        *metrics,
        batch_size=args.batch_size,
        workers=args.workers,
        progress=first and not args.quiet and sys.stderr.isatty(),
    )
    assert evaluation is not None  # nobody can ask it to stop
    if not first:
        return 0
    print(as_text(evaluation, dataset, weights))
    if args.results is not None:
        coco = next(metric for metric in metrics if metric.name == "coco")
        coco.write_results(args.results)  # type: ignore[union-attr]
    output = _output(args, weights, config, dataset)
    figures = as_dict(evaluation, dataset, detector, weights)
    _write(output, figures)
    if args.draw:
        from ssd.evaluation.page.drawn_images import draw_images

        folder = output.parent / f"{output.stem}-images"
        print(f"{draw_images(detector, dataset, args.draw, folder)} drawn images: {folder}")
    if args.report is not None:
        from ssd.evaluation.page.gather import write_evaluation_page

        page = Path(args.report) if args.report else output.with_suffix(".html")
        details = next(metric for metric in metrics if metric.name == "details")
        write_evaluation_page(page, figures, details, detector, dataset)  # type: ignore[arg-type]
        print(f"report: {page}")
    return 0


def _check(args: argparse.Namespace) -> None:
    args.coco = args.coco or not args.voc
    for name, least in (("batch_size", 1), ("workers", 0), ("draw", 0)):
        value = getattr(args, name)
        if value < least:
            place = f"--{name.replace('_', '-')}"
            raise ArgumentError(f"{value} is too small", place=place, remedy=f"Use {least} or more.")
    if args.score_threshold is not None and not 0 <= args.score_threshold <= 1:
        problem = f"{args.score_threshold} is out of range"
        raise ArgumentError(problem, place="--score-threshold", remedy="Use a number from 0 to 1.")
    if args.box_voting is not None and not can_be_sigma(args.box_voting):
        raise ArgumentError(f"{args.box_voting} is out of range", place="--box-voting", remedy=SIGMA_REMEDY)
    if args.report and not args.report.lower().endswith((".html", ".htm")):
        raise ArgumentError(
            f"{args.report!r} is no .html file", place="--report", remedy="Put --report last, or name one."
        )
    if args.report is not None and args.output is not None and args.output.suffix.lower() in (".html", ".htm"):
        raise ArgumentError("takes the figures, as JSON", place="--output", remedy="Name the page with --report=FILE.")
    if args.results is not None and not args.coco:
        raise ArgumentError("needs --coco", place="--results", remedy="Add --coco.")


def _find(args: argparse.Namespace) -> tuple[str, "Config"]:
    """The weights, and a config whose validation set is the one to use."""
    from ssd.experiment import config as configs
    from ssd.training.run_folder import newest_run

    weights = args.weights
    if weights is None:
        run = newest_run()
        weights = "coco" if run is None else str(run.best)
    path, beside = Path(weights), _config_beside(weights)
    config = configs.load(beside, args.set)
    changes: dict[str, Any] = {}
    if args.data is not None or args.format is not None:
        # Other data: what the run said about its own no longer holds.
        changes = {"folder": args.data, "format": args.format or "auto", "val": None, "classes": None}
    elif beside is None and not any(text.startswith("data.") for text in args.set):
        if weights != "coco":
            if not path.exists() and "://" not in weights:
                raise EvaluationError("no such weights file or run", place=weights, remedy="Check the path.")
            problem = "there is no config.yaml beside these weights, so their validation set is unknown"
            raise EvaluationError(problem, place=weights, remedy="Name one: --data FOLDER --split NAME.")
        changes = {"format": "coco2017"}
    if args.split is not None:
        changes["val"] = args.split
    return weights, _with_data(config, changes)


def _config_beside(weights: str) -> Path | None:
    """The config of the run that these weights lie in."""
    path = Path(weights)
    config = (path if path.is_dir() else path.parent) / "config.yaml"
    return config if path.exists() and config.is_file() else None


def _with_data(config: "Config", changes: dict[str, Any]) -> "Config":
    """Change the data group, and check it again: `--format` may be a word that is no format."""
    from ssd.experiment import config as configs

    raw = configs.to_dict(config)
    return configs.from_dict({**raw, "data": {**raw["data"], **changes}}, "the command line")


def _metrics(args: argparse.Namespace, dataset: "Dataset") -> "list[CocoMetric | VocMetric | ErrorBreakdown | Details]":
    from ssd.evaluation.metrics.coco import CocoMetric
    from ssd.evaluation.metrics.details import Details
    from ssd.evaluation.metrics.error_breakdown import ErrorBreakdown
    from ssd.evaluation.metrics.voc import VocMetric

    records, names = dataset.records, dataset.class_names
    chosen: list[CocoMetric | VocMetric | ErrorBreakdown | Details] = []
    if args.coco or args.report is not None:
        chosen.append(CocoMetric(records, names, dataset.category_ids, backend=args.coco_backend))
    if args.voc or args.report is not None:
        chosen.append(VocMetric(records, names))
    if args.report is not None:
        chosen.append(Details(records, names))
    return [*chosen, ErrorBreakdown(records, names)]


def _output(args: argparse.Namespace, weights: str, config: "Config", dataset: "Dataset") -> Path:
    """Where the figures go; what is not the run's own stands in the name, so that no file replaces another's."""
    if args.output is not None:
        return Path(args.output)
    name = "-".join(["eval", *(metric for metric in ("coco", "voc") if getattr(args, metric))])
    others = (
        re.sub(r"[^\w.-]+", "-", text) for text in (_other_data(weights, config, dataset), _other_weights(weights))
    )
    name = ".".join([name, *filter(None, others), "json"])
    path = Path(weights)
    if not path.exists():
        return Path("runs") / name  # published weights lie in a cache
    return (path if path.is_dir() else path.parent) / name


def _other_weights(weights: str) -> str:
    """What tells these weights from a run's best; nothing for those, and for torchvision's."""
    path = Path(weights)
    if path.is_dir() or path.name == "best.safetensors" or weights == "coco":
        return ""
    return path.stem if path.suffix == ".safetensors" else path.name


def _other_data(weights: str, config: "Config", dataset: "Dataset") -> str:
    """The data and split, where they are not those of the run; of other data's splits every one is named."""
    from ssd.data.formats.registry import default_split
    from ssd.errors import DatasetError
    from ssd.experiment import config as configs

    beside, used = _config_beside(weights), config.data
    if beside is not None:
        own = configs.load(beside).data
    else:
        own = configs.load(None, ["data.format=coco2017"] if weights == "coco" else []).data
    known = beside is not None or weights == "coco"
    same_format = own.format == used.format or (used.folder is not None and "auto" in (own.format, used.format))
    if not (known and same_format and Path(own.folder or "").resolve() == Path(used.folder or "").resolve()):
        return f"{Path(dataset.name).resolve().name}-{dataset.split}"
    if used.val == own.val or used.format == "shapes":  # drawn ones have one split
        return ""
    try:
        usual = own.val or default_split(own.folder, own.format, "val")
    except DatasetError:
        usual = ""
    return "" if dataset.split == usual else dataset.split


def _write(path: Path, figures: dict[str, Any]) -> None:
    from ssd.system.files import write_atomic

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(figures, indent=2, allow_nan=False).encode())
    print(f"figures: {path}")
