"""Sections that run one after another before a deadline; each result is written before the next section starts."""

import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssd.benchmark.gpu.setup import Setup
from ssd.system.files import write_atomic


class SkippedError(Exception):
    """This section does not apply to this machine; the text gives the reason."""


@dataclass(frozen=True)
class Section:
    """One part of the check. `run` returns figures or raises an error."""

    name: str
    seconds: float  # rough duration on an H200; a section is left out if less time remains
    run: Callable[[Setup], dict[str, Any]]


@dataclass
class Outcome:
    """The result of a section: ok, failed, skipped or out of time."""

    name: str
    state: str
    seconds: float = 0.0
    text: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def run_sections(
    sections: Sequence[Section], setup: Setup, *, deadline: float, out: Path, say: Callable[[str], None]
) -> list[Outcome]:
    """Run the sections that fit before `deadline` (of `time.monotonic`); rewrite `out` after each.

    The outcome of a failed section has its traceback, and the others still run.
    """
    outcomes: list[Outcome] = []
    for section in sections:
        outcomes.append(_run(section, setup, deadline))
        last = outcomes[-1]
        say(f"{last.name:22}{last.state:12}{last.seconds:7.1f} s  {last.text.splitlines()[-1] if last.text else ''}")
        rows = [vars(outcome) for outcome in outcomes]
        write_atomic(out, (json.dumps({"device": str(setup.device), "sections": rows}, indent=1) + "\n").encode())
    return outcomes


def _run(section: Section, setup: Setup, deadline: float) -> Outcome:
    start = time.monotonic()
    if setup.device.type == "cuda" and start + section.seconds > deadline:
        return Outcome(section.name, "no time", text=f"needs {section.seconds:g} s, {deadline - start:.0f} s are left")
    try:
        figures = section.run(setup)
    except SkippedError as reason:
        return Outcome(section.name, "skipped", time.monotonic() - start, str(reason))
    except Exception:
        return Outcome(section.name, "failed", time.monotonic() - start, traceback.format_exc(limit=-4))
    return Outcome(section.name, "ok", time.monotonic() - start, figures=figures)


def table(outcomes: Sequence[Outcome]) -> str:
    """All figures, one per line."""
    lines = []
    for outcome in outcomes:
        lines.append(f"{outcome.name} ({outcome.state}, {outcome.seconds:.1f} s)")
        lines += [f"  {name}: {_short(value)}" for name, value in outcome.figures.items()]
        if outcome.state == "failed":
            lines += [f"  {line}" for line in outcome.text.splitlines()[-6:]]
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
