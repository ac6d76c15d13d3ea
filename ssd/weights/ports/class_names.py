"""Class lists of the data sets that published checkpoints were trained on, in the order of their columns."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssd.errors import ArgumentError, CheckpointError

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

COCO = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)

# COCO's category ids go to 90; these were taken out before release.
_COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def coco_by_id() -> tuple[str, ...]:
    """COCO's 90 ids as columns, for networks that keep one for each; the ten without a class are `unused_12` ..."""
    names = iter(COCO)
    return tuple(f"unused_{number}" if number in _COCO_GAPS else next(names) for number in range(1, 91))


def choose(
    given: Sequence[str] | None, count: int, known: Mapping[int, tuple[str, ...]], place: object
) -> tuple[str, ...]:
    """Pick the names of `count` classes: the given ones, else the format's own list, else `class_0` and so on.

    Raises:
        CheckpointError: the given names are too few, too many, or not all different.
    """
    if given is None:
        return known.get(count) or tuple(f"class_{index}" for index in range(count))
    if len(given) != count:
        raise CheckpointError(
            f"has {count} classes, and {len(given)} class names were given",
            place=place,
            remedy="Give one name for each class, in the order of training, without the background.",
        )
    repeated = sorted({name for name in given if list(given).count(name) > 1})
    if repeated:
        raise CheckpointError(f"class name {repeated[0]!r} is given twice", place=place, remedy="Names must differ.")
    return tuple(given)


def read_names(text: str) -> tuple[str, ...]:
    """Class names of a file, one a line, or of a list with commas. A background in front is no class and goes.

    Raises:
        ArgumentError: there are none, or the file is no text.
    """
    try:
        is_file = os.path.isfile(text)  # noqa: PTH113 - `Path` raises for a list longer than a file's name can be
        parts = Path(text).read_text(encoding="utf-8-sig").splitlines() if is_file else text.split(",")
    except (UnicodeDecodeError, OSError) as error:
        raise ArgumentError(f"cannot be read as text ({error})", place=text, remedy="Write one name a line.") from None
    names = [name for part in parts if (name := part.strip())]
    if names and names[0].strip("_").lower() == "background":
        names = names[1:]
    if not names:
        raise ArgumentError("holds no class names", place=text, remedy="Write a,b,c or name a file with one a line.")
    return tuple(names)
