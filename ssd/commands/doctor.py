"""`doctor`: examines the machine and the installation, and prints problems with the commands that fix them."""

import argparse
import dataclasses
import json

from ssd.commands._shared import guarded
from ssd.system.doctor.checks import Finding, examine

EPILOG = """examples:
  ssd doctor                    versions, processor, OpenCV's two wheels, extras, folders
  ssd doctor --json | jq .      the same for a program

The exit code is 1 where something is broken, 0 where there are notes at most."""
_SIGNS = {"ok": "ok  ", "note": "note", "problem": "BAD "}


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd doctor",
        description="Examine the installation and the machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--json", action="store_true", help="print the findings as JSON instead of text")
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Examine; the exit code is 1 if something is broken, 2 for a user's mistake."""
    args = parser().parse_args(argv)
    findings = list(examine())
    broken = [finding for finding in findings if finding.state == "problem"]
    if args.json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"broken": len(broken), "findings": rows}, indent=2))
    else:
        print(as_text(findings))
        verdict = f"{len(broken)} of {len(findings)} are broken, see BAD above." if broken else "nothing is broken."
        print(f"\nverdict: {verdict}")
    return int(bool(broken))


def as_text(findings: list[Finding]) -> str:
    """A line for each finding, and its remedy below it."""
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{_SIGNS[finding.state]}  {finding.what:{width}}  {finding.text}")
        if finding.remedy:
            lines.append(f"{'':{width + 6}}  -> {finding.remedy}")
    return "\n".join(lines)
