"""The facts that make a set of weights a detector, as plain frozen dataclasses that travel in the weights file.

A network's numbers mean nothing without them: which default boxes its offsets refer to, how images were resized and
scaled, which class each column is. `Settings.to_dict` and `from_dict` are exact inverses over plain JSON types.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from ssd.errors import ArgumentError, CheckpointError, is_number

_STRICT = ConfigDict(extra="forbid")
# Far beyond any network in use, and still no more memory than a large one takes.
_MAX_SIDE, _MAX_WIDTH, _MAX_BOXES, _MAX_COUNT = 4096, 4.0, 3_000_000, 1_000_000


@dataclass(frozen=True)
class NetworkSettings:
    """Plain numbers from which `ssd.model.factory` builds the network."""

    __pydantic_config__ = _STRICT

    backbone: str = "vgg16"
    input_size: int = 300
    width: float = 1.0
    extras_norm: Literal["none", "batch", "group"] = "none"
    first_level_norm: Literal["l2", "batch", "none"] = "l2"  # qfgaohao has BatchNorm2d on conv4_3
    l2_eps: float = 1e-10
    fc_norm: Literal["none", "batch", "group"] = "none"  # after conv6 and conv7 of a VGG
    atrous: bool = True  # VGG's conv6 is dilated and thinned out; False: fc6 and fc7 whole, at stride 32
    head: Literal["full", "lite"] = "full"  # 3x3 convolutions, or depthwise ones in heads and extra layers (SSDLite)
    variant: Literal["none", "qfgaohao", "lufficc"] = "none"  # taps and extra layers of that code's MobileNets


@dataclass(frozen=True)
class BoxSettings:
    """How default boxes are tiled. Sizes and steps are pixels of the network's input; one entry a level.

    `grids` name the levels that the head sees, of all that the network could have.
    """

    __pydantic_config__ = _STRICT

    input_size: int
    grids: tuple[int, ...]
    steps: tuple[float, ...]
    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]  # above 1; each brings its inverse
    clip: Literal["none", "centre", "sides"] = "none"  # centre: clamp cx, cy, w, h to [0, 1]; sides: clamp w, h alone
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)


@dataclass(frozen=True)
class Preprocessing:
    """From a uint8 RGB image to the network's input: `(pixel - mean) / std`, with pixels 0..255."""

    __pydantic_config__ = _STRICT

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # in the order of `channels`
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    channels: Literal["rgb", "bgr"] = "rgb"
    # uint8, float: bilinear of four pixels, before or after normalising. antialias, area: of all pixels covered.
    resize: Literal["uint8", "float", "antialias", "area"] = "uint8"


READABLE_SCORE = 0.5
"""Score from which detections are drawn by default, since there are many false ones below it."""

ScoreThreshold = float | Literal["own"] | Mapping[str, float]
"""One number for all classes; the weights' own thresholds; or numbers by class name."""

SIGMA_REMEDY = "Use 0 (none), or a number from 0.000001 to 1."


def can_be_sigma(value: float) -> bool:
    """Whether `box_voting` can be this number: below a millionth some engines round it to 0, and divide by it."""
    return value == 0 or 1e-6 <= value <= 1


@dataclass(frozen=True)
class LossRules:
    """Numbers of the matching and of the multibox loss (section 2.2), as they go whole from the config to the loss.

    The defaults are what `ssd train --data FOLDER` trains with. Of the paper: `negative_iou` 1 and
    `negatives_per_empty_image` 0. A new number is a field here and its use in `ssd.multibox.loss` or `matcher`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    # IoU with an object from which a default box is matched to it.
    match_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    # IoU from which an unmatched default box is left out of the loss instead of being background; 1 leaves out none.
    negative_iou: Annotated[float, Field(ge=0, le=1)] = 0.4
    # Hard negatives for each matched default box.
    negative_ratio: Annotated[int, Field(ge=1)] = 3
    # Hard negatives from an image without objects.
    negatives_per_empty_image: Annotated[int, Field(ge=0)] = 32
    # Share of each class target that is spread over all classes; 0 turns it off.
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # Loss weight of the auxiliary heads of googlenet and inception_v3; 0 builds none.
    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.0
    # Weights of the classification loss of matched default boxes, by class, such as {cat: 3}; 1 for other classes.
    class_weights: dict[str, Annotated[float, Field(gt=0)]] = field(default_factory=dict)


@dataclass(frozen=True)
class Postprocessing:
    """Numbers of section 3.1: threshold, per-class candidates, non-maximum suppression, detections kept.

    They go whole from the weights file or from `detect` to `ssd.multibox.postprocess`. A new threshold touches three
    files: a field and its range here, its use in `multibox/postprocess.py`, and the same for exported graphs in
    `exporters/graph.py`. Only a number that callers may change as well is also an argument of `Detector.detect`.
    """

    __pydantic_config__ = _STRICT

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
        by_class = dict(zip(class_names, self.own_thresholds or [READABLE_SCORE] * len(class_names), strict=True))
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

        Raises:
            ArgumentError: a number of the wrong kind, or out of its range.
        """
        given = {name: value for name, value in numbers.items() if value is not None}
        chosen: dict[str, Any] = {}
        for name, value in given.items():
            kind, possible, remedy = _NUMBERS[name]
            whole = "whole " if kind is int else ""
            if not is_number(value, whole=kind is int):
                raise ArgumentError(f"{value!r} is not a {whole}number", place=name, remedy=remedy)
            chosen[name] = kind(value)
            if not possible(chosen[name]):
                raise ArgumentError(f"{value} is out of range", place=name, remedy=remedy)
        return dataclasses.replace(self, **chosen)


def _is_share(value: float) -> bool:
    return 0 <= value <= 1


def _is_count(value: int) -> bool:
    return 0 < value <= _MAX_COUNT


# Kind, range and remedy of each number of the post-processing.
_NUMBERS: dict[str, tuple[type, Callable[[Any], bool], str]] = {
    "score_threshold": (float, _is_share, "Use a number from 0 to 1."),
    "iou_threshold": (float, _is_share, "Use a number from 0 to 1."),
    "top_k": (int, _is_count, f"Use a whole number from 1 to {_MAX_COUNT}."),
    "max_detections": (int, _is_count, f"Use a whole number from 1 to {_MAX_COUNT}."),
    "box_voting": (float, can_be_sigma, SIGMA_REMEDY),
}


_ABSENT_IF_EMPTY = ("own_thresholds", "class_thresholds")


@dataclass(frozen=True)
class Settings:
    """Everything but the weights."""

    __pydantic_config__ = _STRICT

    network: NetworkSettings
    boxes: BoxSettings
    class_names: tuple[str, ...]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    postprocessing: Postprocessing = field(default_factory=Postprocessing)

    @property
    def num_classes(self) -> int:
        """How many foreground classes there are."""
        return len(self.class_names)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, as written into a weights file."""
        facts = dataclasses.asdict(self)
        for key in _ABSENT_IF_EMPTY:  # so that files without thresholds are as they were before there were any
            if not facts["postprocessing"][key]:
                del facts["postprocessing"][key]
        return facts

    @staticmethod
    def from_dict(raw: dict[str, Any], place: str = "settings") -> "Settings":
        """Check and rebuild; lists become tuples.

        Raises:
            CheckpointError: a key is missing, unknown or of the wrong kind, or a value is one that no network has.
        """
        try:
            settings = TypeAdapter(Settings).validate_python(raw)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise CheckpointError(
                f"the settings in the file are wrong at {key!r}: {first['msg']}",
                place=place,
                remedy="Was it written by a newer version of this package?",
            ) from None
        for key, value, good in _checks(settings):
            if not good:
                problem = f"the settings in the file are wrong: {key} = {str(value)[:80]}"
                raise CheckpointError(problem, place=place, remedy="Use the file as it was published.")
        return settings


def _checks(settings: Settings) -> Iterator[tuple[str, object, bool]]:
    """Each number with whether it can be: a file from a stranger must not ask for a terabyte or divide by zero."""
    network, boxes, names = settings.network, settings.boxes, settings.class_names
    yield "network.input_size", network.input_size, 0 < network.input_size <= _MAX_SIDE
    yield "network.width", network.width, 0 < network.width <= _MAX_WIDTH
    yield "network.l2_eps", network.l2_eps, 0 < network.l2_eps < 1
    yield "class_names", names, 0 < len(set(names)) == len(names) <= _MAX_COUNT and all(names)

    yield "boxes.input_size", boxes.input_size, boxes.input_size == network.input_size
    yield "boxes.grids", boxes.grids, bool(boxes.grids) and all(0 < grid <= _MAX_SIDE for grid in boxes.grids)
    for key in ("steps", "min_sizes", "max_sizes", "aspect_ratios"):
        value = getattr(boxes, key)
        numbers = [number for ratios in value for number in ratios] if key == "aspect_ratios" else value
        good = len(value) == len(boxes.grids) and all(0 < number <= _MAX_COUNT for number in numbers)
        yield f"boxes.{key}", value, good
    count = sum(grid**2 * (2 + 2 * len(more)) for grid, more in zip(boxes.grids, boxes.aspect_ratios, strict=False))
    yield "boxes", f"{count:,} default boxes", count <= _MAX_BOXES
    yield "boxes.variances", boxes.variances, all(0 < number <= _MAX_COUNT for number in boxes.variances)

    mean, std = settings.preprocessing.mean, settings.preprocessing.std
    yield "preprocessing.mean", mean, all(abs(number) <= _MAX_COUNT for number in mean)
    yield "preprocessing.std", std, all(1e-6 < number <= _MAX_COUNT for number in std)

    rules = settings.postprocessing
    for key, (_, possible, _) in _NUMBERS.items():
        yield f"postprocessing.{key}", getattr(rules, key), possible(getattr(rules, key))
    for key in _ABSENT_IF_EMPTY:
        values = getattr(rules, key)
        yield f"postprocessing.{key}", values, len(values) in (0, len(names)) and all(map(_is_share, values))
