"""The dataset doctor's page (`--report`): what the report room shows, gathered from the examination."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import UInt8

from ssd.audit.page.distributions import ClassRow, SplitFigures, Wrong
from ssd.audit.page.page import DatasetFigures, Fitted, Reached, dataset_page
from ssd.audit.readiness import Readiness
from ssd.audit.report import Fit, Report, SplitReport
from ssd.audit.text import fit_is_worth_it, fit_worth
from ssd.data.dataset import Dataset
from ssd.data.formats.annotations import Problem
from ssd.data.objects import gather
from ssd.errors import SSDError
from ssd.evaluation.page.drawn_images import as_jpeg, draw_mistake
from ssd.images.decode import load_image
from ssd.multibox.best_overlaps import REACHED
from ssd.report.blocks import Image
from ssd.report.page import made_by, write_page
from ssd.system.version import __version__

_WRONG = 24  # images of problems
_OF_ONE_KIND = 6
_HARDEST = 12
_OF_ONE_IMAGE = 2
_SHEET = 1200  # pixels of the sheet of augmented images
_NOTHING = (np.zeros((0, 4), np.float32), [""] * 0)
Sheet = UInt8[np.ndarray, "_ _ 3"]


def write_dataset_page(path: Path, report: Report, verdict: Readiness, sheet: Callable[[Dataset], Sheet]) -> None:
    """Write the page; `sheet` draws augmented images of a data set.

    Raises:
        SSDError: the file cannot be written.
    """
    own = report.choices[0].boxes
    figures = DatasetFigures(
        folder=report.folder,
        verdict=verdict.line,
        stops=verdict.stops,
        cautions=verdict.cautions,
        splits=[_split(split, _dataset(report, split), own.input_size) for split in report.splits],
        input_size=own.input_size,
        box_sizes=own.min_sizes,
        box_ratios=[1.0, *(r for level in own.aspect_ratios for ratio in level for r in (ratio, 1 / ratio))],
        reached=_reached(report.splits[0]) if report.splits and report.splits[0].objects else [],
        remarks=_remarks(report.splits[0], report.choices[0].name) if report.splits else [],
        folder_problems=[str(problem) for problem in report.opened.problems],
        wrong_images=list(itertools.islice(_wrong_images(report), _WRONG)),
        hardest=list(_hardest(report)),
        copies=[
            ("in several splits: " if copies.leaks else "in one split: ")
            + " = ".join(f"{s}/{p}" for s, p in copies.places)
            for copies in report.copies
        ],
        augmented=_augmented(report, sheet),
        fit=None if report.fit is None else _fitted(report.fit),
        made=made_by(__version__),
    )
    write_page(dataset_page(figures), path)


def _dataset(report: Report, split: SplitReport) -> Dataset:
    opened = report.opened.named(split.name)
    assert opened is not None, "every split that is reported on was opened"
    return opened.dataset


def _split(split: SplitReport, dataset: Dataset, input_size: int) -> SplitFigures:
    boxes = gather(dataset).boxes.numpy()
    kinds: dict[tuple[str, str], list[str]] = {}
    for problem in split.problems:
        kinds.setdefault((problem.kind, split.fate(problem)), []).append(str(problem))
    return SplitFigures(
        name=split.name,
        images=split.images,
        objects=split.objects,
        empty=len(split.empty),
        classes=[ClassRow(row.name, row.objects, row.images) for row in split.classes],
        sides=(boxes[:, 2:] - boxes[:, :2]).astype(float) * input_size,
        per_image=[int((~record.crowd).sum()) for record in dataset.records],
        wrong=[Wrong(kind, len(lines), fate, lines) for (kind, fate), lines in kinds.items()],
    )


def _reached(split: SplitReport) -> list[Reached]:
    return [
        Reached(
            name,
            reach.default_boxes,
            {size: bucket.recall for size, bucket in reach.buckets.items()},
            {size: bucket.mean for size, bucket in reach.buckets.items()},
        )
        for name, reach in split.reach.items()
    ]


def _remarks(split: SplitReport, own: str) -> list[str]:
    if not split.objects:
        return []
    seconds = split.missed_best_box
    return [
        f"{own}: {split.reach[own].unreached} of {split.objects} objects have no default box with an IoU of {REACHED} "
        "and learn from one box each.",
        f"{seconds.count} of {seconds.objects} objects get their second choice, the best being another object's.",
    ]


def _wrong_images(report: Report) -> Iterator[Image]:
    """Images of problems that can be shown, a few of each kind."""
    for split in report.splits:
        shown: dict[str, int] = {}
        for problem in sorted(split.problems, key=lambda problem: split.fate(problem) != "stops"):
            if problem.image is None or shown.get(problem.kind, 0) >= _OF_ONE_KIND:
                continue
            shown_image = _of_problem(problem, split.name)
            if shown_image is not None:
                shown[problem.kind] = shown.get(problem.kind, 0) + 1
                yield shown_image


def _of_problem(problem: Problem, split: str) -> Image | None:
    """The box in question with its surroundings, or the whole image; None where it cannot be decoded."""
    assert problem.image is not None
    try:
        image = load_image(problem.image)
    except SSDError:  # that is what the problem says, and the list of problems says it, too
        return None
    box = problem.box or (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    drawn = draw_mistake(image, box, problem.name or "", _NOTHING, _NOTHING, least=max(image.shape) // 3)
    return Image(as_jpeg(drawn), f"{problem.kind}: {problem.message}", f"{split}: {Path(problem.image).name}")


def _hardest(report: Report) -> Iterator[Image]:
    """The objects of the first split that are farthest from any default box."""
    if not report.splits:
        return
    dataset, own = _dataset(report, report.splits[0]), report.choices[0]
    objects, overlaps = gather(dataset), report.splits[0].reach[own.name].overlaps
    seen: Counter[int] = Counter()
    for row in overlaps.argsort(stable=True).tolist():
        place = int(objects.records[row])
        if overlaps[row] >= REACHED or sum(seen.values()) == _HARDEST:
            break
        if seen[place] == _OF_ONE_IMAGE:
            continue
        seen[place] += 1
        record = dataset.records[place]
        left, top, right, bottom = (
            objects.boxes[row].numpy() * [record.width, record.height, record.width, record.height]
        ).tolist()
        sides = (objects.boxes[row, 2:] - objects.boxes[row, :2]) * own.boxes.input_size
        name = dataset.class_names[objects.labels[row]]
        try:
            drawn = draw_mistake(dataset.read(record), (left, top, right, bottom), name, _NOTHING, _NOTHING)
        except SSDError:  # listed among the problems
            continue
        caption = f"{name}: IoU {float(overlaps[row]):.2f}"
        yield Image(as_jpeg(drawn), caption, f"{sides[0]:.0f} x {sides[1]:.0f} at the input, {Path(record.path).name}")


def _augmented(report: Report, sheet: Callable[[Dataset], Sheet]) -> Image | None:
    if report.usable is None or not len(report.usable):
        return None
    return Image(as_jpeg(sheet(report.usable), _SHEET), "Augmented training images", f"of {report.usable.split}")


def _fitted(fit: Fit) -> Fitted:
    config = yaml.safe_dump({"model": fit.shapes.config()}, sort_keys=False, default_flow_style=None, width=100)
    return Fitted(
        splits=[f"{split}{' (fitted to)' if place == 0 else ' (held out)'}" for place, split in enumerate(fit.splits)],
        reached={name: [bucket.recall for bucket in buckets] for name, buckets in fit.reached.items()},
        worth=" ".join(fit_worth(fit)),
        config=config if fit_is_worth_it(fit) else "",
    )
