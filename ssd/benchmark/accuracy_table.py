"""The table of the accuracy suite, in the form of RESULTS.md."""

import statistics
from collections.abc import Sequence
from typing import Any

from ssd.benchmark.accuracy_rows import FIGURES


def table(rows: Sequence[dict[str, Any]], phase: str) -> str:
    """A Markdown table: a row for each data set, number of images and detector, as mean and spread over the seeds.

    The best AP of each set, number of images and epochs is bold. The spread is the standard deviation.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["phase"] == phase:
            key = (row["data"], row["images"], row["epochs"], row["label"], row["backbone"])
            groups.setdefault(key, []).append(row)
    best: dict[tuple[Any, ...], float] = {}
    for key, group in groups.items():
        best[key[:3]] = max(best.get(key[:3], 0.0), _mean(group, "AP"))
    lines = [
        "| set | images | detector | steps | AP | AP50 | AP75 | minutes | runs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, group in sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1], item[0][2], item[0][3])):
        data, images, _, label, *_ = key
        bold = _mean(group, "AP") == best[key[:3]]
        count = f"all {images}" if group[0]["every"] else str(images)
        figures = " | ".join(_cell(group, figure, bold=bold and figure != "AP75") for figure in FIGURES)
        minutes = statistics.mean(row["seconds"] for row in group) / 60
        seeds = f"{len(group)} seed{'s' if len(group) > 1 else ''}"
        name = f"**{label}**" if bold else label
        lines.append(f"| {data} | {count} | {name} | {group[0]['steps']} | {figures} | {minutes:.0f} | {seeds} |")
    return "\n".join(lines)


def _mean(group: Sequence[dict[str, Any]], figure: str) -> float:
    return statistics.mean(row[figure] or 0.0 for row in group)


def _cell(group: Sequence[dict[str, Any]], figure: str, *, bold: bool) -> str:
    text = f"{_mean(group, figure):.3f}"
    text = f"**{text}**" if bold else text
    return f"{text} ± {statistics.stdev(row[figure] or 0.0 for row in group):.3f}" if len(group) > 1 else text
