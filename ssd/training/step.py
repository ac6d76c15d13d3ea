"""The training step: forward, match, loss and backward of a batch; clip, step and average of the weights."""

import contextlib
import dataclasses

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssd.images.preprocess import mean_and_std, normalise
from ssd.model.backbones import TorchvisionBackbone
from ssd.multibox.auxiliary_loss import presence_loss
from ssd.multibox.coder import Variances
from ssd.multibox.loss import LossParts, multibox_loss
from ssd.multibox.matcher import Matches, match
from ssd.settings import LossRules, Preprocessing
from ssd.structures import Predictions, Targets
from ssd.system import distributed
from ssd.training.convolutions import fast_convolutions, memory_format
from ssd.training.optim import AveragedNetwork


class TrainStep:
    """A network in training with its optimizer.

    `forward`, `match`, `loss` and `backward` add the gradients of a batch, `update` applies them. Several batches per
    update have the gradients of one batch of all their images. `network` is trained in place and should be in
    `convolutions.memory_format`; the layers compute in `dtype`, their weights stay float32. With several processes
    every gradient is that of the global batch.
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
        class_weights: Float[Tensor, "C"] | None = None,
        dtype: torch.dtype = torch.float32,
        clip_norm: float | None = None,
        accumulate: int = 1,
        compiled: bool = False,
    ) -> None:
        self.network, self.average, self.optimizer, self.scaler = network, average, optimizer, scaler
        self.default_boxes, self.preprocessing = default_boxes, preprocessing
        self.rules, self.variances, self.class_weights = rules, variances, class_weights
        self.device, self.dtype = default_boxes.device, dtype
        # Made once, since a copy to the device would wait for the previous step.
        self._mean_and_std = mean_and_std(preprocessing, self.device)
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self._nothing = torch.zeros((), device=self.device)
        self._divisor = self._nothing  # of the gradients of this update
        self._parallel = _over_ranks(network, self.device)
        self._memory_format = memory_format(network, self.device, dtype)
        self._convolutions = contextlib.nullcontext() if compiled else fast_convolutions(network, self.device, dtype)
        self._forward: nn.Module = torch.compile(self._parallel) if compiled else self._parallel  # type: ignore[assignment]

    def to_device(self, images: UInt8[Tensor, "B 3 S S"], targets: Targets) -> tuple[Float[Tensor, "B 3 S S"], Targets]:
        """Move a batch to the device, and normalise its images there, in the network's memory format."""
        inputs = network_input(images, self.device, self.preprocessing, self._mean_and_std)
        inputs = inputs.contiguous(memory_format=self._memory_format)
        return inputs, targets.to(self.device, non_blocking=self.device.type != "mps")

    def accumulating(self, more: bool) -> contextlib.AbstractContextManager[None]:
        """A context for `forward` and `backward`: ranks exchange no gradients if `more` batches precede the update."""
        if not more or not isinstance(self._parallel, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._parallel.no_sync()

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Predictions:
        """Predict in the precision of the run."""
        low = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with low, self._convolutions:
            predictions: Predictions = self._forward(images)
        return predictions

    def match(self, targets: Targets) -> Matches:
        """Match the default boxes to objects."""
        return match(self.default_boxes, targets, self.rules)

    def loss(self, predictions: Predictions, targets: Targets, matches: Matches) -> LossParts:
        """The multibox loss of this process's images, divided by the matched default boxes of all processes' images."""
        positives = (matches.object_index >= 0).sum().float()
        # Gradients are averaged over ranks, so each rank divides by the mean count, and all by that of the whole batch.
        positives = distributed.sum_over_ranks(positives) / distributed.world_size()
        return self._with_auxiliary(self._multibox_loss(predictions, targets, matches, positives), targets)

    def validation_sums(self, predictions: Predictions, targets: Targets) -> LossParts:
        """The multibox loss of these images, not divided, without the auxiliary heads."""
        one = torch.ones((), device=predictions.logits.device)
        return self._multibox_loss(predictions, targets, self.match(targets), one)

    def backward(self, losses: LossParts) -> None:
        """Add the gradients of this batch to those of the update; several batches are divided by their common count."""
        loss = losses.total
        if self.accumulate > 1:
            loss = loss * losses.divisor.clamp(min=1)
            self._divisor = self._divisor + losses.divisor
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def update(self, updates: int) -> None:
        """Clip, step and average, as update number `updates`, from 1."""
        if self.accumulate > 1:
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    parameter.grad.div_(self._divisor.clamp(min=1))
            self._divisor = self._nothing
        if self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network, updates)

    def train(self) -> None:
        """Switch the network to training mode, except BatchNorms that are frozen: their statistics stay, too."""
        self._forward.train()
        norms = (layer for layer in self.network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))
        for norm in norms:
            if not any(parameter.requires_grad for parameter in norm.parameters()):
                norm.eval()

    def _multibox_loss(
        self, predictions: Predictions, targets: Targets, matches: Matches, positives: Tensor
    ) -> LossParts:
        return multibox_loss(
            predictions,
            targets,
            matches,
            self.default_boxes,
            self.rules,
            self.variances,
            positives=positives,
            class_weights=self.class_weights,
        )

    def _with_auxiliary(self, parts: LossParts, targets: Targets) -> LossParts:
        """Add the loss of the backbone's auxiliary heads."""
        weight = self.rules.auxiliary_weight
        if not weight:
            return parts
        backbone = self.network.get_submodule("backbone")
        assert isinstance(backbone, TorchvisionBackbone)
        return dataclasses.replace(parts, auxiliary=weight * presence_loss(backbone.presence, targets))


def network_input(
    images: UInt8[Tensor, "B 3 S S"],
    device: torch.device,
    preprocessing: Preprocessing,
    constants: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "B 3 S S"]:
    """Move images to the device and normalise them there, in channels-last memory."""
    images = images.to(device, non_blocking=device.type != "mps")  # MPS can lose the data of a copy that does not wait
    return normalise(images, preprocessing, constants).to(memory_format=torch.channels_last)


def _over_ranks(network: nn.Module, device: torch.device) -> nn.Module:
    if distributed.world_size() == 1:
        return network
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=device_ids, gradient_as_bucket_view=True)
