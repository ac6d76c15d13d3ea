"""The page of the data check: contents of a data set, its problems, and the reach of the default boxes."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import UInt8

from ssd.audit.page.distributions import class_section, size_section
from ssd.audit.page.problem_images import copied_images, hardest_images, problem_images
from ssd.audit.readiness import Readiness
from ssd.audit.report import Fit, Report, SplitReport
from ssd.audit.text import fit_is_worth_it, fit_worth
from ssd.data.dataset import Dataset
from ssd.errors import counted
from ssd.evaluation.page.drawn_images import as_jpeg
from ssd.multibox.best_overlaps import REACHED
from ssd.report.axes import Axis
from ssd.report.blocks import (
    Block,
    Cell,
    Gallery,
    Image,
    Lines,
    Page,
    Row,
    Section,
    Source,
    Table,
    Text,
    Tile,
    number,
    percent,
)
from ssd.report.charts import bar_chart
from ssd.report.page import made_by, write_page
from ssd.system.version import __version__

_WRONG = 24  # images of problems
_SHEET = 1200  # pixels of the sheet of augmented images
DrawSheet = Callable[[Dataset], UInt8[np.ndarray, "_ _ 3"]]


def write_dataset_page(path: Path, report: Report, readiness: Readiness, sheet: DrawSheet) -> None:
    """Write the page; `sheet` draws augmented images of a data set.

    Raises:
        SSDError: the file cannot be written.
    """
    write_page(dataset_page(report, readiness, sheet), path)


def dataset_page(report: Report, readiness: Readiness, sheet: DrawSheet) -> Page:
    """Lay out the page."""
    counts = ", ".join(f"{split.name} {split.images} images" for split in report.splits)
    sections = [
        _problems(report, readiness.cautions),
        class_section(report),
        size_section(report),
        _reach(report),
        *([_fit(report.fit)] if report.fit is not None else []),
        _augmented(report, sheet),
    ]
    return Page(
        title=f"Data set: {report.folder.rstrip('/').rpartition('/')[2] or report.folder}",
        subtitle=f"{report.folder}: {counts}",
        sections=[section for section in sections if section.blocks],
        tiles=_tiles(report),
        verdict=Text(f"{readiness.line[:1].upper()}{readiness.line[1:]}.", "bad" if readiness.stops else "good"),
        made=made_by(__version__),
    )


def _tiles(report: Report) -> list[Tile]:
    splits = report.splits
    wrong = sum(len(split.stopping) for split in splits) + len(report.opened.problems)
    images = sum(split.images for split in splits)
    tiles = [
        Tile("images", f"{images:,}", f"in {counted(len(splits), 'split')}"),
        Tile("objects", f"{sum(split.objects for split in splits):,}", "crowd regions apart"),
        Tile("classes", str(len({row.name for split in splits for row in split.classes}))),
        Tile("bad", f"{wrong:,}", "problems at which training would stop"),
    ]
    if splits and splits[0].objects:
        own = report.choices[0].name
        tiles.append(Tile("reached", percent(splits[0].reach[own].recall), f"objects of {splits[0].name}, {own}"))
    return tiles


def _problems(report: Report, cautions: Sequence[str]) -> Section:
    blocks: list[Block] = []
    if cautions:
        blocks.append(Lines(cautions, "Worth a look"))
    if report.opened.problems:
        blocks.append(Lines([str(problem) for problem in report.opened.problems], "The folder"))
    kinds = [(split.name, *kind, lines) for split in report.splits for kind, lines in split.by_kind().items()]
    rows: list[Row] = [[split, kind, fate, str(len(lines))] for split, kind, fate, lines in kinds]
    if rows:
        blocks.append(Table(["split", "problem", "what becomes of it", "count"], rows, words=3))
    images = list(itertools.islice(problem_images(report), _WRONG))
    if images:
        note = "Orange: the box in question, as far as it lies in the image."
        blocks.append(Gallery(images, "Where they are", note, 200))
    blocks += [Lines(lines, f"{split}: {kind}", shown=20) for split, kind, _, lines in kinds]
    if report.copies:
        blocks.append(Lines(report.copied(), f"Images with the same content: {len(report.copies)}", shown=20))
    if report.near:
        title = f"Images that look like one of another split: {len(report.near)}"
        blocks.append(Lines(list(map(str, report.near)), title, shown=20))
    twins = list(copied_images(report))
    if twins:
        blocks.append(Gallery(twins, "Copies and look-alikes", "Two of each, side by side.", 200))
    return Section("problems", "Problems", blocks or [Text("None found.", "good")])


def _reach(report: Report) -> Section:
    title = "What the default boxes reach"
    if not report.splits or not report.splits[0].objects:
        return Section("reach", title, [])
    split = report.splits[0]
    sizes = list(next(iter(split.reach.values())).buckets)
    recalls = {name: [reach.buckets[size].recall for size in sizes] for name, reach in split.reach.items()}
    chart = bar_chart("Share reached", sizes, recalls, x="size of the object", y=Axis(0, 1, "IoU of 0.5 or more"))
    rows: list[Row] = [
        [
            name,
            f"{reach.default_boxes:,}",
            *(f"{number(reach.buckets[size].recall)} / {number(reach.buckets[size].mean)}" for size in sizes),
        ]
        for name, reach in split.reach.items()
    ]
    note = "Share of the objects with an IoU of 0.5 / mean of the best IoUs. Sizes are COCO's, in pixels of the image."
    blocks: list[Block] = [chart, Table(["default boxes", "number", *sizes], rows, note=note)]
    blocks.append(Lines(_remarks(split, report.choices[0].name)))
    hardest = list(hardest_images(report))
    if hardest:
        blocks.append(Gallery(hardest, "Farthest from any default box", "", 180))
    intro = (
        f"An object of {split.name} is reached when a default box overlaps it by 0.5; otherwise it learns "
        "from its one best box, which has a long way to go. The paper's tables at 300 and 512 pixels side by side."
    )
    return Section("reach", title, blocks, intro)


def _remarks(split: SplitReport, own: str) -> list[str]:
    seconds = split.missed_best_box
    return [
        f"{own}: {split.reach[own].unreached} of {split.objects} objects have no default box with an IoU of {REACHED} "
        "and learn from one box each.",
        f"{seconds.count} of {seconds.objects} objects get their second choice, the best being another object's.",
    ]


def _fit(fit: Fit) -> Section:
    splits = [f"{split}{' (held out)' if place else ' (fitted to)'}" for place, split in enumerate(fit.splits)]
    rows: list[Row] = [
        [name, *(Cell(number(bucket.recall), bar=bucket.recall) for bucket in buckets)]
        for name, buckets in fit.reached.items()
    ]
    blocks: list[Block] = [Table(["default boxes", *splits], rows), Text(" ".join(fit_worth(fit)))]
    if fit_is_worth_it(fit):
        config = yaml.safe_dump({"model": fit.shapes.config()}, sort_keys=False, default_flow_style=None, width=100)
        blocks.append(Source(config, "For the config of a run that does not start from another detector's weights"))
    return Section("fit", "Fitted default boxes", blocks, "Share of the objects with an IoU of 0.5.")


def _augmented(report: Report, sheet: DrawSheet) -> Section:
    usable, blocks = report.usable, []
    if usable is not None and len(usable):
        image = Image(as_jpeg(sheet(usable), _SHEET), "Augmented training images", f"of {usable.split}")
        blocks.append(Gallery([image], width=600))
    intro = "Augmented training images, as the network is shown them in the first epoch."
    return Section("augmented", "What training shows", blocks, intro)
