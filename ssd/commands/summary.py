"""`summary [MODEL] [--size S] [--compare MODEL ...] [--figures] [--json]`: layers and costs of networks."""

import argparse
import json

from ssd.commands._shared import add_force, check_numbers, guarded
from ssd.errors import ArgumentError
from ssd.system.files import check_writable, refuse_existing

EPILOG = """models:
  ssd-vgg16 ssd-resnet50 ...       the detector with that backbone (any name that model.backbone takes)
  vgg11 vgg13 vgg16c vgg16 vgg19   the whole network of the paper; with _bn its BatchNorm variant
  alexnet googlenet resnet50 ...   the whole network of torchvision, or else of timm
  lenet nin vgg11_lrn yolov1       what SSD grew from, and what it was measured against
  ssdlite-mobilenet_v3_large ...   SSDLite with that backbone, as model.head=lite has it
  best.safetensors, runs/bccd      a detector's weights; coco and ssdlite are published ones

examples:
  ssd summary ssd-vgg16 --size 512
  ssd summary vgg11 --channels 1 --classes 10
  ssd summary --compare vgg16 googlenet resnet50 densenet121 mobilenet_v3_large
  ssd summary --compare ssd-vgg16 yolov1 --size 448
  ssd summary --compare runs/vgg runs/resnet --plot backbones.svg
  ssd summary --figures             what the documents say, beside what is counted"""


_DEFAULT = "ssd-vgg16"


def parser() -> argparse.ArgumentParser:
    """Every argument of the command."""
    p = argparse.ArgumentParser(
        prog="ssd summary", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("model", nargs="?", metavar="MODEL", help=f"default: {_DEFAULT}")
    p.add_argument("--size", type=int, metavar="S", help="side of the input, in pixels; default: what it was made for")
    p.add_argument("--classes", type=int, metavar="N", help="default: 1000 for classifiers, 20 for detectors")
    p.add_argument("--channels", type=int, default=None, metavar="N", help="1 for grey images; default: 3 (lenet: 1)")
    p.add_argument("--all", action="store_true", help="list activations and dropout too")
    p.add_argument(
        "--compare",
        nargs="+",
        action="extend",
        metavar="MODEL",
        help="several side by side, their latency measured in turn",
    )
    p.add_argument("--repeat", type=int, default=5, metavar="N", help="forward passes timed for --compare; 0: none")
    p.add_argument("--plot", metavar="FILE", help="with --compare of runs: AP against latency, as .svg or .png")
    add_force(p)
    p.add_argument("--figures", action="store_true", help="the documents' figures beside the counted ones")
    p.add_argument("--json", action="store_true", help="the same as JSON")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Print the table; the exit code is 2 for a user's mistake."""
    args = parser().parse_args(argv)
    check_numbers(args, repeat=0)
    if args.plot is not None and args.compare is None:
        raise ArgumentError("goes with --compare", place="--plot", remedy="Write --compare RUN RUN --plot FILE.svg.")
    if args.model is not None and args.compare is not None:
        remedy = f"Write --compare {args.model} {' '.join(args.compare)}."
        raise ArgumentError("is not among those to compare", place=args.model, remedy=remedy)
    if args.figures and (args.model is not None or args.compare is not None):
        raise ArgumentError("is a table of its own", place="--figures", remedy="Leave out the model and --compare.")
    from ssd.summary import figures, networks, tables
    from ssd.summary.compare import compare

    if args.figures:
        found = figures.figures()
        _show(figures.to_json(found), tables.figures_table(found), as_json=args.json)
        return 0
    options = {"size": args.size, "classes": args.classes, "channels": args.channels}
    if args.compare is None:
        network = networks.find(args.model or _DEFAULT, **options)
        survey = network.survey()
        text = tables.layer_table(network, survey, everything=args.all)
        _show(tables.to_json(network, survey, rows=True), text, as_json=args.json)
        return 0
    refuse_existing(args.plot, force=args.force)
    check_writable(args.plot)
    comparison = compare(args.compare, **options, repeat=args.repeat)
    if args.plot:
        comparison.plot(args.plot, force=args.force)
    _show(comparison.to_dict(), comparison.to_text(), as_json=args.json)
    return 0


def _show(facts: object, text: str, *, as_json: bool) -> None:
    print(json.dumps(facts, indent=2) if as_json else text)
