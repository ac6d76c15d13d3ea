"""The stages of training: the loss, and a whole step."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from ssd.benchmark import torchvision_baseline
from ssd.benchmark.agreement import same_numbers
from ssd.benchmark.fixtures import Bench
from ssd.benchmark.timing import Contest, DisagreementError
from ssd.experiment.config import Config
from ssd.model.factory import from_settings
from ssd.multibox.loss import multibox_loss
from ssd.multibox.matcher import match
from ssd.settings import LossRules
from ssd.structures import Predictions, Targets
from ssd.system.device import choose_dtype
from ssd.training.optim import MOMENTUM, AveragedNetwork, parameter_groups, set_lr
from ssd.training.step import TrainStep
from ssd.weights.resolve import read_weights

# So low that the weights hardly move: the last step then computes what the first did.
_LR = 1e-7
# As torchvision: an unmatched default box may be a negative, however much it overlaps an object.
_RULES = LossRules(negative_iou=1.0)


def loss(bench: Bench) -> Contest:
    """Matching, loss and its gradient on the predictions, as each side does at every step."""
    generator = torch.Generator().manual_seed(3)
    images, boxes = bench.sizes.loss_batch, len(bench.default_boxes)
    offsets = torch.randn(images, boxes, 4, generator=generator).to(bench.device).requires_grad_()
    logits = torch.randn(images, boxes, bench.sizes.columns, generator=generator).to(bench.device).requires_grad_()
    targets = bench.targets(images)
    rows = _peer_targets(targets, bench.settings.network.input_size)

    def gradients(value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        by_offsets, by_logits = torch.autograd.grad(value, [offsets, logits])
        return value.detach(), by_offsets, by_logits

    def ours() -> tuple[Tensor, Tensor, Tensor]:
        return gradients(_our_loss(bench, Predictions(offsets, logits), targets))

    def theirs() -> tuple[Tensor, Tensor, Tensor]:
        return gradients(_peer_loss(bench, {"bbox_regression": offsets, "cls_logits": logits}, rows))

    def check() -> str:
        (value, *mine), (their_value, *other) = ours(), theirs()
        for what, a, b in zip(("offsets' gradients", "logits' gradients"), mine, other, strict=True):
            same_numbers(a, b, 1e-2, what)
        return _same_loss(value, their_value, 1e-4)

    return Contest(ours, theirs, check, training=True)


def train_step(bench: Bench, *, peer_at_its_best: bool) -> Contest:
    """Forward, loss, backward, update."""
    pixels, targets = bench.inputs(bench.sizes.batch).to(bench.device), bench.targets(bench.sizes.batch)
    ours = our_step(bench, pixels, targets)
    theirs = peer_step(bench, pixels, targets, at_its_best=peer_at_its_best)
    # The first step of each has the same weights; the precisions differ.
    return Contest(ours, theirs, lambda: _same_loss(ours(), theirs(), 0.05), training=True, pairs=9)


def our_step(bench: Bench, pixels: Tensor, targets: Targets) -> Callable[[], Tensor]:
    """A training step as the trainer takes it, clipping and averaging included, but for the rule of negatives."""
    state, settings = read_weights(bench.weights)
    network = from_settings(settings)
    network.load_state_dict(state)
    network.to(bench.device).to(memory_format=torch.channels_last)
    config, dtype = Config(), choose_dtype("auto", bench.device)
    groups = parameter_groups(network, weight_decay=config.optim.weight_decay)
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, fused=True)
    set_lr(optimizer, _LR)
    step = TrainStep(
        network,
        AveragedNetwork(network, config.optim.ema),
        optimizer,
        torch.amp.GradScaler(bench.device.type, enabled=dtype == torch.float16),
        default_boxes=bench.default_boxes,
        preprocessing=settings.preprocessing,
        rules=_RULES,
        variances=settings.boxes.variances,
        dtype=dtype,
        clip_norm=config.optim.clip_norm,
        compiled=bench.compiled,
    )
    step.train()

    def once() -> Tensor:
        images, objects = step.to_device(pixels, targets)
        losses = step.loss(step.forward(images), objects, step.match(objects))
        step.backward(losses)
        step.update(1)
        return losses.total.detach()

    return once


def peer_step(bench: Bench, pixels: Tensor, targets: Targets, *, at_its_best: bool = False) -> Callable[[], Tensor]:
    """One step of torchvision's references' loop; at its best in bf16 and channels last, which its users must add."""
    model = torchvision_baseline.load_model(bench.weights).to(bench.device).train()
    dtype = choose_dtype("auto", bench.device) if at_its_best else torch.float32
    if at_its_best:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=_LR, momentum=0.9, weight_decay=5e-4)
    images = [torchvision_baseline.as_float(image) for image in pixels]
    rows = _peer_targets(targets, bench.settings.network.input_size)
    low = torch.autocast(bench.device.type, dtype) if dtype != torch.float32 else contextlib.nullcontext()

    def step() -> Tensor:
        with low:
            parts = model(images, rows)
            value: Tensor = sum(parts.values())
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return value.detach()

    return step


def _our_loss(bench: Bench, predictions: Predictions, targets: Targets) -> Tensor:
    matches = match(bench.default_boxes, targets, _RULES)
    variances = bench.settings.boxes.variances
    return multibox_loss(predictions, targets, matches, bench.default_boxes, _RULES, variances).total


def _peer_loss(bench: Bench, outputs: dict[str, Tensor], rows: list[dict[str, Tensor]]) -> Tensor:
    """What torchvision's `SSD.forward` does after its head."""
    boxes = [bench.peer_default_boxes] * len(rows)
    matched = [bench.peer.proposal_matcher(box_iou(row["boxes"], bench.peer_default_boxes)) for row in rows]
    parts: dict[str, Any] = bench.peer.compute_loss(rows, outputs, boxes, matched)
    total: Tensor = parts["bbox_regression"] + parts["classification"]
    return total


def _peer_targets(targets: Targets, side: int) -> list[dict[str, Tensor]]:
    """Boxes in pixels, labels from 1, no padding."""
    pairs = zip(targets.boxes, targets.labels, targets.valid, strict=True)
    return [{"boxes": boxes[valid] * side, "labels": labels[valid] + 1} for boxes, labels, valid in pairs]


def _same_loss(ours: Tensor, theirs: Tensor, tolerance: float) -> str:
    mine, other = float(ours), float(theirs)
    if not abs(mine - other) <= tolerance * abs(other):
        raise DisagreementError(f"losses {mine:.6g} and {other:.6g}, at most {tolerance:.2%} apart expected")
    return f"losses {mine:.5g} and {other:.5g}"
