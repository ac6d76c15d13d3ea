"""Functions of `(..., 4)` boxes. `xyxy` unless the name says `_cxcywh`."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

REACH = 1024
"""Largest coordinate, in image sides, at which boxes are clipped for comparisons; no decoded side exceeds 66."""


def to_cxcywh(boxes: Float[Tensor, "*rest 4"]) -> Float[Tensor, "*rest 4"]:
    """Corners to centre and sides."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def from_cxcywh(boxes_cxcywh: Float[Tensor, "*rest 4"]) -> Float[Tensor, "*rest 4"]:
    """Centre and sides to corners."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def area(boxes: Float[Tensor, "*rest 4"]) -> Float[Tensor, "*rest"]:
    """Width times height; a box with crossed corners has area 0."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def intersection(boxes: Float[Tensor, "*rest N 4"], others: Float[Tensor, "*rest2 K 4"]) -> Float[Tensor, "*out N K"]:
    """Area shared by every pair of boxes."""
    # One plane a coordinate: rows of neighbouring numbers run three times as fast as pairs of corners.
    x1, y1, x2, y2 = boxes[..., :, None, :].unbind(-1)
    left, top, right, bottom = others[..., None, :, :].movedim(-1, 0).contiguous()
    width = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp_(min=0)
    height = (torch.minimum(y2, bottom) - torch.maximum(y1, top)).clamp_(min=0)
    return width * height


def iou(boxes: Float[Tensor, "*rest N 4"], others: Float[Tensor, "*rest2 K 4"]) -> Float[Tensor, "*out N K"]:
    """Intersection over union of every pair; 0 where both are empty (the Jaccard overlap of section 2.2)."""
    shared = intersection(boxes, others)
    union = area(boxes)[..., :, None] + area(others)[..., None, :] - shared
    return shared / union.clamp_(min=torch.finfo(shared.dtype).tiny)


def iou_of_arrays(
    boxes: Float[np.ndarray, "N 4"], others: Float[np.ndarray, "K 4"], *, inclusive: bool = False
) -> Float[np.ndarray, "N K"]:
    """`iou` of arrays, in double precision; `inclusive` counts the far corner's pixel as part of the box."""
    grow = np.array([0.0, 0.0, 1.0, 1.0]) * inclusive
    overlaps: np.ndarray = iou(*(torch.from_numpy(side.astype(np.float64) + grow) for side in (boxes, others))).numpy()
    return overlaps


def intersection_of_arrays(
    boxes: Float[np.ndarray, "N 4"], others: Float[np.ndarray, "K 4"]
) -> Float[np.ndarray, "N K"]:
    """`intersection` of arrays."""
    shared: np.ndarray = intersection(torch.from_numpy(boxes), torch.from_numpy(others)).numpy()
    return shared
