"""Rules that travel with the weights: the numbers of the post-processing, and how images of more than 8 bits are read.

Needs neither PyTorch nor pydantic, for `ssd.light`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ssd.errors import ArgumentError, is_number

MAX_COUNT = 1_000_000

READABLE_SCORE = 0.5
"""Score from which detections are drawn by default, since there are many false ones below it."""

ScoreThreshold = float | Literal["own"] | Mapping[str, float]
"""One number for all classes; the weights' own thresholds; or numbers by class name."""

Depth = Literal["percentile"] | tuple[float, float]
"""How more than 8 bits a channel become 8: by the window of each image, or by a fixed one. See `ssd.images.depth`."""

SIGMA_REMEDY = "Use 0 (none), or a number from 0.000001 to 1."


def is_window(values: tuple[float, float]) -> bool:
    """Whether two values can become 0 and 255: finite, and the first below the second."""
    return -math.inf < values[0] < values[1] < math.inf


def can_be_sigma(value: float) -> bool:
    """Whether `box_voting` can be this number: below a millionth some engines round it to 0, and divide by it."""
    return value == 0 or 1e-6 <= value <= 1


@dataclass(frozen=True)
class Postprocessing:
    """Numbers of section 3.1: threshold, per-class candidates, non-maximum suppression, detections kept.

    They go whole from the weights file or from `detect` to `ssd.multibox.postprocess`. A new threshold touches four
    files: a field and its range here, its use in `multibox/postprocess.py`, and the same for exported graphs in
    `exporters/graph.py` and without PyTorch in `light/suppression.py`. Only a number that callers may change as well is
    also an argument of `Detector.detect`.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  # `settings` checks files by it

    score_threshold: float = 0.01
    top_k: int = 400
    iou_threshold: float = 0.45
    max_detections: int = 200
    clip: Literal["before", "after"] = "after"  # cut boxes to the image before or after suppression
    # Average each detection with its neighbours, weighted by a Gaussian of 1 - IoU with this sigma; 0 turns it off.
    box_voting: float = 0.0
    # A threshold for each class, chosen on annotated images; in use only where a caller asks for "own". Empty: none.
    own_thresholds: tuple[float, ...] = ()
    # A threshold for each class that is in use, besides `score_threshold`. Empty: none.
    class_thresholds: tuple[float, ...] = ()

    def with_threshold(self, threshold: "ScoreThreshold | None", class_names: Sequence[str]) -> "Postprocessing":
        """The same with another score threshold: a number, "own", or one by class name; None leaves it as it is.

        Classes that are not named keep the weights' own threshold, or 0.5 where the weights have none.

        Raises:
            ArgumentError: not a threshold, no class of that name, or "own" for weights without thresholds of their own.
        """
        if threshold is None or is_number(threshold):
            return self.changed(score_threshold=threshold)
        readable = max(READABLE_SCORE, self.score_threshold)  # an exported graph may have been exported with more
        by_class = dict(zip(class_names, self.own_thresholds or [readable] * len(class_names), strict=True))
        if isinstance(threshold, Mapping):
            for name, value in threshold.items():
                if name not in by_class:
                    known = ", ".join(class_names[:20]) + (", ..." if len(class_names) > 20 else "")
                    raise ArgumentError(f"no class {name!r}", place="score_threshold", remedy=f"There are: {known}.")
                by_class[name] = self.changed(score_threshold=value).score_threshold
        elif threshold != "own":
            remedy = 'Use a number from 0 to 1, "own", or numbers by class: {"cat": 0.3}.'
            raise ArgumentError(f"{threshold!r} is no threshold", place="score_threshold", remedy=remedy)
        elif not self.own_thresholds:
            remedy = "Choose them on validation images: ssd eval RUN --set-thresholds f1"
            raise ArgumentError("the weights have no thresholds of their own", place="score_threshold", remedy=remedy)
        values = tuple(by_class.values())
        return dataclasses.replace(self, score_threshold=min(values), class_thresholds=values)

    def changed(self, **numbers: object) -> "Postprocessing":
        """The same with other numbers; None leaves one as it is.

        More detections than here lift `top_k`, unless it is given: all of them may be of one class.

        Raises:
            ArgumentError: a number of the wrong kind, or out of its range.
        """
        given = {name: value for name, value in numbers.items() if value is not None}
        chosen: dict[str, Any] = {}
        for name, value in given.items():
            kind, possible, remedy = NUMBERS[name]
            whole = "whole " if kind is int else ""
            if not is_number(value, whole=kind is int):
                raise ArgumentError(f"{value!r} is not a {whole}number", place=name, remedy=remedy)
            chosen[name] = kind(value)
            if not possible(chosen[name]):
                raise ArgumentError(f"{value} is out of range", place=name, remedy=remedy)
        if chosen.get("max_detections", 0) > self.max_detections:
            chosen.setdefault("top_k", MAX_COUNT)
        return dataclasses.replace(self, **chosen)


def is_share(value: float) -> bool:
    """Whether a number is from 0 to 1."""
    return 0 <= value <= 1


def _is_count(value: int) -> bool:
    return 0 < value <= MAX_COUNT


# Kind, range and remedy of each number of the post-processing.
NUMBERS: dict[str, tuple[type, Callable[[Any], bool], str]] = {
    "score_threshold": (float, is_share, "Use a number from 0 to 1."),
    "iou_threshold": (float, is_share, "Use a number from 0 to 1."),
    "top_k": (int, _is_count, f"Use a whole number from 1 to {MAX_COUNT}."),
    "max_detections": (int, _is_count, f"Use a whole number from 1 to {MAX_COUNT}."),
    "box_voting": (float, can_be_sigma, SIGMA_REMEDY),
}
