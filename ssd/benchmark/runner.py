"""Runs the benchmark: the machine, a line for every stage, and all figures as plain JSON types."""

import dataclasses
import os
import statistics
from collections.abc import Callable
from typing import Any

import cv2
import torch
import torchvision

from ssd.benchmark import memory
from ssd.benchmark.fixtures import Fixtures
from ssd.benchmark.product_rates import operations, product_rates, rates_text, share, share_text
from ssd.benchmark.stage_names import STAGES
from ssd.benchmark.stages import COMPARISONS
from ssd.benchmark.timing import DisagreementError, Timing, UnavailableError, time_in_turns
from ssd.benchmark.worker import Workers
from ssd.model.factory import from_settings
from ssd.system.cpu import cpu_name
from ssd.system.device import choose_dtype, cpu_features, ieee_fp32
from ssd.system.environment import environment
from ssd.system.threads import usable_cores

_HEADING = f"{'stage':22}{'ours ms':>10}{'torchvision':>13}{'ratio':>8}   {'of all pairs':>13}{'pairs':>7}   checked"


def run(
    fixtures: Fixtures,
    chosen: list[str],
    pairs: int | None,
    *,
    with_memory: bool,
    same_allocator: bool = False,
    show: Callable[[str], object] = lambda text: None,
) -> dict[str, Any]:
    """Measure stage by stage; `show` gets the description of the machine and then each line of the table."""
    facts: dict[str, Any] = {
        "machine": machine(fixtures.device),
        "stages": [],
        "skipped": [],
        "failed": [],
        "memory": [],
    }
    facts["machine"] |= {"same_allocator": same_allocator, "compiled": fixtures.compiled}
    show(machine_text(facts["machine"]))
    rates: dict[str, float] = {}
    if fixtures.device.type == "cpu":
        rates = facts["machine"]["product_rates"] = product_rates()
        show(rates_text(rates))
    if chosen:
        show(f"\n{_HEADING}")
    with Workers(fixtures, same_allocator=same_allocator) as workers:
        for name in (name for name in STAGES if name in chosen):
            try:
                row = _stage(name, fixtures, pairs, workers, rates)
            except UnavailableError as reason:
                facts["skipped"].append({"name": name, "reason": str(reason)})
                show(f"{name:22}skipped: {reason}")
            except DisagreementError as difference:
                facts["failed"].append({"name": name, "reason": str(difference)})
                show(f"{name:22}FAILED, not timed: {difference}")
            else:
                facts["stages"].append(row)
                show(stage_line(row))
                if row["network"]:
                    show(share_text(row["network"]))
    if with_memory:
        facts["memory"] = memory.measure(fixtures)
        show(f"\n{memory_text(facts['memory'], fixtures.device)}")
    return facts


def _operations(fixtures: Fixtures) -> int:
    """Operations of the network for one image, counted on tensors without numbers."""
    with torch.device("meta"):
        return operations(from_settings(fixtures.settings).eval(), fixtures.settings.network.input_size)


def _stage(
    name: str, fixtures: Fixtures, pairs: int | None, workers: Workers, rates: dict[str, float]
) -> dict[str, Any]:
    comparison = COMPARISONS[name](fixtures)
    with ieee_fp32():  # TF32, torchvision's default on CUDA, would be a disagreement
        checked = comparison.check()
    # Without its networks, before the two processes load theirs.
    comparison = dataclasses.replace(comparison, ours=_nothing, theirs=_nothing, check=_nothing)
    usual, least = comparison.pairs, comparison.repeats
    warm_up = 5 if fixtures.device.type == "cuda" else 2 if usual > 5 else 1
    timing = time_in_turns(*workers.prepare(name), pairs or usual, least=least, warm_up=warm_up)
    row = stage_row(name, timing, checked)
    counted = _operations(fixtures) if comparison.precision in rates else 0
    return row | {"network": share(comparison, row["ours_ms"], counted, rates)}


def _nothing() -> str:
    return ""


def stage_row(name: str, timing: Timing, checked: str) -> dict[str, Any]:
    """One stage in plain JSON types."""
    ours, theirs, ratio = timing.medians()
    return {
        "name": name,
        "ours_ms": round(ours, 4),
        "torchvision_ms": round(theirs, 4),
        "ratio": round(ratio, 3),
        "pairs": len(timing.ours),
        "ratios": [round(value, 3) for value in timing.ratios],
        "checked": checked,
    }


def stage_line(row: dict[str, Any]) -> str:
    """One stage as a line of the table; the spread is the middle half of the ratios."""
    low, high = _middle_half(row["ratios"])
    spread = f"{low:.2f}-{high:.2f}"
    numbers = f"{row['ours_ms']:>10.2f}{row['torchvision_ms']:>13.2f}{row['ratio']:>8.2f}   {spread:>13}"
    return f"{row['name']:22}{numbers}{row['pairs']:>7}   {row['checked']}"


def _middle_half(ratios: list[float]) -> tuple[float, float]:
    if len(ratios) < 4:
        return min(ratios), max(ratios)
    quarters = statistics.quantiles(ratios, n=4)
    return quarters[0], quarters[2]


def memory_text(rows: list[dict[str, Any]], device: torch.device) -> str:
    """The peak memory figures as a table: of the card on CUDA, else of the process."""
    what = "peak memory" if device.type == "cpu" else "peak GPU memory"
    lines = [f"{what:22}{'ours MB':>10}{'torchvision':>13}{'ratio':>8}"]
    for row in rows:
        lines.append(f"{row['name']:22}{row['ours_mb']:>10.0f}{row['torchvision_mb']:>13.0f}{row['ratio']:>8.2f}")
    return "\n".join(lines)


def machine(device: torch.device) -> dict[str, Any]:
    """The machine and the versions on which the figures depend."""
    cuda = device.type == "cuda"
    return {
        "cpu": cpu_name(),
        "features": cpu_features(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "opencv_threads": cv2.getNumThreads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "precision": str(choose_dtype("auto", device)).removeprefix("torch."),
        "peer_decoder": "torchvision.io.decode_jpeg" if hasattr(torchvision.io, "decode_jpeg") else "PIL",
        **environment(),
    }


def machine_text(facts: dict[str, Any]) -> str:
    """The machine in a few lines, with a warning if it is busy."""
    has = [name for name, present in facts["features"].items() if present]
    lacks = [name for name, present in facts["features"].items() if not present]
    versions = facts["versions"]
    lines = [
        f"{facts['cpu']}, {facts['threads']} threads on {facts['cores']} cores, device {facts['device']}",
        f"has {' '.join(has) or 'none'}; lacks {' '.join(lacks) or 'none'}; auto precision is {facts['precision']}",
        f"torch {versions['torch']}, torchvision {versions['torchvision']}, its images by {facts['peer_decoder']}",
    ]
    keeper = "both sides keep" if facts.get("same_allocator") else "ours keeps, as `ssd train` does,"
    lines.append(f"each side in a process of its own; in stages of training {keeper} freed memory")
    if facts.get("compiled"):
        lines.append("our training step goes through torch.compile")
    if facts["load"] is not None and facts["load"] > 0.5:
        lines.append(f"load {facts['load']}: something else is running, so these figures are not for quoting")
    return "\n".join(lines)
