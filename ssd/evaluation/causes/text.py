"""The causes of missed objects as text and as plain JSON types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssd.errors import printable
from ssd.evaluation.causes.explain import Cause, MissedObject
from ssd.report.blocks import number
from ssd.report.text_table import aligned


@dataclass(frozen=True)
class CauseFigures:
    """The objects missed for one cause, the AP50 with these alone mended, and what to try first."""

    cause: Cause
    objects: int
    ap50: float | None
    gain: float | None  # of AP50
    remedy: str


def from_score(thresholds: Mapping[str, float]) -> str:
    """The thresholds of the classes as words: `a score of 0.50 on`."""
    least, most = min(thresholds.values()), max(thresholds.values())
    if least == most:
        return f"a score of {least:.2f} on"
    return f"a score of {least:.2f} to {most:.2f} on, by class"


def cause_table(causes: Sequence[CauseFigures]) -> str:
    """One row for each cause, the greatest gain first."""
    rows = [["cause", "try first", "objects", "AP50 regained", "AP50 then"]]
    for row in causes:
        gain = "n/a" if row.gain is None else f"{row.gain:+.3f}"
        rows.append([row.cause.value, row.remedy, str(row.objects), gain, number(row.ap50)])
    return aligned(rows, left=2)


def object_lines(missed: Sequence[MissedObject], show: int) -> list[str]:
    """The first `show` missed objects, one a line."""
    lines = []
    for item in missed[:show]:
        corners = " ".join(f"{side:.0f}" for side in item.box)
        lines.append(printable(f"{item.path}: {item.name} at {corners}: {item.cause.value}, {item.detail}"))
    more = len(missed) - len(lines)
    return [*lines, f"... and {more} more"] if more else lines


def as_rows(causes: Sequence[CauseFigures], missed: Sequence[MissedObject]) -> dict[str, Any]:
    """Both lists in plain JSON types."""
    return {
        "causes": [
            {"cause": row.cause.value, "objects": row.objects, "AP50": row.ap50, "gain": row.gain, "remedy": row.remedy}
            for row in causes
        ],
        "missed": [
            {
                "path": item.path,
                "box": list(item.box),
                "name": item.name,
                "cause": item.cause.value,
                "detail": item.detail,
                "score": round(item.score, 4),
                "other": item.other,
            }
            for item in missed
        ],
    }
