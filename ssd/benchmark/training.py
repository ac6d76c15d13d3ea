"""The training stages: the loss, and a whole step."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from ssd.benchmark import torchvision_baseline
from ssd.benchmark.agreement import same_numbers
from ssd.benchmark.fixtures import Fixtures
from ssd.benchmark.timing import Comparison, DisagreementError
from ssd.experiment.config import Config
from ssd.model.factory import from_settings
from ssd.multibox.loss import multibox_loss
from ssd.multibox.matcher import match
from ssd.settings import LossRules
from ssd.structures import Predictions, Targets
from ssd.system.device import choose_dtype
from ssd.training.convolutions import memory_format, memory_format_of_vgg
from ssd.training.optim import AveragedNetwork, new_sgd, parameter_groups, set_lr
from ssd.training.step import TrainStep
from ssd.weights.resolve import read_weights

# So low that the weights hardly change, and the last step does the work of the first.
_LR = 1e-7
# As in torchvision, an unmatched default box may be a negative at any overlap with an object.
_RULES = LossRules(negative_iou=1.0)


def loss(fixtures: Fixtures) -> Comparison:
    """Matching, loss and its gradient with respect to the predictions."""
    generator = torch.Generator().manual_seed(3)
    images, boxes = fixtures.sizes.loss_batch, len(fixtures.default_boxes)
    offsets = torch.randn(images, boxes, 4, generator=generator).to(fixtures.device).requires_grad_()
    logits = (
        torch.randn(images, boxes, fixtures.sizes.columns, generator=generator).to(fixtures.device).requires_grad_()
    )
    targets = fixtures.targets(images)
    rows = _torchvision_targets(targets, fixtures.settings.network.input_size)

    def gradients(value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        by_offsets, by_logits = torch.autograd.grad(value, [offsets, logits])
        return value.detach(), by_offsets, by_logits

    def ours() -> tuple[Tensor, Tensor, Tensor]:
        return gradients(_our_loss(fixtures, Predictions(offsets, logits), targets))

    def theirs() -> tuple[Tensor, Tensor, Tensor]:
        return gradients(_torchvision_loss(fixtures, {"bbox_regression": offsets, "cls_logits": logits}, rows))

    def check() -> str:
        (value, *mine), (their_value, *other) = ours(), theirs()
        for what, a, b in zip(("offsets' gradients", "logits' gradients"), mine, other, strict=True):
            same_numbers(a, b, 1e-2, what)
        return _same_loss(value, their_value, 1e-4)

    return Comparison(ours, theirs, check, training=True)


def train_step(fixtures: Fixtures, *, torchvision_tuned: bool, images: int | None = None) -> Comparison:
    """Forward, loss, backward, update; of `images`, or as many as the fixtures have in a batch."""
    images = images or fixtures.sizes.batch
    pixels, targets = fixtures.inputs(images).to(fixtures.device), fixtures.targets(images)
    ours = our_step(fixtures, pixels, targets)
    theirs = torchvision_step(fixtures, pixels, targets, tuned=torchvision_tuned)
    # The first steps have equal weights, but different precisions.
    return Comparison(ours, theirs, lambda: _same_loss(ours(), theirs(), 0.05), training=True, pairs=9)


def our_step(fixtures: Fixtures, pixels: Tensor, targets: Targets) -> Callable[[], Tensor]:
    """A step of the trainer, with clipping and averaging, but with torchvision's rule for negatives."""
    state, settings = read_weights(fixtures.weights)
    network = from_settings(settings)
    network.load_state_dict(state)
    config, dtype = Config(), choose_dtype("auto", fixtures.device)
    network.to(fixtures.device)
    network.to(memory_format=memory_format(network, fixtures.device, dtype))
    groups = parameter_groups(network, weight_decay=config.optim.weight_decay)
    optimizer = new_sgd(groups)
    set_lr(optimizer, _LR)
    step = TrainStep(
        network,
        AveragedNetwork(network, config.optim.ema),
        optimizer,
        torch.amp.GradScaler(fixtures.device.type, enabled=dtype == torch.float16),
        default_boxes=fixtures.default_boxes,
        preprocessing=settings.preprocessing,
        rules=_RULES,
        variances=settings.boxes.variances,
        dtype=dtype,
        clip_norm=config.optim.clip_norm,
        compiled=fixtures.compiled,
    )
    step.train()

    def once() -> Tensor:
        images, objects = step.to_device(pixels, targets)
        losses = step.loss(step.forward(images), objects, step.match(objects))
        step.backward(losses)
        step.update(1)
        return losses.total.detach()

    return once


def torchvision_step(
    fixtures: Fixtures, pixels: Tensor, targets: Targets, *, tuned: bool = False
) -> Callable[[], Tensor]:
    """One step of the loop in torchvision's references; `tuned` adds bf16 and the faster memory format."""
    model = torchvision_baseline.load_model(fixtures.weights).to(fixtures.device).train()
    dtype = choose_dtype("auto", fixtures.device) if tuned else torch.float32
    if tuned:
        model.to(memory_format=memory_format_of_vgg(fixtures.device, dtype))
    optimizer = torch.optim.SGD(model.parameters(), lr=_LR, momentum=0.9, weight_decay=5e-4)
    images = [torchvision_baseline.as_float(image) for image in pixels]
    rows = _torchvision_targets(targets, fixtures.settings.network.input_size)
    low = torch.autocast(fixtures.device.type, dtype) if dtype != torch.float32 else contextlib.nullcontext()

    def step() -> Tensor:
        with low:
            parts = model(images, rows)
            value: Tensor = sum(parts.values())
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return value.detach()

    return step


def _our_loss(fixtures: Fixtures, predictions: Predictions, targets: Targets) -> Tensor:
    matches = match(fixtures.default_boxes, targets, _RULES)
    variances = fixtures.settings.boxes.variances
    return multibox_loss(predictions, targets, matches, fixtures.default_boxes, _RULES, variances).total


def _torchvision_loss(fixtures: Fixtures, outputs: dict[str, Tensor], rows: list[dict[str, Tensor]]) -> Tensor:
    """The loss as `SSD.forward` of torchvision computes it after the head."""
    boxes = [fixtures.torchvision_default_boxes] * len(rows)
    matched = [
        fixtures.torchvision_model.proposal_matcher(box_iou(row["boxes"], fixtures.torchvision_default_boxes))
        for row in rows
    ]
    parts: dict[str, Any] = fixtures.torchvision_model.compute_loss(rows, outputs, boxes, matched)
    total: Tensor = parts["bbox_regression"] + parts["classification"]
    return total


def _torchvision_targets(targets: Targets, side: int) -> list[dict[str, Tensor]]:
    """Boxes in pixels, labels from 1, no padding."""
    pairs = zip(targets.boxes, targets.labels, targets.valid, strict=True)
    return [{"boxes": boxes[valid] * side, "labels": labels[valid] + 1} for boxes, labels, valid in pairs]


def _same_loss(ours: Tensor, theirs: Tensor, tolerance: float) -> str:
    mine, other = float(ours), float(theirs)
    if not abs(mine - other) <= tolerance * abs(other):
        raise DisagreementError(f"losses {mine:.6g} and {other:.6g}, at most {tolerance:.2%} apart expected")
    return f"losses {mine:.5g} and {other:.5g}"
