"""The mistakes of a detector with their images: missed objects, false alarms, and the images with the most of both."""

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ssd.boxes import iou_of_arrays
from ssd.data.dataset import Dataset
from ssd.errors import counted
from ssd.evaluation.causes.explain import MissedObject
from ssd.evaluation.metrics.details import Details, FalseAlarm, Miss
from ssd.evaluation.page.drawn_images import Drawn, as_jpeg, draw_mistake, side_by_side
from ssd.report.blocks import Block, Gallery, Image, Section, Text

_MISTAKES = 12  # images of each kind
_OF_ONE_IMAGE = 2
_WORST = 6
_DRAWN = 40  # most detections on one image
_WIDEST = 1000  # pixels of a whole image beside its truth
_WORDS = {
    "classification": "another class",
    "location": "wrong place",
    "both": "another class, wrong place",
    "duplicate": "found twice",
    "background": "nothing is there",
}
Mistake = TypeVar("Mistake", Miss, FalseAlarm, MissedObject)


def gallery_section(details: Details, dataset: Dataset, threshold: float) -> Section:
    """The worst mistakes at a score threshold.

    Raises:
        SSDError: an image can no longer be read.
    """
    misses, alarms = details.misses(threshold), details.false_alarms(threshold)
    draw, mark = _Drawing(dataset, details, threshold), f"{threshold:.2f}"
    blocks: list[Block] = []
    if misses:
        images = [draw.miss(miss) for miss in spread(misses, _MISTAKES)]
        note = "Never found at any score first, larger ones first; at most two of an image."
        blocks.append(Gallery(images, f"Missed objects ({len(misses)} below {mark})", note, 230))
    if alarms:
        images = [draw.false_alarm(alarm) for alarm in spread(alarms, _MISTAKES)]
        note = "The most confident first; at most two of an image."
        blocks.append(Gallery(images, f"False alarms ({len(alarms)} from {mark} on)", note, 230))
    if not blocks:
        return Section("mistakes", "The worst mistakes", [Text(f"No mistake at the threshold {mark}.", "good")])
    places = Counter([*(miss.image for miss in misses), *(alarm.image for alarm in alarms)]).most_common(_WORST)
    note = f"Truth on the left, detections from {mark} on the right."
    images = [draw.whole(place, count) for place, count in places]
    blocks.append(Gallery(images, "Images with the most mistakes", note, 420))
    colours = "Orange: the mistake. Green: what is there. Blue: what was found. What overlaps the mistake is named."
    return Section("mistakes", "The worst mistakes", blocks, colours)


def spread(mistakes: Sequence[Mistake], count: int, of_one: int = _OF_ONE_IMAGE) -> list[Mistake]:
    """The first `count` mistakes, with at most `of_one` of each image, so that one bad image does not hide the rest."""
    seen: Counter[int] = Counter()
    chosen: list[Mistake] = []
    for mistake in mistakes:
        if seen[mistake.image] < of_one and len(chosen) < count:
            seen[mistake.image] += 1
            chosen.append(mistake)
    return chosen


class _Drawing:
    """Draws mistakes; an image is decoded once for consecutive mistakes."""

    def __init__(self, dataset: Dataset, details: Details, threshold: float) -> None:
        self._details, self._names, self._threshold = details, details.class_names, threshold
        self._image = functools.lru_cache(maxsize=4)(lambda place: dataset.load(place).image)

    def miss(self, miss: Miss) -> Image:
        """A missed object with the detections around it."""
        name = self._names[miss.label]
        detail = f"found at {miss.score:.2f} only" if miss.score else "not found at any score"
        return self._mistake(miss, name, f"{name}: {detail}", own=(np.zeros((0, 4), np.float32), []))

    def false_alarm(self, alarm: FalseAlarm) -> Image:
        """A wrong detection with the objects around it."""
        name = self._names[alarm.label]
        record = self._details.records[alarm.image]
        truth = (record.boxes, [self._names[label] for label in record.labels])
        text = f"{name} {alarm.score:.2f}"
        return self._mistake(alarm, text, f"{text}: {_WORDS[alarm.kind]}{self._true_class(alarm)}", own=truth)

    def _true_class(self, alarm: FalseAlarm) -> str:
        """The class of the object that a detection of another class overlaps most, as the end of its caption."""
        if alarm.kind not in ("classification", "both"):
            return ""
        record = self._details.records[alarm.image]
        overlaps = iou_of_arrays(np.array([alarm.box], np.float32), record.boxes)[0]
        overlaps = np.where(record.labels == alarm.label, 0.0, overlaps)
        return f", it is {self._names[record.labels[int(overlaps.argmax())]]}"

    def whole(self, place: int, mistakes: int) -> Image:
        """A whole image, ground truth beside detections."""
        record = self._details.records[place]
        boxes, scores, labels = self._found(place)
        truth = (record.boxes, [self._names[label] for label in record.labels], record.labels.tolist())
        texts = [f"{self._names[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
        drawn = side_by_side(self._image(place), truth, (boxes, texts, labels.tolist()))
        return Image(as_jpeg(drawn, _WIDEST), Path(record.path).name, counted(mistakes, "mistake"))

    def _mistake(self, mistake: Miss | FalseAlarm, text: str, caption: str, own: Drawn) -> Image:
        place = mistake.image
        boxes, scores, labels = self._found(place)
        others: Drawn = (boxes[:0], [])
        if isinstance(mistake, Miss):
            others = (boxes, [f"{self._names[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)])
        drawn = draw_mistake(self._image(place), mistake.box, text, own, others)
        return Image(as_jpeg(drawn), caption, Path(self._details.records[place].path).name)

    def _found(self, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best detections of an image from the threshold on, as many as can be told apart."""
        found = self._details.found(place)
        order = np.argsort(-found.scores, kind="stable")[:_DRAWN]
        kept = order[found.scores[order] >= self._threshold]
        return found.boxes[kept], found.scores[kept], found.labels[kept]
