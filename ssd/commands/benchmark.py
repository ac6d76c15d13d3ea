"""`benchmark`: time and memory compared with torchvision, in one run."""

import argparse
import functools
import json
from pathlib import Path

from ssd.benchmark.stage_names import MEMORY, ON_GPU, STAGES
from ssd.commands._shared import add_force, check_numbers, guarded
from ssd.errors import SSDError
from ssd.system.files import check_writable, refuse_existing, write_atomic

EPILOG = """Ours and torchvision's take turns, each in a process of its own; each pair gives a ratio, and the table
shows medians and the middle half of the ratios. Before anything is timed both sides get the same weights and the
same input, and must give the same result; a stage where they do not is not timed, and the exit code is 1.
torchvision runs as its own references run it (fp32), except in stages named best. On CUDA its fp32 convolutions
are TF32, PyTorch's default, where ours in fp32 are not; the checks are without TF32. For figures worth quoting let
nothing else run.

stages:
""" + "\n".join(
    f"  {name:22}{text}" for name, text in {**STAGES, MEMORY: "peak memory, each side in a process"}.items()
)


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd benchmark",
        description="Compare speed and memory with torchvision's SSD300.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = (*STAGES, MEMORY)
    p.add_argument("--only", nargs="+", action="extend", metavar="NAME", choices=names, help="these stages alone")
    p.add_argument("--pairs", type=int, metavar="N", help="pairs per stage; default: 21, and 9 where one takes seconds")
    p.add_argument("--quick", action="store_true", help="3 pairs, and no memory")
    p.add_argument("--image", type=Path, metavar="FILE", help="a JPEG instead of the one drawn by the program")
    p.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    add_force(p)
    p.add_argument("--compile", action="store_true", help="our training step through torch.compile")
    p.add_argument(
        "--same-allocator", action="store_true", help="torchvision's process keeps freed memory too, as ssd train does"
    )
    p.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Measure; the exit code is 1 if results disagree, 2 for a user's mistake."""
    args = parser().parse_args(argv)
    check_numbers(args, pairs=1)
    if args.json is not None and not args.json.parent.is_dir():
        raise SSDError("its folder does not exist", place=args.json, remedy="Make it first.")
    refuse_existing(args.json, force=args.force)
    check_writable(args.json)

    from ssd.benchmark import runner  # brings torch, so only now
    from ssd.benchmark.fixtures import prepared

    pairs = args.pairs or (3 if args.quick else None)
    with prepared(args.device, args.image, compiled=args.compile) as fixtures:
        usual = [name for name in STAGES if fixtures.device.type == "cuda" or name not in ON_GPU]
        names = args.only or [*usual, *([] if args.quick else [MEMORY])]
        stages = [name for name in names if name != MEMORY]
        facts = runner.run(
            fixtures,
            stages,
            pairs,
            with_memory=MEMORY in names,
            same_allocator=args.same_allocator,
            show=functools.partial(print, flush=True),
        )
    if args.json is not None:
        write_atomic(args.json, (json.dumps(facts, indent=2) + "\n").encode())
        print(f"written: {args.json}")
    return 1 if facts["failed"] else 0
