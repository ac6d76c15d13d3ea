"""The page of a label review: k-fold figures, and the suspect labels of each kind with their surroundings."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from ssd.data.dataset import Dataset
from ssd.evaluation.causes.suspects import Fault, Suspect, counts
from ssd.evaluation.metrics.details import Details
from ssd.evaluation.page.drawn_images import as_jpeg, draw_mistake
from ssd.report.blocks import Gallery, Image, Page, Row, Section, Table, Text, Tile, number
from ssd.report.page import made_by, write_page
from ssd.system.version import __version__

_SHOWN = 24  # suspects of each kind
_MEANINGS = {
    Fault.MISSING: "A detection where nothing is annotated; its score.",
    Fault.WRONG_CLASS: "A detection of another class has its place; its score, times what its own class lacks.",
    Fault.LOOSE: "A detection of its class overlaps the object less than is usual; its score, times the difference.",
    Fault.SPARE: "No network saw an object there; what the best score near it lacks.",
}


def write_review_page(
    path: Path,
    summary: Mapping[str, Any],
    suspects: Sequence[Suspect],
    details: Details,
    dataset: Dataset,
    least: float,
) -> None:
    """Write the page; `summary` is `ReviewResult.to_dict()`.

    Raises:
        SSDError: the file cannot be written, or an image can no longer be read.
    """
    read = functools.lru_cache(maxsize=4)(lambda place: dataset.load(place).image)
    sure = counts([item for item in suspects if item.score >= least])
    sections = [_figures(summary)]
    for fault in Fault:
        own = [item for item in suspects if item.fault is fault][:_SHOWN]
        if own:
            images = [_drawn(item, details, read(item.image)) for item in own]
            title = f"{fault.value[0].upper()}{fault.value[1:]} ({sure[fault]} from {least} on)"
            gallery = Gallery(images, note="The most suspect first.", width=230)
            sections.append(Section(fault.name.lower().replace("_", "-"), title, [gallery], _MEANINGS[fault]))
    page = Page(
        title=f"Labels to look at: {PurePath(summary['data']).name}",
        subtitle=f"{summary['data']}: {summary['images']} images, judged by networks that were trained without them",
        sections=sections,
        tiles=[Tile(fault.value, str(count), f"from a score of {least} on") for fault, count in sure.items()],
        verdict=None if any(sure.values()) else Text("No label is suspect.", "good"),
        made=made_by(__version__),
    )
    write_page(page, path)


def _figures(summary: Mapping[str, Any]) -> Section:
    rows: list[Row] = [
        [f"fold {place}", str(fold["images"]), number(fold["AP"]), number(fold["AP50"])]
        for place, fold in enumerate(summary["folds"], start=1)
    ]
    figures = summary["figures"]
    for name in ("mean", "spread"):
        rows.append([name, "", *(number(figures[figure][name]) for figure in ("AP", "AP50"))])
    note = "COCO's figures on the images of each fold, by the labels as they are. Spread: the standard deviation."
    intro = (
        "Below: orange is the label in question (or the one that is missing), green other labels, blue detections. "
        "Every suspect has a score from 0 to 1, the most suspect come first; nothing was changed."
    )
    return Section("folds", "Folds", [Table(["", "images", "AP", "AP50"], rows, note=note)], intro)


def _drawn(item: Suspect, details: Details, image: Any) -> Image:
    record, found = details.records[item.image], details.found(item.image)
    others = [row for row in range(len(record.labels)) if row != item.object]
    truth = (record.boxes[others], [details.class_names[record.labels[row]] for row in others])
    kept = [row for row in range(len(found)) if found.scores[row] >= max(0.3, 0.5 * item.score)]
    texts = [f"{details.class_names[found.labels[row]]} {found.scores[row]:.2f}" for row in kept]
    drawn = draw_mistake(image, item.box, item.name, truth, (found.boxes[kept], texts))
    said = {
        Fault.MISSING: f"{item.name} is not annotated",
        Fault.WRONG_CLASS: f"{item.name}, probably {item.proposed_name}",
        Fault.LOOSE: f"{item.name}, badly placed",
        Fault.SPARE: f"{item.name}, nothing is seen there",
    }[item.fault]
    return Image(as_jpeg(drawn), f"{item.score:.2f} {said}", PurePath(item.path).name)
