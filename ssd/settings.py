"""The facts that make a set of weights a detector, as plain frozen dataclasses that travel in the weights file.

A network's numbers mean nothing without them: which default boxes its offsets refer to, how pictures were resized and
scaled, which class each column is. `Settings.to_dict` and `from_dict` are exact inverses over plain JSON types.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ssd.errors import CheckpointError

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class NetworkSettings:
    """Plain numbers from which `ssd.variants` builds the network."""

    __pydantic_config__ = _STRICT

    backbone: str = "vgg16"
    input_size: int = 300
    width: float = 1.0
    extras_norm: Literal["none", "batch"] = "none"
    first_level_norm: Literal["l2", "batch", "none"] = "l2"  # qfgaohao has BatchNorm2d on conv4_3
    l2_eps: float = 1e-10


@dataclass(frozen=True)
class BoxSettings:
    """How default boxes are tiled. Sizes and steps are pixels of the network's input; one entry a level."""

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
    """From a uint8 RGB picture to the network's input: `(pixel - mean) / std`, with pixels 0..255."""

    __pydantic_config__ = _STRICT

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # in the order of `channels`
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    channels: Literal["rgb", "bgr"] = "rgb"
    # float: normalise first, then resize floats (torchvision). antialias: PIL's bilinear, of all pixels covered.
    resize: Literal["uint8", "float", "antialias"] = "uint8"


@dataclass(frozen=True)
class Postprocessing:
    """Numbers of section 3.1: threshold, per-class candidates, non-maximum suppression, detections kept."""

    __pydantic_config__ = _STRICT

    score_threshold: float = 0.01
    top_k: int = 400
    iou_threshold: float = 0.45
    max_detections: int = 200
    clip: Literal["before", "after"] = "after"  # cut boxes to the image before or after suppression


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
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(raw: dict[str, Any], place: str = "settings") -> "Settings":
        """Check and rebuild; lists become tuples.

        Raises:
            CheckpointError: a key is missing, unknown or of the wrong kind.
        """
        try:
            return TypeAdapter(Settings).validate_python(raw)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise CheckpointError(
                f"the settings in the file are wrong at {key!r}: {first['msg']}",
                place=place,
                remedy="Was it written by a newer version of this package?",
            ) from None
