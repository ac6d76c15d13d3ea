"""The twelve COCO figures, computed by pycocotools: the reference implementation is the figure of record."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from ssd.errors import EvaluationError, MissingExtraError, at_least
from ssd.evaluation.metrics.accumulator import CollectingMetric
from ssd.evaluation.metrics.matches import Figure, Matches, from_pycocotools
from ssd.structures import ImageDetections, Record
from ssd.system.files import write_atomic
from ssd.system.optional import pip_install

_log = logging.getLogger(__name__)

MAX_DETECTIONS = (1, 10, 100)  # pycocotools gives -1 for AP without 100
LEAST_DETECTIONS = MAX_DETECTIONS[1] + 1
"""More than the second number: the three recalls are of growing numbers."""
_IOU_50, _IOU_75 = 0, 5  # rows of the thresholds 0.50, 0.55 ... 0.95
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)  # area ranges: up to 32 x 32 pixels, up to 96 x 96, beyond

# (figure, pycocotools' table, row of the IoU thresholds or None for their mean, area range, column of MAX_DETECTIONS)
_FIGURES: tuple[tuple[str, str, int | None, int, int], ...] = (
    ("AP", "precision", None, _ALL, 2),
    ("AP50", "precision", _IOU_50, _ALL, 2),
    ("AP75", "precision", _IOU_75, _ALL, 2),
    ("APs", "precision", None, _SMALL, 2),
    ("APm", "precision", None, _MEDIUM, 2),
    ("APl", "precision", None, _LARGE, 2),
    ("AR1", "recall", None, _ALL, 0),
    ("AR10", "recall", None, _ALL, 1),
    ("AR100", "recall", None, _ALL, 2),
    ("ARs", "recall", None, _SMALL, 2),
    ("ARm", "recall", None, _MEDIUM, 2),
    ("ARl", "recall", None, _LARGE, 2),
)

_RESAMPLED = tuple(Figure(name, size, row, "coco") for name, table, row, size, _ in _FIGURES if table == "precision")

MOST_RECALL = f"AR{MAX_DETECTIONS[-1]}"
"""The recall with all detections that count; see `recall_name`."""

Backend = Literal["pycocotools", "fast"]


class CocoMetric(CollectingMetric):
    """AP over IoU 0.50 to 0.95, at 0.50 and 0.75, by object size, and recalls; the APs per class too.

    Any number of detections may match a crowd region. One detection may match a difficult object (VOC) without being
    right or wrong; pycocotools has no such objects, so their ignore flag is set after its own. Images and annotations
    are numbered from 1 here, whatever their ids, because pycocotools takes the annotation id 0 for "not found". Images
    with numbers as ids keep the order of these, in which pycocotools ranks detections of equal scores.

    `backend="fast"` uses faster-coco-eval, which gives the same figures (within 1e-9 in the tests) in a fraction of the
    time. The default is the reference implementation, for figures that are published.

    `max_detections` is how many detections of an image and class count, the best ones: 100 in COCO's own figures. With
    another number the recall AR100 gets its name (AR500), and the other figures are no longer comparable with COCO's.

    Raises:
        ArgumentError: `max_detections` is 10 or less.
        MissingExtraError: faster-coco-eval is requested and not installed.
    """

    name = "coco"
    headline = "AP"

    def __init__(
        self,
        records: Sequence[Record],
        class_names: Sequence[str],
        category_ids: Sequence[int] | None = None,
        *,
        backend: Backend = "pycocotools",
        keep_matches: bool = False,
        max_detections: int = MAX_DETECTIONS[-1],
    ) -> None:
        super().__init__(records, class_names)
        self._numbers = _numbers([record.image_id for record in self.records])
        self._category_ids = tuple(category_ids) if category_ids is not None else tuple(range(1, len(class_names) + 1))
        if len(self._category_ids) != len(class_names):
            problem = f"{len(self._category_ids)} category ids for {len(class_names)} classes"
            raise EvaluationError(problem, place="CocoMetric", remedy="Give one id per class.")
        _tools(backend)  # fail now, not after the first epoch, if the package is missing
        self._backend = backend
        self._keep_matches = keep_matches
        at_least(LEAST_DETECTIONS, max_detections=max_detections)
        self.max_detections = max_detections
        self._matches: Matches | None = None

    def fresh(self, records: Sequence[Record]) -> "CocoMetric":
        """An empty metric of the same settings over other records."""
        return CocoMetric(
            records,
            self.class_names,
            self._category_ids,
            backend=self._backend,
            keep_matches=self._keep_matches,
            max_detections=self.max_detections,
        )

    def compute(self) -> dict[str, Any]:
        """The twelve figures and `per_class`; None where there are no objects."""
        detections = self._detections()
        if not detections:
            _log.warning("nothing was detected in %d images: every figure is 0", len(self.records))
        evaluator = _run(self._ground_truth(), self._dataset(detections), self._backend, self.max_detections)
        tables: dict[str, Any] = evaluator.eval
        if self._keep_matches and self._backend == "pycocotools":
            names, images = self.class_names, len(self.records)
            areas, limit = len(evaluator.params.areaRng), evaluator.params.maxDets[-1]
            places = {number: place for place, number in enumerate(self._numbers, start=1)}
            for result in filter(None, evaluator.evalImgs):
                result["image_id"] = places[result["image_id"]]
            self._matches = from_pycocotools(evaluator.evalImgs, names, images, areas, limit, _RESAMPLED)
        renamed = {MOST_RECALL: f"AR{self.max_detections}"}
        figures: dict[str, Any] = {
            renamed.get(name, name): _mean(tables[table], row, slice(None), size, column)
            for name, table, row, size, column in _FIGURES
        }
        objects = self._collected.objects_per_class()
        per_class = {
            name: {
                **{
                    figure: _mean(tables[table], row, label, size, column)
                    for figure, table, row, size, column in _FIGURES
                    if table == "precision"
                },
                "objects": int(objects[label]),
            }
            for label, name in enumerate(self.class_names)
        }
        counts = {"images": len(self.records), "objects": int(objects.sum()), "detections": len(detections)}
        return {**figures, **counts, "per_class": per_class}

    def matches(self) -> Matches | None:
        """What `compute` matched, if `keep_matches`; None with faster-coco-eval, which does not say."""
        return self._matches

    def write_results(self, path: str | Path) -> None:
        """Write the detections as a COCO results file, with the image and category ids of the data."""
        results = [
            {
                "image_id": record.image_id,
                "category_id": self._category_ids[label],
                "bbox": bbox,
                "score": score,
            }
            for record, found in self._collected
            for bbox, score, label in _rows(found)
        ]
        write_atomic(path, json.dumps(results, allow_nan=False).encode())

    def _detections(self) -> list[dict[str, Any]]:
        detections: list[dict[str, Any]] = [
            {"image_id": number, "category_id": label + 1, "bbox": bbox, "score": score, "iscrowd": 0}
            for number, (_, found) in zip(self._numbers, self._collected, strict=True)
            for bbox, score, label in _rows(found)
        ]
        for row in detections:
            row["area"] = row["bbox"][2] * row["bbox"][3]
        return detections

    def _ground_truth(self) -> dict[str, Any]:
        annotations = [
            {
                "image_id": number,
                "category_id": int(record.labels[row]) + 1,
                "bbox": bbox,
                "area": float(record.areas[row]),
                "iscrowd": int(record.crowd[row]),
                "difficult": bool(record.difficult[row]),
            }
            for number, record in zip(self._numbers, self.records, strict=True)
            for row, bbox in enumerate(to_xywh(record.boxes))
        ]
        return self._dataset(annotations)

    def _dataset(self, annotations: list[dict[str, Any]]) -> dict[str, Any]:
        for number, row in enumerate(annotations, start=1):
            row["id"] = number  # in place: a copy of each would take as much memory again
        return {
            "info": {},
            "images": [
                {"id": number, "width": record.width, "height": record.height}
                for number, record in zip(self._numbers, self.records, strict=True)
            ],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(self.class_names)],
            "annotations": annotations,
        }


def recall_name(figures: Mapping[str, Any]) -> str:
    """The name of the recall with all detections that count: AR100, or AR500 for `max_detections=500`."""
    return max(
        (name for name in figures if name[:2] == "AR" and name[2:].isdecimal()),
        key=lambda name: int(name[2:]),
        default=MOST_RECALL,
    )


def _numbers(ids: Sequence[int | str]) -> list[int]:
    """A number from 1 for each image: by its id where all ids are numbers, else by its place."""
    whole = all(isinstance(one, int) for one in ids)
    order = sorted(range(len(ids)), key=lambda place: int(ids[place])) if whole else range(len(ids))
    numbers: list[int] = (np.argsort(order) + 1).tolist()
    return numbers


def to_xywh(boxes: Float[np.ndarray, "D 4"]) -> list[list[float]]:
    """Corners to COCO's corner and sides, as plain floats."""
    corners = boxes.astype(np.float64)
    rows: list[list[float]] = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    return rows


def _rows(found: ImageDetections) -> Iterator[tuple[list[float], float, int]]:
    """Box as x, y, width and height, score and label of each detection."""
    return zip(to_xywh(found.boxes), found.scores.tolist(), found.labels.tolist(), strict=True)


def _run(ground_truth: dict[str, Any], detections: dict[str, Any], backend: Backend, limit: int) -> Any:
    """Run the evaluator and return it; its tables of precision and recall have -1 where there were no objects."""
    coco, evaluator_class = _tools(backend)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluator = evaluator_class(_index(coco, ground_truth), _index(coco, detections), "bbox")
        evaluator.print_function = _log.debug  # faster-coco-eval logs its progress
        evaluator.params.maxDets = [*MAX_DETECTIONS[:-1], limit]
        if any(row["difficult"] for row in ground_truth["annotations"]):
            _spare_difficult(evaluator)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def _tools(backend: Backend) -> tuple[Any, Any]:
    if backend == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        remedy = f"Run: {pip_install('fast-eval')}, or use pycocotools."
        raise MissingExtraError("faster-coco-eval is not installed", place="backend 'fast'", remedy=remedy) from None
    return COCO, COCOeval_faster


def _index(coco: Any, dataset: dict[str, Any]) -> Any:
    made = coco()
    made.dataset = dataset
    made.createIndex()
    return made


def _spare_difficult(evaluator: Any) -> None:
    """Ignore difficult objects, which match once and not many times like crowds; evaluators overwrite `ignore`."""
    prepare = evaluator._prepare

    def prepare_and_spare() -> None:
        prepare()
        for row in evaluator.cocoGt.dataset["annotations"]:  # the rows that are evaluated, not copies
            row["ignore"] = int(row["iscrowd"] or row["difficult"])

    evaluator._prepare = prepare_and_spare


def _mean(table: Any, row: int | None, label: int | slice, size: int, column: int) -> float | None:
    """Mean of the cells above -1. `precision` has axes IoU, recall, class, area, limit; `recall` lacks the second."""
    rows = table if row is None else table[row : row + 1]
    cells = rows[..., label, size, column]
    known = cells[cells > -1]
    return float(known.mean()) if known.size else None
