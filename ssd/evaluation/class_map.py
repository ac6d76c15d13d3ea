"""The classes of a detector and of a data set, paired by name."""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch.nn.utils.rnn import pad_sequence

from ssd.data.loading.batches import complete_columns
from ssd.errors import EvaluationError
from ssd.structures import Sample, Targets

_log = logging.getLogger(__name__)
_LISTED = 10  # names in a message; the rest are counted
_COMPARED = 1000  # names that are compared with a missing one


@dataclass(frozen=True)
class ClassMap:
    """The correspondence between the classes of a detector and of a data set, by name."""

    to_data: Int[np.ndarray, "C"]  # the data's label for each of the detector's, -1 for none
    to_detector: Int[np.ndarray, "C2"]  # the detector's label for each of the data's, -1 for none
    missing: tuple[str, ...]  # classes of the data unknown to the detector: never found, so their AP is 0
    unused: tuple[str, ...]  # classes of the detector that are not in the data: their detections are dropped


def match_classes(detector_names: Sequence[str], data_names: Sequence[str]) -> ClassMap:
    """Pair the classes of a detector and a data set by name, and log the differences.

    Raises:
        EvaluationError: no class is in both.
    """
    known = {name: label for label, name in enumerate(detector_names)}
    wanted = {name: label for label, name in enumerate(data_names)}
    missing = tuple(name for name in data_names if name not in known)
    unused = tuple(name for name in detector_names if name not in wanted)
    if len(missing) == len(data_names):
        problem = f"the detector knows {_listed(detector_names)}; the data has {_listed(data_names)}"
        remedy = f"Name the classes alike in both.{_advice(missing, unused)}"
        raise EvaluationError(problem, place="no class in common", remedy=remedy)
    if missing:
        advice = _advice(missing, unused)
        _log.warning("the detector does not know %s: their AP is 0.%s", _listed(missing), advice)
    if unused:
        _log.info("the data does not have %s: their detections are dropped", _listed(unused))
    to_data = [wanted.get(name, -1) for name in detector_names]
    to_detector = [known.get(name, -1) for name in data_names]
    return ClassMap(np.array(to_data), np.array(to_detector), missing, unused)


def make_targets(samples: Sequence[Sample], classes: ClassMap) -> Targets:
    """The objects of a batch for the loss, with the detector's labels; classes it lacks are left out.

    Where samples are complete for some classes only, so are the targets; they are not for classes that the data lacks.
    """
    boxes, labels, crowd = [], [], []
    for sample in samples:
        height, width = sample.image.shape[:2]
        known = classes.to_detector[sample.labels] >= 0
        boxes.append(torch.from_numpy(sample.boxes[known] / np.array([width, height, width, height], np.float32)))
        labels.append(torch.from_numpy(classes.to_detector[sample.labels[known]]))
        crowd.append(torch.from_numpy(sample.crowd[known]))
    valid = [torch.ones(len(row), dtype=torch.bool) for row in labels]
    given = [sample.complete for sample in samples]
    rows = [None if row is None else row[classes.to_data] & (classes.to_data >= 0) for row in given]
    padded = [pad_sequence(column, batch_first=True) for column in (boxes, labels, crowd, valid)]
    return Targets(padded[0], padded[1], padded[2], padded[3], complete_columns(rows))


def _advice(missing: Sequence[str], unused: Sequence[str]) -> str:
    """Which class of the detector may be meant by one that it lacks, as a sentence; empty if none is near."""
    by_form = {name.casefold(): name for name in reversed(unused[:_COMPARED])}
    pairs = []
    for name in missing[:_LISTED]:
        near = difflib.get_close_matches(name.casefold(), by_form, n=1, cutoff=0.75)
        if near:
            pairs.append(f"{by_form[near[0]]!r} for {name!r}")
    return f" Names are compared letter by letter; did you mean {_listed(pairs)}?" if pairs else ""


def _listed(names: Sequence[str], limit: int = _LISTED) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
