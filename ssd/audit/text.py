"""A report as text and as plain JSON types."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ssd.audit.readiness import Readiness
from ssd.audit.recall import Bucket, Reach
from ssd.audit.report import FITTED, Fit, Report, SplitReport
from ssd.data.formats.annotations import Problem
from ssd.errors import printable
from ssd.report.blocks import number
from ssd.report.text_table import aligned
from ssd.rules import Depth
from ssd.tiles import check_tiles, has_tiles

_WORTH = 0.02  # of held-out objects: what a fit has to reach more than the best table


def as_text(report: Report, readiness: Readiness, *, show: int) -> str:
    """A section for every split, then one for all of them; the last line is the conclusion."""
    parts = [_opening(report)]
    if report.opened.problems:
        parts.append("\n".join(["problems of the folder", *_shown(list(map(str, report.opened.problems)), show)]))
    if report.opened.unused:
        lines = [f"{problem.path}: {problem.message}" for problem in report.opened.unused]
        parts.append("\n".join(["in the folder and not used", *_shown(lines, show)]))
    if has_tiles(report.tiles):
        named = report.tiles if report.tiles == "auto" else " x ".join(map(str, check_tiles(report.tiles)))
        parts.append(
            f"sizes and default boxes: of the objects that are whole in a tile ({named}) or in the whole image"
        )
    for place, split in enumerate(report.splits):
        parts += _split(split, show, report.dataset(split).depth, first=place == 0)
    if any(split.classes for split in report.splits):
        parts.append(_classes(report))
    if report.repeats is not None:
        parts.append("\n".join(map(printable, report.repeats.lines())))
    if report.copies:
        lines = [f"images with the same content: {len(report.copies)}", *_shown(report.copied(), show)]
        parts.append("\n".join(lines))
    if report.near:
        lines = [f"images that look like one of another split: {len(report.near)}"]
        parts.append("\n".join([*lines, *_shown(list(map(str, report.near)), show)]))
    if report.fit is not None:
        parts.append(_fit(report.fit))
    if readiness.cautions:
        parts.append("\n".join(["worth a look", *(f"  {printable(caution)}" for caution in readiness.cautions)]))
    parts.append(f"verdict: {printable(readiness.line)}.")
    return "\n\n".join(parts)


def as_dict(report: Report, readiness: Readiness) -> dict[str, Any]:
    """The report in plain JSON types, with complete lists."""
    return {
        "data": report.folder,
        "verdict": {"stops": readiness.stops, "line": readiness.line, "worth_a_look": list(readiness.cautions)},
        "problems": [_problem_dict(problem) for problem in report.opened.problems],
        "unused": [_problem_dict(problem) for problem in report.opened.unused],
        "splits": {split.name: _split_dict(split) for split in report.splits},
        "not_checked_again": list(report.opened.unions),
        "copies": [
            {"leaks": copies.leaks, "places": [list(place) for place in copies.places]} for copies in report.copies
        ],
        "near_copies": [dataclasses.asdict(pair) for pair in report.near],
        "boxes_from_zero": report.boxes_from_zero,
        "tiles": report.tiles,
        "repeats": None if report.repeats is None else dataclasses.asdict(report.repeats),
        "fit": None if report.fit is None else _fit_dict(report.fit),
    }


def _opening(report: Report) -> str:
    names = ", ".join(f"{split.name} {split.images} images" for split in report.splits)
    unions = [f"; {name} holds the same images and is not checked again" for name in report.opened.unions]
    opened = report.opened
    both = opened.named(opened.train) is not None and opened.named(opened.val) is not None
    used = f"; training uses {opened.train}, validation {opened.val}" if both else ""
    return printable(f"{report.folder}: {names}{''.join(unions)}{used}")


def _split(split: SplitReport, show: int, depth: Depth | None, *, first: bool) -> Iterator[str]:
    yield printable(f"== {split.name}: {split.images} images, {split.objects} objects")
    if split.problems:
        yield _problems(split, show)
    if split.empty:
        yield "\n".join([f"images without objects: {len(split.empty)}", *_shown(split.empty, show)])
    if split.values is not None and not split.values.loses(depth):
        yield split.values.about(depth)
    if split.sizes is not None:
        yield _sizes(split)
    if split.objects:
        yield _reach(split)
    if split.hardest and first:
        head = ["farthest from any default box (pixels of the input)", "class", "width", "height", "IoU"]
        hard = [[h.path, h.name, f"{h.width:g}", f"{h.height:g}", number(h.overlap)] for h in split.hardest[:show]]
        yield aligned([head, *hard])


def _problems(split: SplitReport, show: int) -> str:
    lines = [printable(f"problems of {split.name}: {len(split.problems)}")]
    for (kind, fate), texts in split.by_kind().items():
        lines += [f"  {kind}: {len(texts)} ({fate})", *_shown(texts, show)]
    return "\n".join(lines)


def _shown(lines: Sequence[str], show: int) -> list[str]:
    more = [f"    ... and {len(lines) - show} more"] if len(lines) > show else []
    return [*(f"    {printable(line)}" for line in lines[:show]), *more]


def _classes(report: Report) -> str:
    """Counts of every class, the splits side by side; difficult and crowd objects if there are any."""
    columns = [
        (split, kind)
        for split in report.splits
        for kind in ("objects", "images", "difficult", "crowd")
        if kind in ("objects", "images") or any(getattr(row, kind) for row in split.classes)
    ]
    counts = {(split.name, row.name): row for split in report.splits for row in split.classes}
    names = list(dict.fromkeys(name for _, name in counts))
    present = [name for name in names if any(counts[key].images for key in counts if key[1] == name)]
    rows = [
        [name, *(str(getattr(counts.get((split.name, name)), kind, 0)) for split, kind in columns)] for name in present
    ]
    absent = len(names) - len(present)
    more = f"\nand {absent} of {len(names)} classes do not occur" if absent else ""
    # A split is named over its first column only.
    heads = [split.name if kind == "objects" else kind for split, kind in columns]
    return aligned([["objects in", *heads], *rows]) + more


def _sizes(split: SplitReport) -> str:
    sizes = split.sizes
    assert sizes is not None
    buckets = ", ".join(f"{count} {name}" for name, count in sizes.buckets.items())
    sides = ", ".join(f"{side:g}" for side in sizes.sides.values())
    percents = ", ".join(map(str, sizes.sides))
    return (
        f"object sizes: {buckets} (COCO's limits of 32 and 96 pixels)\n"
        f"  at {sizes.input_size} pixels: sides of {sides} (percentiles {percents}); "
        f"{sizes.below_cell} thinner than a cell of the finest level; {100 * sizes.elongated:.1f} % beyond 3:1"
    )


def _reach(split: SplitReport) -> str:
    own, reach = next(iter(split.reach.items()))
    seconds, objects = split.missed_best_box, len(reach.overlaps)
    rows = [
        [name, str(one.default_boxes), *(_pair(bucket) for bucket in one.buckets.values())]
        for name, one in split.reach.items()
    ]
    lines = [
        "share of objects with an IoU of 0.5 (and mean of the best IoUs), by object size",
        aligned([["default boxes", "number", *reach.buckets], *rows]),
        f"{own}: {reach.unreached} of {objects} objects have no default box with an IoU of 0.5 and learn from "
        f"one box each;",
        f"  {seconds.count} of {seconds.objects} get their second choice, the best being another object's",
    ]
    return "\n".join(lines)


def _pair(bucket: Bucket) -> str:
    recall, mean = number(bucket.recall), number(bucket.mean)
    return recall if recall == mean else f"{recall} ({mean})"  # both are n/a where there are no objects


def _fit(fit: Fit) -> str:
    rows = [[name, *map(_pair, buckets)] for name, buckets in fit.reached.items()]
    values = (f"    {key}: {json.dumps(value)}" for key, value in fit.shapes.config().items())
    lines = [aligned([["default boxes, fitted", *fit.splits], *rows]), *(f"  {line}" for line in fit_worth(fit))]
    if fit_is_worth_it(fit):
        lines += [
            "  As config values, for weights that are not another detector's (model.weights):",
            "  model:",
            *values,
        ]
    return "\n".join(lines)


def fit_is_worth_it(fit: Fit) -> bool:
    """Whether the fitted boxes are recommended: they reach clearly more held-out objects than the tables."""
    return fit.held_out_gain is not None and fit.held_out_gain >= _WORTH


def fit_worth(fit: Fit) -> list[str]:
    """Lines on the gain of the fit on held-out objects, and on the recommended default boxes."""
    own, held_out = next(iter(fit.reached)), fit.held_out_gain is not None
    place = 1 if held_out else 0
    recalls = {name: buckets[place].recall or 0.0 for name, buckets in fit.reached.items() if name != FITTED}
    best = max(recalls, key=lambda name: recalls[name])  # the config's own come first, and stay where all are equal
    if fit.held_out_gain is None:
        found = "No second split has objects to hold the fit against: it may only suit these."
    else:
        points = 100 * fit.held_out_gain
        found = f"On {fit.splits[1]}, which was not fitted to, {points:+.1f} points against the best table, {best}."
    if fit_is_worth_it(fit):
        return [f"{found} The fitted boxes are worth trying."]
    split = fit.splits[place]
    if best == own:
        decision = f"Keep {_in_config(own)}: the best table on {split}."
        if len(recalls) == 1:
            decision = f"Keep {_in_config(own)}."
    else:
        gain = 100 * (recalls[best] - recalls[own])
        # On BCCD coco's table reached 4 points more, and AP fell by 0.06 (docs/lab-notes.md, Ablation).
        decision = f"Try {_in_config(best)} against {_in_config(own)} in two short runs: it reaches {gain:+.1f} points"
        decision += f" on {split}, but recall is not AP. (Not with model.weights: another detector brings its own.)"
    return [f"{found} The fitted boxes are not advised (--json has them).", decision]


def _in_config(name: str) -> str:
    """The config values of these default boxes; `SSD300 coco` is that of a table."""
    return f"model.box_table={name.split()[-1]}" if name.startswith("SSD") else "the config's own default boxes"


def _split_dict(split: SplitReport) -> dict[str, Any]:
    return {
        "images": split.images,
        "objects": split.objects,
        "problems": [{**_problem_dict(problem), "fate": split.fate(problem)} for problem in split.problems],
        "counts": dict(Counter(problem.kind for problem in split.problems)),
        "classes": [dataclasses.asdict(row) for row in split.classes],
        "without_objects": list(split.empty),
        "sizes": None if split.sizes is None else dataclasses.asdict(split.sizes),
        "default_boxes": {name: _reach_dict(reach) for name, reach in split.reach.items()},
        "missed_best_box": dataclasses.asdict(split.missed_best_box),
        "values": None if split.values is None else dataclasses.asdict(split.values),
        "hardest": [dataclasses.asdict(hard) for hard in split.hardest],
    }


def _problem_dict(problem: Problem) -> dict[str, Any]:
    """A problem as plain JSON types, with the path of its image."""
    return {key: value for key, value in dataclasses.asdict(problem).items() if key != "image"}


def _reach_dict(reach: Reach) -> dict[str, Any]:
    return {
        "number": reach.default_boxes,
        "sizes": {name: dataclasses.asdict(bucket) for name, bucket in reach.buckets.items()},
        "unreached": reach.unreached,
    }


def _fit_dict(fit: Fit) -> dict[str, Any]:
    reached = {
        name: dict(zip(fit.splits, (dataclasses.asdict(bucket) for bucket in buckets), strict=True))
        for name, buckets in fit.reached.items()
    }
    return {
        "model": fit.shapes.config(),
        "reached": reached,
        "advised": fit_is_worth_it(fit),
        "advice": " ".join(fit_worth(fit)),
    }
