"""What happens to one batch: forward, match, loss, backward; and to the weights: clip, step, average."""

import contextlib
import dataclasses

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssd.images.preprocess import normalise
from ssd.model.backbones import TorchvisionBackbone
from ssd.multibox.auxiliary_loss import presence_loss
from ssd.multibox.coder import Variances
from ssd.multibox.loss import LossParts, multibox_loss
from ssd.multibox.matcher import match
from ssd.settings import LossRules, Preprocessing
from ssd.structures import Predictions, Targets
from ssd.system import distributed
from ssd.training.optim import AveragedNetwork


class TrainStep:
    """A network in training, with all that one step needs.

    `backward` adds the gradients of a batch, `update` uses them; between two updates there may be several batches.
    `network` is trained in place and should be in channels-last memory; the layers compute in `dtype`, their weights
    stay float32. Over several processes every gradient is that of the global batch.
    """

    def __init__(
        self,
        network: nn.Module,
        average: AveragedNetwork,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        default_boxes: Float[Tensor, "K 4"],
        preprocessing: Preprocessing,
        rules: LossRules,
        variances: Variances,
        dtype: torch.dtype = torch.float32,
        clip_norm: float | None = None,
        accumulate: int = 1,
        compiled: bool = False,
    ) -> None:
        self.network, self.average, self.optimizer, self.scaler = network, average, optimizer, scaler
        self.default_boxes, self.preprocessing = default_boxes, preprocessing
        self.rules, self.variances = rules, variances
        self.device, self.dtype = default_boxes.device, dtype
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self._parallel = _over_ranks(network, self.device)
        self._forward: nn.Module = torch.compile(self._parallel) if compiled else self._parallel  # type: ignore[assignment]

    def backward(
        self, images: UInt8[Tensor, "B 3 S S"], targets: Targets, *, sync: bool = True
    ) -> tuple[LossParts, Int[Tensor, ""]]:
        """Add one batch's gradients; gives the loss and the number of objects that missed their best default box.

        With `sync=False` the processes do not exchange gradients yet: more batches come before the update.
        """
        pixels = network_input(images, self.device, self.preprocessing)
        targets = targets.to(self.device, non_blocking=True)
        with self._quiet(sync):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                predictions = self._forward(pixels)
            parts, missed_best_box = self.loss(predictions, targets, over_ranks=True)
            parts = self._with_auxiliary(parts, targets)
            loss = self.scaler.scale(parts.total / self.accumulate)
            loss.backward()  # type: ignore[no-untyped-call]
        return parts, missed_best_box

    def update(self, updates: int) -> None:
        """Clip, step, average; this is update number `updates`, from 1."""
        if self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network, updates)

    def loss(
        self, predictions: Predictions, targets: Targets, *, over_ranks: bool
    ) -> tuple[LossParts, Int[Tensor, ""]]:
        """Match and compare; `over_ranks` divides by the matched boxes of all processes, not of this one alone."""
        matches = match(self.default_boxes, targets, self.rules)
        positives = (matches.object_index >= 0).sum()
        if over_ranks:
            # Gradients are averaged over ranks, so each divides by the mean count: together, by the whole batch's.
            positives = distributed.sum_over_ranks(positives.float()) / distributed.world_size()
        parts = multibox_loss(
            predictions, targets, matches, self.default_boxes, self.rules, self.variances, positives=positives
        )
        return parts, matches.missed_best_box

    def train(self) -> None:
        """Switch layers that behave differently in training to that."""
        self._forward.train()

    def _with_auxiliary(self, parts: LossParts, targets: Targets) -> LossParts:
        """Add what the backbone's auxiliary heads, which only train, have to learn."""
        weight = self.rules.auxiliary_weight
        if not weight:
            return parts
        backbone = self.network.get_submodule("backbone")
        assert isinstance(backbone, TorchvisionBackbone)
        return dataclasses.replace(parts, auxiliary=weight * presence_loss(backbone.presence, targets))

    def _quiet(self, sync: bool) -> contextlib.AbstractContextManager[None]:
        """Between the batches of one update the ranks need not exchange gradients."""
        if sync or not isinstance(self._parallel, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._parallel.no_sync()


def network_input(
    images: UInt8[Tensor, "B 3 S S"], device: torch.device, preprocessing: Preprocessing
) -> Float[Tensor, "B 3 S S"]:
    """Bring images to the device, and there to what the network reads, in channels-last memory."""
    images = images.to(device, non_blocking=True)
    return normalise(images, preprocessing).to(memory_format=torch.channels_last)


def _over_ranks(network: nn.Module, device: torch.device) -> nn.Module:
    if distributed.world_size() == 1:
        return network
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
