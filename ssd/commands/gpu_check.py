"""`gpu-check`: compares a CUDA device with the CPU and measures its speed, in at most eight minutes."""

import argparse
import os
import time
from pathlib import Path

from ssd.commands._shared import guarded
from ssd.system.files import writing


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd gpu-check",
        description="Compare a CUDA device with the CPU, and measure it, in at most eight minutes. gpu_check.json is "
        "rewritten after every section; a section that fails does not stop the others.",
    )
    p.add_argument("--device", default="cuda", help="cuda (default), cuda:1; cpu tries the check itself")
    p.add_argument("--part", choices=("check", "speed", "all"), default="all", help="correctness, speed, or both")
    p.add_argument(
        "--only",
        nargs="+",
        action="extend",
        metavar="SECTION",
        help="these sections alone, by their names in the output",
    )
    p.add_argument("--tiny", action="store_true", help="a small network and few calls: to try the check on a CPU")
    p.add_argument("--seconds", type=float, default=440, help="leave out sections that would end later than this")
    p.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder for gpu_check.json")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Run the check; the exit code is 1 if a section failed, 2 for a user's mistake."""
    deadline = time.monotonic()
    args = parser().parse_args(argv)
    deadline += args.seconds
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic products; read at the first one

    from ssd.benchmark.gpu.check import chosen_sections
    from ssd.benchmark.gpu.sections import run_sections, table
    from ssd.benchmark.gpu.setup import Setup
    from ssd.system.device import choose_device, tuned_convolutions

    sections = chosen_sections(args.part, args.only)
    setup = Setup(choose_device(args.device), tiny=args.tiny)
    with writing(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
    out = args.out / "gpu_check.json"
    with tuned_convolutions():
        outcomes = run_sections(sections, setup, deadline=deadline, out=out, say=lambda line: print(line, flush=True))
    print(f"\n{table(outcomes)}\n\nwritten: {out}")
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0
