"""The facts that make a set of weights a detector, as plain frozen dataclasses that travel in the weights file.

A network's numbers mean nothing without them: which default boxes its offsets refer to, how images were resized and
scaled, which class each column is. `Settings.to_dict` and `from_dict` are exact inverses over plain JSON types.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from ssd.errors import CheckpointError
from ssd.rules import MAX_COUNT as _MAX_COUNT
from ssd.rules import NUMBERS, Depth, is_share, is_window
from ssd.rules import Postprocessing as Postprocessing
from ssd.tiles import Tiles, can_be_tiles

_STRICT = ConfigDict(extra="forbid")
# Far beyond any network in use, and still no more memory than a large one takes.
_MAX_SIDE, _MAX_WIDTH, _MAX_BOXES = 4096, 4.0, 3_000_000


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
    # How images of more than 8 bits a channel become 8. None: by the upper 8 bits.
    depth: Depth | None = None


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
    tiles: Tiles = 1  # that training saw, and detection searches unless it is told otherwise; 1: whole images

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
        if self.tiles == 1:  # as above
            del facts["tiles"]
        if facts["preprocessing"]["depth"] is None:
            del facts["preprocessing"]["depth"]
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

    yield "tiles", settings.tiles, can_be_tiles(settings.tiles)

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
    depth = settings.preprocessing.depth
    yield "preprocessing.depth", depth, not isinstance(depth, tuple) or is_window(depth)

    rules = settings.postprocessing
    for key, (_, possible, _) in NUMBERS.items():
        yield f"postprocessing.{key}", getattr(rules, key), possible(getattr(rules, key))
    for key in _ABSENT_IF_EMPTY:
        values = getattr(rules, key)
        yield f"postprocessing.{key}", values, len(values) in (0, len(names)) and all(map(is_share, values))
