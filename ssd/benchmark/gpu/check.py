"""`tools/gpu_check.py`: every section in its order, one JSON file, one table."""

import argparse
import os
import time
from pathlib import Path

import torch

from ssd.benchmark.gpu import correctness, speed
from ssd.benchmark.gpu.sections import Section, run_sections, table
from ssd.benchmark.gpu.setup import Setup
from ssd.system.device import choose_device

CHECK = (
    Section("facts", 12.0, correctness.facts),
    Section("tests", 60.0, correctness.tests),
    Section("matching and loss", 6.0, correctness.matching_and_loss),
    Section("post-processing", 10.0, correctness.postprocessing),
    Section("detection", 20.0, correctness.detection),
    Section("no waiting", 5.0, correctness.no_waiting),
    Section("fifty steps", 20.0, correctness.fifty_steps),
    Section("resume", 25.0, correctness.resume),
)
SPEED = (
    Section("network speed", 70.0, speed.network),
    Section("post-processing speed", 25.0, speed.postprocessing),
    Section("detection speed", 25.0, speed.detection),
    Section("training speed", 45.0, speed.training),
    Section("loader speed", 45.0, speed.loader),
    Section("nvJPEG", 8.0, speed.nvjpeg),
    Section("compiled", 60.0, speed.compiled),
)


def parser() -> argparse.ArgumentParser:
    """Arguments of the script."""
    p = argparse.ArgumentParser(
        prog="gpu_check.py",
        description="Compare the device with the CPU, and measure it, in at most eight minutes. The JSON file is "
        "rewritten after every section; a section that fails does not stop the others.",
    )
    p.add_argument("--device", default="cuda", help="cuda (default), cuda:1; cpu tries the check itself")
    p.add_argument("--part", choices=("check", "speed", "all"), default="all", help="correctness, speed, or both")
    p.add_argument("--only", nargs="+", metavar="SECTION", choices=[s.name for s in (*CHECK, *SPEED)])
    p.add_argument("--tiny", action="store_true", help="a small network and few calls: to try the check on a CPU")
    p.add_argument("--seconds", type=float, default=440, help="stop before a section that would end later than this")
    p.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder for gpu_check.json")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run; 1 if a section failed."""
    deadline = time.monotonic()
    args = parser().parse_args(argv)
    deadline += args.seconds
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic products; read at the first of them
    torch.backends.cudnn.benchmark = True
    chosen = {"check": CHECK, "speed": SPEED, "all": (*CHECK, *SPEED)}[args.part]
    sections = [section for section in chosen if args.only is None or section.name in args.only]
    args.out.mkdir(parents=True, exist_ok=True)
    out = args.out / "gpu_check.json"
    setup = Setup(choose_device(args.device), tiny=args.tiny)
    outcomes = run_sections(sections, setup, deadline=deadline, out=out, say=lambda line: print(line, flush=True))
    print(f"\n{table(outcomes)}\n\nwritten: {out}")
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0
