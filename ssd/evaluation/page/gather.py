"""The page of an evaluation (`--report`): what the report room shows, gathered from data, detector and metrics."""

import functools
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from ssd.data.objects import SIZES, gather
from ssd.evaluation.metrics.details import Details, FalseAlarm, Miss
from ssd.evaluation.page.drawn_images import Drawn, as_jpeg, draw_mistake, side_by_side
from ssd.evaluation.page.page import EvaluationFigures, SizeRow, evaluation_page
from ssd.multibox.best_overlaps import REACHED, best_overlaps
from ssd.report.blocks import Image
from ssd.report.page import made_by, write_page
from ssd.system.version import __version__

if TYPE_CHECKING:
    from ssd.data.dataset import Dataset
    from ssd.inference.detector import Detector

_MISTAKES = 12  # images of each kind
_OF_ONE_IMAGE = 2
_WORST = 6
_DRAWN = 40  # detections on one image
_TIMED, _WARM_UP = 10, 2  # images
_STAGES = ("read and decode", "resize and normalise", "network", "post-processing")
_WIDEST = 1000  # pixels of a whole image beside its truth
_WORDS = {
    "classification": "another class",
    "location": "wrong place",
    "both": "another class, wrong place",
    "duplicate": "found twice",
    "background": "nothing is there",
}
Mistake = TypeVar("Mistake", Miss, FalseAlarm)


def write_evaluation_page(
    path: Path, summary: dict[str, Any], details: Details, detector: "Detector", dataset: "Dataset"
) -> None:
    """Write the page; `summary` is what the figures file says.

    Raises:
        SSDError: the file cannot be written, or a image cannot be read any more.
    """
    threshold = details.threshold()
    misses, alarms = details.misses(threshold), details.false_alarms(threshold)
    gallery = _Gallery(dataset, details, threshold)
    weights = Path(summary["weights"])
    run = weights if weights.is_dir() else weights.parent
    figures = EvaluationFigures(
        summary=summary,
        class_names=details.class_names,
        curves=details.curves(),
        overall=details.overall(),
        threshold=threshold,
        confusion=details.confusion(threshold),
        calibration=details.calibration(),
        sizes=_sizes(details, detector, dataset, threshold),
        default_boxes=len(detector.default_boxes),
        stages=time_stages(detector, dataset),
        misses=[gallery.miss(miss) for miss in spread(misses, _MISTAKES)],
        miss_count=len(misses),
        false_alarms=[gallery.false_alarm(alarm) for alarm in spread(alarms, _MISTAKES)],
        false_alarm_count=len(alarms),
        worst=[gallery.whole(image, count) for image, count in _worst(misses, alarms)],
        config=_text_of(run / "config.yaml"),
        training_page="report.html" if (path.parent / "report.html").is_file() and path.name != "report.html" else None,
        made=made_by(__version__),
    )
    write_page(evaluation_page(figures), path)


def spread(mistakes: Sequence[Mistake], count: int, of_one: int = _OF_ONE_IMAGE) -> list[Mistake]:
    """The first `count` mistakes, no more than a few of one image, so that one bad image does not hide the rest."""
    seen: Counter[int] = Counter()
    chosen: list[Mistake] = []
    for mistake in mistakes:
        if seen[mistake.image] < of_one and len(chosen) < count:
            seen[mistake.image] += 1
            chosen.append(mistake)
    return chosen


@torch.inference_mode()
def time_stages(detector: "Detector", dataset: "Dataset") -> dict[str, float]:
    """Milliseconds per image of each stage, one image at a time: the median over a few images."""
    rows = []
    for place in range(min(_WARM_UP + _TIMED, len(dataset))):
        clock = [time.perf_counter()]
        image = dataset.load(place).image
        clock.append(time.perf_counter())
        inputs = detector.preprocess([image])
        clock.append(time.perf_counter())
        predictions = detector.predict(inputs)
        if detector.runtime.device.startswith("cuda"):
            torch.cuda.synchronize(detector.runtime.device)
        clock.append(time.perf_counter())
        detector.postprocess(predictions).counts.tolist()  # waits for a GPU
        clock.append(time.perf_counter())
        rows.append(np.diff(clock))
    kept = rows[_WARM_UP:] or rows
    return dict(zip(_STAGES, (1000 * np.median(kept, axis=0)).tolist(), strict=True)) if kept else {}


class _Gallery:
    """Draws mistakes; a image is decoded once however many of its mistakes are shown one after another."""

    def __init__(self, dataset: "Dataset", details: Details, threshold: float) -> None:
        self._details, self._names, self._threshold = details, details.class_names, threshold
        self._image = functools.lru_cache(maxsize=4)(lambda place: dataset.load(place).image)

    def miss(self, miss: Miss) -> Image:
        """An object nobody found, among the detections around it."""
        name = self._names[miss.label]
        detail = f"found at {miss.score:.2f} only" if miss.score else "not found at any score"
        return self._mistake(miss, name, f"{name}: {detail}", own=(np.zeros((0, 4), np.float32), []))

    def false_alarm(self, alarm: FalseAlarm) -> Image:
        """A wrong detection, among the objects around it."""
        name = self._names[alarm.label]
        record = self._details.records[alarm.image]
        truth = (record.boxes, [self._names[label] for label in record.labels])
        text = f"{name} {alarm.score:.2f}"
        return self._mistake(alarm, text, f"{text}: {_WORDS[alarm.kind]}", own=truth)

    def whole(self, place: int, mistakes: int) -> Image:
        """A whole image, truth beside detections."""
        record = self._details.records[place]
        boxes, scores, labels = self._found(place)
        truth = (record.boxes, [self._names[label] for label in record.labels], record.labels.tolist())
        texts = [f"{self._names[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
        drawn = side_by_side(self._image(place), truth, (boxes, texts, labels.tolist()))
        count = f"{mistakes} mistake" + "s" * (mistakes != 1)
        return Image(as_jpeg(drawn, _WIDEST), Path(record.path).name, count)

    def _mistake(self, mistake: Miss | FalseAlarm, text: str, caption: str, own: "Drawn") -> Image:
        place = mistake.image
        boxes, scores, labels = self._found(place)
        others: Drawn = (boxes[:0], [])
        if isinstance(mistake, Miss):
            others = (boxes, [f"{self._names[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)])
        drawn = draw_mistake(self._image(place), mistake.box, text, own, others)
        return Image(as_jpeg(drawn), caption, Path(self._details.records[place].path).name)

    def _found(self, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best detections of a image from the threshold on: more than can be told apart need not be drawn."""
        found = self._details.found(place)
        order = np.argsort(-found.scores, kind="stable")[:_DRAWN]
        kept = order[found.scores[order] >= self._threshold]
        return found.boxes[kept], found.scores[kept], found.labels[kept]


def _worst(misses: Sequence[Miss], alarms: Sequence[FalseAlarm]) -> list[tuple[int, int]]:
    """The images with the most mistakes, and how many those are."""
    places = [miss.image for miss in misses] + [alarm.image for alarm in alarms]
    return Counter(places).most_common(_WORST)


def _sizes(details: Details, detector: "Detector", dataset: "Dataset", threshold: float) -> list[SizeRow]:
    """What default boxes reach and the detector finds, by size, of the objects that count."""
    objects = gather(dataset)
    reached = best_overlaps(objects.boxes, detector.settings.boxes).numpy() >= REACHED
    scores = np.concatenate([np.zeros(0), *(scores[~record.crowd] for record, scores in details.found_scores())])
    counted, sizes = ~np.isnan(scores), objects.sizes()
    groups = {"all": counted} | {name: counted & (sizes == place) for place, name in enumerate(SIZES)}
    return [
        SizeRow(
            name,
            int(group.sum()),
            *(
                float(which[group].mean()) if group.any() else None
                for which in (reached, scores > 0, scores >= threshold)
            ),
        )
        for name, group in groups.items()
    ]


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
