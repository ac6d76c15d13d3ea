"""Parameter groups, the learning-rate schedule, and averaged weights."""

import copy
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ssd.model.vgg import L2Norm

MOMENTUM = 0.9


def parameter_groups(
    network: nn.Module,
    *,
    weight_decay: float,
    bias_lr_factor: float = 1.0,
    decay_l2_scale: bool = False,
    pretrained: Collection[str] = (),
    pretrained_lr_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Split trainable parameters into weights, biases and scales (of norm layers and of the L2 normalisation).

    The original trains biases at twice the rate and does not decay them (model_libs.py:86-87); it decays the scale of
    the L2 normalisation, whose layer has Caffe's default factors (model_libs.py:826-827), but not those of BatchNorm.
    Each group has an `lr_factor`, which `set_lr` applies. Parameters named in `pretrained` have groups of their own
    with `pretrained_lr_factor` times the rate, unless that factor is 1.
    """
    rules = {"weight": (weight_decay, 1.0), "bias": (0.0, bias_lr_factor), "scale": (0.0, 1.0)}
    rules["l2"] = (weight_decay if decay_l2_scale else 0.0, 1.0)
    members: dict[tuple[str, float], list[nn.Parameter]] = {}
    for share in (1.0, pretrained_lr_factor):
        members |= {(kind, share): [] for kind in rules}
    l2 = {id(module.scale) for module in network.modules() if isinstance(module, L2Norm)} if decay_l2_scale else set()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            kind = "weight" if parameter.ndim > 1 else "bias" if name.endswith("bias") else "scale"
            kind = "l2" if id(parameter) in l2 else kind
            members[kind, pretrained_lr_factor if name in pretrained else 1.0].append(parameter)
    return [
        {"params": parameters, "weight_decay": rules[kind][0], "lr_factor": rules[kind][1] * share}
        for (kind, share), parameters in members.items()
        if parameters
    ]


def new_sgd(groups: list[dict[str, Any]]) -> torch.optim.SGD:
    """Fused SGD with momentum; `set_lr` sets its rate.

    Its buffers are 0 from the start. The fused kernel leaves them unwritten, and later reads them, where an overflow in
    fp16 skips the first update.
    """
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, fused=True)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group to `lr` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


@dataclass(frozen=True)
class Schedule:
    """Learning rate of every optimizer step: linear warm-up, then steps or a cosine."""

    lr: float
    total: int  # optimizer steps of the run
    warmup: int = 0
    shape: Literal["cosine"] | tuple[float, ...] = "cosine"  # or fractions of the run at which the rate falls tenfold
    final: float = 0.01  # the cosine ends at this fraction of `lr`

    def at(self, step: int) -> float:
        """Learning rate of optimizer step `step`, from 0; the warm-up takes at most a tenth of the run."""
        warmup = min(self.warmup, max(1, self.total // 10))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        if self.shape != "cosine":
            return self.lr * 0.1 ** sum(step >= round(self.total * drop) for drop in self.shape)
        done = (step - warmup) / max(1, self.total - warmup)
        return self.lr * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class AveragedNetwork:
    """A running average of the weights (EMA), which is evaluated and saved.

    The decay grows with the number of steps, so that the random start has little weight in a short run. With `decay` 0
    the average is the network itself.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False) if decay else network

    @torch.no_grad()
    def update(self, network: nn.Module, steps: int) -> None:
        """Move the average towards `network` after its optimizer step number `steps` (from 1)."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + steps) / (10 + steps))
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True))
        floats = [(mine, theirs) for mine, theirs in pairs if mine.is_floating_point()]
        blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        blend([mine for mine, _ in floats], [theirs for _, theirs in floats], steps)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


def _tensors(network: nn.Module) -> Iterable[Tensor]:
    return network.state_dict().values()
