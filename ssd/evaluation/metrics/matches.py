"""Which detections found an object, image by image: what average precision is computed from.

Detections are matched to objects within one image, so the figures of any other choice of images, such as a resample,
follow from the same matches; only ranking and summing are repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int

Reading = Literal["coco", "area", "eleven"]
"""How a curve becomes one number: COCO's 101 points, VOC's area, VOC's 11 points."""

_AT_ONCE = 64  # resamples computed together: more leave the processor's cache
_RECALLS = np.linspace(0.0, 1.0, 101)  # as pycocotools has them, rounding included


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class, best score first, at T IoU thresholds over I images."""

    images: Int[np.ndarray, "D"]  # the image of each, by its place in the records
    hits: Bool[np.ndarray, "T D"]  # it found an object that counts
    counted: Bool[np.ndarray, "T D"]  # it is right or wrong; false where it found a difficult object and the like
    objects: Int[np.ndarray, "I"]  # number of objects that count, of each image


@dataclass(frozen=True)
class Figure:
    """One figure: the range of object areas, the IoU threshold (None: the mean over all), and the reading."""

    name: str
    area: int
    row: int | None
    reading: Reading


@dataclass(frozen=True)
class Matches:
    """The matches of all classes, by area range and class, and the figures that are read from them."""

    class_names: tuple[str, ...]
    images: int
    tables: tuple[tuple[ClassMatches, ...], ...]
    figures: tuple[Figure, ...]


def from_pycocotools(
    found: Sequence[dict[str, Any] | None],
    class_names: Sequence[str],
    images: int,
    areas: int,
    limit: int,
    figures: Sequence[Figure],
) -> Matches:
    """Collect `COCOeval.evalImgs`, which is ordered by class, area range and image; the image ids start at 1."""
    tables = []
    for area in range(areas):
        starts = [(label * areas + area) * images for label in range(len(class_names))]
        tables.append(tuple(_one_class(found[start : start + images], images, limit) for start in starts))
    return Matches(tuple(class_names), images, tuple(tables), tuple(figures))


def _one_class(results: Sequence[dict[str, Any] | None], images: int, limit: int) -> ClassMatches:
    objects = np.zeros(images, np.int64)
    known = [result for result in results if result is not None]
    for result in known:
        objects[result["image_id"] - 1] = int(np.count_nonzero(np.asarray(result["gtIgnore"]) == 0))
    if not known:
        return ClassMatches(np.zeros(0, np.int64), np.zeros((10, 0), bool), np.zeros((10, 0), bool), objects)
    scores = np.concatenate([np.asarray(result["dtScores"][:limit], float) for result in known])
    places = [np.full(len(result["dtScores"][:limit]), result["image_id"] - 1) for result in known]
    matched = np.concatenate([result["dtMatches"][:, :limit] for result in known], axis=1) > 0
    ignored = np.concatenate([result["dtIgnore"][:, :limit] for result in known], axis=1).astype(bool)
    order = np.argsort(-scores, kind="stable")
    hits = (matched & ~ignored)[:, order]
    return ClassMatches(np.concatenate(places).astype(np.int64)[order], hits, ~ignored[:, order], objects)


def figures_of(matches: Matches, weights: Int[np.ndarray, "R I"]) -> dict[str, Float[np.ndarray, "C R"]]:
    """Each figure per class, with every image counted `weights` times; NaN where a class then has no object.

    A weight of n gives what n copies of the image would give, except for detections of one class, one image and
    exactly equal score, whose order among copies is arbitrary.
    """
    parts = [_figures_of(matches, weights[start : start + _AT_ONCE]) for start in range(0, len(weights), _AT_ONCE)]
    return {figure.name: np.concatenate([part[figure.name] for part in parts], axis=1) for figure in matches.figures}


def _figures_of(matches: Matches, weights: Int[np.ndarray, "R I"]) -> dict[str, Float[np.ndarray, "C R"]]:
    columns = torch.from_numpy(np.ascontiguousarray(weights.T)).float()  # counts up to 2**24 are exact
    results: dict[str, list[np.ndarray]] = {figure.name: [] for figure in matches.figures}
    for area, table in enumerate(matches.tables):
        wanted = [figure for figure in matches.figures if figure.area == area]
        rows = {figure.row for figure in wanted}
        for one in table if wanted else ():
            chosen = range(len(one.hits)) if None in rows else sorted(row for row in rows if row is not None)
            readings = {figure.reading for figure in wanted}
            aps = {row: _average_precision(one, row, columns, readings) for row in chosen}
            for figure in wanted:
                picked = aps.values() if figure.row is None else [aps[figure.row]]
                results[figure.name].append(np.mean([by_reading[figure.reading] for by_reading in picked], axis=0))
    return {name: np.stack(rows) if rows else np.zeros((0, len(weights))) for name, rows in results.items()}


def over_classes(values: Float[np.ndarray, "C R"]) -> Float[np.ndarray, "R"]:
    """The mean over the classes that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    means: np.ndarray = np.where(count, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return means


def _average_precision(
    one: ClassMatches, row: int, columns: Float[torch.Tensor, "I R"], readings: set[Reading]
) -> dict[Reading, Float[np.ndarray, "R"]]:
    """Average precision at one IoU threshold, for every column of weights.

    Recall rises, and precision is greatest, at hits only; so the others are only counted between one hit and the next.
    """
    positives = (torch.from_numpy(one.objects).float() @ columns).double().numpy()
    nothing, total = np.where(positives > 0, 0.0, np.nan), np.maximum(positives, 1)
    places = np.flatnonzero(one.hits[row])
    if not len(places):
        return dict.fromkeys(readings, nothing)
    counted = np.flatnonzero(one.counted[row])
    images = torch.from_numpy(one.images)
    # between[h] sums the weights of the counted detections after hit h - 1 up to hit h
    starts = np.searchsorted(counted, np.concatenate([[-1], places[:-1]]), side="right")
    until = counted[: np.searchsorted(counted, places[-1], side="right")]
    between = F.embedding_bag(images[until], columns, torch.from_numpy(starts), mode="sum")
    ranked = between.double().cumsum(dim=0).numpy()
    right = columns[images[places]].double()
    found = right.cumsum(dim=0).numpy()
    precision = found / (ranked + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    results: dict[Reading, np.ndarray] = {}
    for reading in readings:
        if reading == "area":
            results[reading] = nothing + (envelope * right.numpy()).sum(axis=0) / total
            continue
        if reading == "coco":
            reached, points = np.searchsorted(_RECALLS, found / total, side="right"), 101
        else:
            reached, points = np.floor(10 * found / total).astype(np.int64) + 1, 11
        steps = np.diff(reached, axis=0, prepend=0)
        results[reading] = nothing + (envelope * steps).sum(axis=0) / points
    return results
