"""Annotations in a wrong unit or form: fractions in place of pixels or the reverse, corners in place of sizes."""

import numpy as np
from jaxtyping import Float

from ssd.data.formats.annotations import Form, Problem, RawSplit
from ssd.data.formats.columns import columns_of

_FEW = 4  # with fewer objects corners are not told from sizes
_LARGER = 1.1  # least ratio of a box to its image that is no rounding, ...
_MOST = 0.9  # ... and least share of such boxes for which they look like those in another unit, or of a larger image
_SHARE = 0.1  # least share of boxes beyond the edge for which sizes look like corners


def find_misread(raw: RawSplit) -> list[Problem]:
    """Problems with the unit or form of the boxes of a split, found from all of them together."""
    columns = columns_of(raw.images)
    rows = np.flatnonzero(~columns.crowd & np.isfinite(columns.boxes).all(axis=1))
    if not len(rows):
        return []
    boxes = columns.boxes[rows]
    image = raw.images[int(columns.owners[rows[0]])]
    sizes = np.array([(image.width, image.height) for image in raw.images], float)
    sides = sizes[columns.owners[rows]]
    message = _fractions(boxes, sides) or _larger(boxes, sides, raw.form) or _corners(boxes, sides, raw.form)
    if message is None:
        return []
    kind, text = message
    values = " ".join(f"{value:g}" for value in boxes[0].tolist())
    return [Problem(image.source, kind, f"{text} (here {values} in {image.width}x{image.height})", "file")]


def _fractions(boxes: Float[np.ndarray, "N 4"], sides: Float[np.ndarray, "N 2"]) -> tuple[str, str] | None:
    lengths = boxes[:, 2:] - boxes[:, :2]
    if (sides.min(axis=1) > 16).all() and (lengths <= 1).all() and (np.abs(boxes) <= 2).all() and lengths.max() > 0:
        return "fractions", (
            "boxes look like fractions of the image where pixels are meant: multiply them by its width and height, "
            "or export as YOLO"
        )
    return None


def _larger(boxes: Float[np.ndarray, "N 4"], sides: Float[np.ndarray, "N 2"], form: Form) -> tuple[str, str] | None:
    """Nearly every box is larger than its image: YOLO's are pixels or percent, corners are those of a larger image."""
    larger = (boxes[:, 2:] - boxes[:, :2] > _LARGER * sides).any(axis=1)
    if form == "sizes" or len(boxes) < _FEW or larger.mean() < _MOST:
        return None
    said = f"{int(larger.sum())} of {len(boxes)} boxes are larger than their image: "
    if form == "corners":
        return "larger_image", (
            f"{said}they look like those of larger images, which were resized later: multiply x by the width of the "
            "image over that of its original, and y by the ratio of the heights"
        )
    return "pixels", (
        f"{said}the numbers look like pixels or percent where fractions are meant: divide x and width by the image's "
        "width and y and height by its height, or all by 100"
    )


def _corners(boxes: Float[np.ndarray, "N 4"], sides: Float[np.ndarray, "N 2"], form: Form) -> tuple[str, str] | None:
    """COCO and YOLO give sizes; if all four numbers fit as corners and many boxes reach outside, they are corners."""
    if len(boxes) < _FEW or form == "corners":
        return None
    lengths = boxes[:, 2:] - boxes[:, :2]
    start = boxes[:, :2] if form == "sizes" else boxes[:, :2] + lengths / 2  # COCO's corner, YOLO's centre
    fit = (lengths > start).all() and (lengths <= sides * 1.01 + 1).all() and (start >= -1).all()
    beyond = ((boxes[:, 2:] > sides + 1) | (boxes[:, :2] < -1)).any(axis=1)
    if fit and beyond.mean() >= _SHARE:
        meant = "x y width height" if form == "sizes" else "x-centre y-centre width height"
        return "corners", (
            f"{int(beyond.sum())} of {len(boxes)} boxes reach outside, and all look like corners x1 y1 x2 y2 where "
            f"{meant} is meant: write sizes"
        )
    return None
