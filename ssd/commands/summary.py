"""`summary [MODEL] [--size S] [--compare MODEL ...] [--figures] [--json]`: what networks are made of, and cost."""

import argparse
import json

from ssd.commands._shared import guarded

EPILOG = """models:
  ssd-vgg16 ssd-resnet50 ...       the detector with that backbone (any name that model.backbone takes)
  vgg11 vgg13 vgg16c vgg16 vgg19   the whole network of the paper; with _bn its BatchNorm variant
  alexnet googlenet resnet50 ...   the whole network of torchvision, or else of timm
  lenet nin vgg11_lrn yolov1       what SSD grew from, and what it was measured against
  best.safetensors, runs/bccd      a detector's weights

examples:
  ssd summary ssd-vgg16 --size 512
  ssd summary vgg11 --channels 1 --classes 10
  ssd summary --compare vgg16 googlenet resnet50 densenet121 mobilenet_v3_large
  ssd summary --compare ssd-vgg16 yolov1 --size 448
  ssd summary --compare runs/vgg runs/resnet --plot backbones.svg
  ssd summary --figures             what the documents say, beside what is counted"""


def parser() -> argparse.ArgumentParser:
    """Every argument of the command."""
    p = argparse.ArgumentParser(
        prog="ssd summary", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("model", nargs="?", default="ssd-vgg16", metavar="MODEL", help="default: ssd-vgg16")
    p.add_argument("--size", type=int, metavar="S", help="side of the input, in pixels; default: what it was made for")
    p.add_argument("--classes", type=int, metavar="N", help="default: 1000 for classifiers, 20 for detectors")
    p.add_argument("--channels", type=int, default=None, metavar="N", help="1 for grey images; default: 3 (lenet: 1)")
    p.add_argument("--all", action="store_true", help="list activations and dropout too")
    p.add_argument("--compare", nargs="+", metavar="MODEL", help="several side by side, their latency measured in turn")
    p.add_argument("--repeat", type=int, default=5, metavar="N", help="forward passes timed for --compare; 0: none")
    p.add_argument("--plot", metavar="FILE", help="with --compare of runs: AP against latency, as .svg or .png")
    p.add_argument("--figures", action="store_true", help="the documents' figures beside the counted ones")
    p.add_argument("--json", action="store_true", help="the same as JSON")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Print the table; 2 for a mistake of the user's."""
    args = parser().parse_args(argv)
    from ssd.summary import figures, networks, tables

    if args.figures:
        found = figures.figures()
        print(json.dumps(figures.to_json(found), indent=2) if args.json else tables.figures_table(found))
        return 0
    names = args.compare or [args.model]
    chosen = [networks.find(name, size=args.size, classes=args.classes, channels=args.channels) for name in names]
    if args.compare is None:
        survey = chosen[0].survey()
        facts = tables.to_json(chosen[0], survey, rows=True)
        print(json.dumps(facts, indent=2) if args.json else tables.layer_table(chosen[0], survey, everything=args.all))
        return 0
    surveys = [network.survey() for network in chosen]
    latencies = networks.latencies(chosen, args.repeat)
    if args.plot:
        from ssd.summary.plot import draw

        draw(chosen, latencies, args.plot)
    if args.json:
        rows = zip(chosen, surveys, latencies, strict=True)
        print(json.dumps([tables.to_json(n, s) | {"latency_ms": ms} for n, s, ms in rows], indent=2))
    else:
        print(tables.comparison(chosen, surveys, latencies))
    return 0
