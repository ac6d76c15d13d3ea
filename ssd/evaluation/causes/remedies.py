"""What to try first against each cause: a key of the config for the next training, or an option of a command."""

import dataclasses
import math
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch

from ssd.boxes import iou_of_arrays
from ssd.evaluation.causes.evidence import Evidence
from ssd.evaluation.causes.explain import Cause, MissedObject
from ssd.evaluation.metrics.details import Details
from ssd.model.factory import level_grids
from ssd.multibox.best_overlaps import REACHED, best_overlaps
from ssd.multibox.default_boxes import Table, box_settings
from ssd.settings import BoxSettings, NetworkSettings, Settings
from ssd.structures import Record

_INPUTS = (300, 512, 768, 1024)  # sides to try; beyond them an image is searched in parts
_EPOCHS = 50  # to try where the number of the run is not known


@dataclass(frozen=True)
class Situation:
    """What the advice depends on, beside the missed objects of one cause."""

    settings: Settings
    details: Details
    evidence: Sequence[Evidence]
    weights: str  # as it is typed in a command; so is `data`
    data: str
    thresholds: Mapping[str, float]  # of each class
    epochs: int | None = None  # of the run, where its config is known
    frozen: bool = False  # whether stages of the backbone were not trained


def remedy(cause: Cause, missed: Sequence[MissedObject], situation: Situation) -> str:
    """`group.key=value` for the next training, or a command as it is typed."""
    return _REMEDIES[cause](missed, situation)


def _label(missed: Sequence[MissedObject], situation: Situation) -> str:
    return f"ssd review {situation.data}"


def _unknown_class(missed: Sequence[MissedObject], situation: Situation) -> str:
    return f"ssd train --data {situation.data} model.weights={situation.weights}"


def _resolution(missed: Sequence[MissedObject], situation: Situation) -> str:
    """The first input at which the median object is as large as a cell of the finest level."""
    input_size, cell = situation.settings.network.input_size, situation.settings.boxes.steps[0]
    sides = [situation.evidence[item.image].sides[item.object].min() for item in missed]
    needed = input_size * cell / max(float(np.median(sides)), 1e-6)
    larger = next((size for size in _INPUTS if size >= needed and size > input_size), None)
    if larger is None:
        return "data.tiles=auto"
    return f"model.input_size={larger}"


def _default_boxes(missed: Sequence[MissedObject], situation: Situation) -> str:
    """The table of sizes that reaches most of them, if it reaches half; else sizes fitted to the data."""
    boxes = torch.stack([_fractions(situation.details.records[item.image], item.object) for item in missed])
    own = situation.settings.boxes
    reached = {
        table: float((best_overlaps(boxes, _with_table(own, table)) >= REACHED).float().mean())
        for table in get_args(Table)
    }
    best = max(reached, key=lambda table: reached[table])
    if reached[best] >= 0.5:
        # Sizes of the config's own come before a table.
        fitted = not any(_with_table(own, table) == own for table in reached)
        return f"model.box_table={best}" + (" model.min_sizes=null model.max_sizes=null" if fitted else "")
    return " ".join([f"ssd check-data {situation.data} --fit-boxes", *_level_keys(situation.settings)])


def _level_keys(settings: Settings) -> list[str]:
    """The keys that decide the levels, where they differ from the defaults of a config."""
    network, usual = settings.network, NetworkSettings()
    keys = {name: getattr(network, name) for name in ("input_size", "backbone", "head", "atrous")}
    words = [f"model.{name}={value}" for name, value in keys.items() if value != getattr(usual, name)]
    if settings.boxes.grids != level_grids(network):
        levels = ",".join(map(str, settings.boxes.grids))
        words.append(f"'model.levels=[{levels}]'")
    return words


def _with_table(own: BoxSettings, table: Table) -> BoxSettings:
    sizes = box_settings(own.input_size, own.grids, table=table, ratios=own.aspect_ratios)
    return dataclasses.replace(own, min_sizes=sizes.min_sizes, max_sizes=sizes.max_sizes)


def _fractions(record: Record, row: int) -> torch.Tensor:
    return torch.from_numpy(record.boxes[row] / np.array([record.width, record.height] * 2, np.float32))


def _location(missed: Sequence[MissedObject], situation: Situation) -> str:
    if situation.settings.postprocessing.box_voting == 0:
        return "model.box_voting=0.1"
    return _longer(missed, situation)


def _longer(missed: Sequence[MissedObject], situation: Situation) -> str:
    return f"train.epochs={_EPOCHS if situation.epochs is None else 2 * situation.epochs}"


def _class(missed: Sequence[MissedObject], situation: Situation) -> str:
    return "model.freeze_stages=0" if situation.frozen else _longer(missed, situation)


def _suppression(missed: Sequence[MissedObject], situation: Situation) -> str:
    """More detections, or a threshold of the suppression above the IoU of half of them with their neighbours."""
    rules, command = situation.settings.postprocessing, f"ssd detect IMAGES --weights {situation.weights}"
    overlaps = [_with_neighbour(item, situation) for item in missed if item.detection is not None]
    if len(overlaps) < len(missed) / 2:
        return f"{command} --max-detections {2 * rules.max_detections}"
    needed = (math.floor(20 * (float(np.median(overlaps)) + 0.02)) + 1) / 20  # after the next twentieth
    return f"{command} --iou-threshold {min(max(needed, rules.iou_threshold + 0.05), 0.95):.2f}"


def _with_neighbour(item: MissedObject, situation: Situation) -> float:
    assert item.detection is not None
    own = situation.evidence[item.image].boxes[item.object][None].astype(np.float32)
    return float(iou_of_arrays(own, situation.details.found(item.image).boxes[[item.detection]])[0, 0])


def _threshold(missed: Sequence[MissedObject], situation: Situation) -> str:
    """The threshold of the greatest F1, rounded down so that the detection with that score is kept.

    Where classes have thresholds of their own it is for those of the missed objects.
    """
    value = f"{(math.ceil(100 * situation.details.threshold()) - 1) / 100:.2f}"
    names = sorted({item.name for item in missed})
    if len(set(situation.thresholds.values())) > 1 and "," not in "".join(names):
        value = shlex.quote(",".join(f"{name}={value}" for name in names))
    return f"ssd detect IMAGES --weights {situation.weights} --score-threshold {value}"


_REMEDIES: dict[Cause, Callable[[Sequence[MissedObject], Situation], str]] = {
    Cause.UNKNOWN_CLASS: _unknown_class,
    Cause.LABEL: _label,
    Cause.RESOLUTION: _resolution,
    Cause.DEFAULT_BOXES: _default_boxes,
    Cause.LOCATION: _location,
    Cause.SCORE: _longer,
    Cause.CLASS: _class,
    Cause.SUPPRESSION: _suppression,
    Cause.THRESHOLD: _threshold,
}


def most_frequent(missed: Sequence[MissedObject]) -> list[tuple[str, str, int]]:
    """Classes that were missed for another, the other class, and how often; most frequent first."""
    pairs = Counter((item.name, item.other) for item in missed if item.cause is Cause.CLASS and item.other is not None)
    return [(name, other, count) for (name, other), count in pairs.most_common()]
