"""AP50 with the objects of one cause mended: the detections and labels are changed, and everything is evaluated again.

The detections are those a user gets, from the thresholds on. An object that a stage lost gets back what the network
said about it: its own box and score where suppression or the threshold dropped them, the right class on a detection of
another class, the right place for one beside it. An object that the network did not see gets its own box, with the
median score of the right detections of its class. Of a probably wrong label the annotation is corrected. A detection
mends one object: another one for which it is named gets its own box with that score.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from ssd.evaluation.causes.evidence import Evidence
from ssd.evaluation.causes.explain import Cause, Confidence, MissedObject
from ssd.evaluation.metrics.coco import CocoMetric
from ssd.evaluation.metrics.details import Details
from ssd.structures import ImageDetections, Record


class Mending:
    """Evaluates the kept detections, as they are and with causes mended."""

    def __init__(
        self,
        details: Details,
        evidence: Sequence[Evidence],
        usual: Confidence,
        thresholds: Float[np.ndarray, "C"],
    ) -> None:
        self._details, self._evidence, self._usual, self._thresholds = details, evidence, usual, thresholds

    def ap50(self, missed: Sequence[MissedObject] = ()) -> float | None:
        """COCO's AP50 of the detections from the thresholds on with these objects mended; None without objects."""
        by_image: Mapping[int, list[MissedObject]] = defaultdict(list)
        for item in missed:
            by_image[item.image].append(item)
        images = [self._mended(place, by_image.get(place, [])) for place in range(len(self._details.records))]
        metric = CocoMetric([record for record, _ in images], self._details.class_names)
        for record, found in images:
            metric.update(record.image_id, found)
        figure: float | None = metric.compute()["AP50"]
        return figure

    def _mended(self, place: int, missed: Sequence[MissedObject]) -> tuple[Record, ImageDetections]:
        record, found = self._details.records[place], self._details.found(place)
        boxes, scores, labels = found.boxes.copy(), found.scores.copy(), found.labels.copy()
        kept = scores >= self._thresholds[labels]
        truth, true_labels = record.boxes.copy(), record.labels.copy()
        present = np.ones(len(truth), bool)
        added: list[tuple[np.ndarray, float, int]] = []
        used = set[int]()
        for item in missed:
            row, label, detection = item.object, int(record.labels[item.object]), item.detection
            if item.cause is Cause.SUPPRESSION:
                added.append((self._evidence[place].boxes[row], float(self._evidence[place].scores[row]), label))
            elif detection is None and item.cause is Cause.LABEL:
                present[row] = False
            elif detection is None:
                added.append((record.boxes[row], float(self._usual.scores[label]), label))
            elif detection in used:
                added.append((record.boxes[row], float(found.scores[detection]), label))
            elif item.cause is Cause.LABEL:
                truth[row], true_labels[row] = found.boxes[detection], found.labels[detection]
            elif item.cause is Cause.THRESHOLD:
                kept[detection] = True
            elif item.cause is Cause.CLASS:
                labels[detection] = label
            else:
                boxes[detection] = record.boxes[row]
            if detection is not None and item.cause is not Cause.SUPPRESSION:
                used.add(detection)
        changed = dataclasses.replace(
            record,
            boxes=truth[present],
            labels=true_labels[present],
            difficult=record.difficult[present],
            crowd=record.crowd[present],
            areas=record.areas[present],
        )
        return changed, _joined(ImageDetections(boxes[kept], scores[kept], labels[kept]), added)


def _joined(found: ImageDetections, added: Sequence[tuple[np.ndarray, float, int]]) -> ImageDetections:
    if not added:
        return found
    boxes, scores, labels = zip(*added, strict=True)
    return ImageDetections(
        np.concatenate([found.boxes, np.stack(boxes).astype(np.float32)]),
        np.concatenate([found.scores, np.array(scores, np.float32)]),
        np.concatenate([found.labels, np.array(labels, np.int64)]),
    )
