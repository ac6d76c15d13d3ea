"""Small batches for the tests of this room."""

from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

import torch

from ssd.multibox import loss, matcher, postprocess
from ssd.settings import LossRules, Postprocessing
from ssd.structures import Predictions, Targets

VARIANCES = (0.1, 0.1, 0.2, 0.2)
ALL_NEGATIVE = LossRules(negative_iou=1.0)  # as in the paper, every unmatched box may be a negative
RULES = Postprocessing()


def targets_of(*images):
    """Pad images, each a list of (box, label) or (box, label, "crowd")."""
    rows = max((len(objects) for objects in images), default=0)
    targets = Targets(
        boxes=torch.zeros(len(images), rows, 4),
        labels=torch.zeros(len(images), rows, dtype=torch.long),
        crowd=torch.zeros(len(images), rows, dtype=torch.bool),
        valid=torch.zeros(len(images), rows, dtype=torch.bool),
    )
    for image, objects in enumerate(images):
        for row, (box, label, *crowd) in enumerate(objects):
            targets.boxes[image, row] = torch.tensor(box)
            targets.labels[image, row] = label
            targets.crowd[image, row] = bool(crowd)
            targets.valid[image, row] = True
    return targets


def random_boxes(count, generator, grid=None):
    """Boxes inside the unit square; with `grid`, corners on a grid so coarse that overlaps tie."""
    if grid is None:
        corners = torch.rand(count, 2, 2, generator=generator)
        low, high = corners.amin(1), corners.amax(1) + 1e-3
        return torch.cat([low, high], dim=1)
    low = torch.randint(0, grid, (count, 2), generator=generator)
    sides = torch.randint(1, grid + 1, (count, 2), generator=generator)
    return torch.cat([low, low + sides], dim=1) / grid


def random_targets(images, most, generator, *, grid=None, num_classes=5, crowds=0.2):
    """Images with 0 to `most` objects, some of them crowds, padded to the fullest."""
    rows = []
    for _ in range(images):
        count = int(torch.randint(0, most + 1, (), generator=generator))
        boxes = random_boxes(count, generator, grid).tolist()
        labels = torch.randint(0, num_classes, (count,), generator=generator).tolist()
        crowd = (torch.rand(count, generator=generator) < crowds).tolist()
        rows.append(
            [(box, label, "crowd") if c else (box, label) for box, label, c in zip(boxes, labels, crowd, strict=True)]
        )
    return targets_of(*rows)


def random_predictions(images, boxes, classes, generator, spread=1.0):
    """Predictions as an untrained network might make them; background is one of `classes`."""
    offsets = torch.randn(images, boxes, 4, generator=generator) * spread
    return Predictions(offsets, torch.randn(images, boxes, classes, generator=generator) * spread)


def postprocessed(predictions, default_boxes, **changes):
    """Detections by the default rules with `changes`."""
    return postprocess.postprocess(predictions, default_boxes, replace(RULES, **changes), VARIANCES)


def pretended_device(is_cpu):
    """With False: take the ways meant for other devices, on CPU tensors."""
    stack = ExitStack()
    for module in (loss, matcher, postprocess):
        stack.enter_context(mock.patch.object(module, "on_cpu", return_value=is_cpu))
    return stack
