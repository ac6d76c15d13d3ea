"""The page of the missed objects: their causes, what mending each would regain, and the objects themselves."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jaxtyping import Float

from ssd.data.dataset import Dataset
from ssd.errors import counted
from ssd.evaluation.causes.explain import Cause, MissedObject
from ssd.evaluation.causes.remedies import most_frequent
from ssd.evaluation.causes.text import CauseFigures, from_score
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.page.drawn_images import Drawn, as_jpeg, draw_mistake
from ssd.evaluation.page.gallery import spread
from ssd.report.blocks import Block, Cell, Gallery, Image, Page, Row, Section, Table, Text, Tile, number
from ssd.report.page import made_by, write_page
from ssd.system.version import __version__

_SHOWN = 12  # objects of each cause
_PAIRS = 12
_DRAWN = 40  # most detections on one image
_MEANINGS = {
    Cause.UNKNOWN_CLASS: "The detector was trained without this class.",
    Cause.LABEL: "A confident detection says something else about the object, or it is annotated twice. Look at these "
    "first: a wrong label is no mistake of the detector.",
    Cause.RESOLUTION: "At the network's input the shorter side is below a cell of its finest level, so that too few "
    "pixels are left.",
    Cause.DEFAULT_BOXES: "No default box overlaps the object by 0.5, so that a single one learned such objects.",
    Cause.LOCATION: "A detection of its class overlaps it, by less than 0.5, and is no other object's.",
    Cause.SCORE: "Default boxes reach it and none of their scores for its class is worth a lower threshold.",
    Cause.CLASS: "A detection has its place, with another class.",
    Cause.SUPPRESSION: "The network gave it a right box above the threshold, which post-processing did not keep.",
    Cause.THRESHOLD: "A right detection has a score below the threshold, but not below that of the greatest F1.",
}


def write_missed_page(
    path: Path,
    summary: Mapping[str, Any],
    causes: Sequence[CauseFigures],
    missed: Sequence[MissedObject],
    details: Details,
    dataset: Dataset,
    thresholds: Mapping[str, float],
) -> None:
    """Write the page; `summary` is `WhyResult.to_dict()`, `thresholds` are those of each class in their order.

    Raises:
        SSDError: the file cannot be written, or an image can no longer be read.
    """
    draw = _Drawing(details, dataset, np.array([*thresholds.values()]))
    weights = PurePath(summary["weights"])
    best = max(causes, key=lambda row: row.gain or 0.0, default=None)
    sections = [_overview(causes), *(_section(row, missed, draw) for row in causes)] if causes else []
    page = Page(
        title=f"Missed objects: {weights.parent.name if weights.stem in ('best', 'last') else weights.name}",
        subtitle=f"{summary['data']}, split {summary['split']}, detections from {from_score(thresholds)}",
        sections=sections,
        tiles=[
            Tile("objects", str(summary["objects"])),
            Tile("found", str(summary["found"]), "IoU 0.50"),
            Tile("missed", str(len(missed))),
            Tile("AP50", number(summary["AP50"]), f"of the detections from {from_score(thresholds)}"),
            Tile("AP50 mended", number(summary["AP50_mended"]), "with every missed object"),
        ],
        verdict=Text("No object is missed.", "good") if best is None else _verdict(best),
        made=made_by(__version__),
    )
    write_page(page, path)


def _verdict(best: CauseFigures) -> Text:
    objects = counted(best.objects, "object")
    return Text(f"The cause that costs most: {best.cause.value} ({objects}). To try first: {best.remedy}")


def _overview(causes: Sequence[CauseFigures]) -> Section:
    greatest = max([row.gain or 0.0 for row in causes], default=0.0) or 1.0
    rows: list[Row] = [
        [
            row.cause.value,
            row.remedy,
            str(row.objects),
            Cell(number(row.gain), bar=max(row.gain or 0.0, 0.0) / greatest),
            number(row.ap50),
        ]
        for row in causes
    ]
    note = (
        "AP50 regained: everything evaluated again with the objects of this cause alone mended. Bars are shares of the "
        "greatest gain. A gain is what the stage costs, so an upper limit of what one key brings."
    )
    table = Table(["cause", "try first", "objects", "AP50 regained", "AP50 then"], rows, note=note, words=2)
    intro = (
        "Each missed object has one cause: the first stage of the pipeline, from the image on, that explains it. On "
        "the images it is orange, detections are blue; what overlaps it is named."
    )
    return Section("causes", "Causes", [table], intro)


def _section(row: CauseFigures, missed: Sequence[MissedObject], draw: "_Drawing") -> Section:
    own = [item for item in missed if item.cause is row.cause]
    blocks: list[Block] = []
    pairs = most_frequent(own)
    if pairs:
        rows: list[Row] = [[name, other, str(count)] for name, other, count in pairs[:_PAIRS]]
        blocks.append(Table(["there is", "taken for", "times"], rows, words=2))
    images = [draw.missed(item) for item in spread(own, _SHOWN)]
    more = "At most two of an image." if len(own) > len(images) else ""
    blocks.append(Gallery(images, f"{len(images)} of {len(own)}" if more else "", more, 230))
    anchor = row.cause.name.lower().replace("_", "-")
    title = f"{row.cause.value[0].upper()}{row.cause.value[1:]} ({len(own)})"
    return Section(anchor, title, blocks, f"{_MEANINGS[row.cause]} To try first: {row.remedy}")


class _Drawing:
    """Draws missed objects; an image is decoded once for consecutive ones."""

    def __init__(self, details: Details, dataset: Dataset, thresholds: Float[np.ndarray, "C"]) -> None:
        self._details, self._thresholds = details, thresholds
        self._image = functools.lru_cache(maxsize=4)(lambda place: dataset.load(place).image)

    def missed(self, item: MissedObject) -> Image:
        """A missed object with the detections around it, the one in question among them at any score."""
        found = self._details.found(item.image)
        order = np.argsort(-found.scores, kind="stable")[:_DRAWN]
        counts = found.scores >= self._thresholds[found.labels]
        kept = [row for row in order.tolist() if counts[row] or row == item.detection]
        texts = [f"{self._details.class_names[found.labels[row]]} {found.scores[row]:.2f}" for row in kept]
        nothing: Drawn = (found.boxes[:0], [])
        drawn = draw_mistake(self._image(item.image), item.box, item.name, nothing, (found.boxes[kept], texts))
        return Image(as_jpeg(drawn), f"{item.name}: {item.detail}", PurePath(item.path).name)
