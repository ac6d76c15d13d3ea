"""Signs that a network will learn nothing: dead units, and a first loss far above that of a uniform guess."""

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

_DEAD_SHARE = 0.5
_FIRST_LOSS = 4.0


class DeadUnits:
    """Counts the channels of some layers that are zero in every cell of every image of the observed passes."""

    def __init__(self) -> None:
        self._alive: dict[str, Tensor] = {}

    def see(self, name: str, output: Tensor) -> None:
        """Observe the activations of one layer (B, channels, h, w)."""
        alive = (output.detach() > 0).flatten(2).any(2).any(0)
        self._alive[name] = alive | self._alive[name] if name in self._alive else alive

    @property
    def observed(self) -> int:
        """Number of observed channels."""
        return sum(alive.numel() for alive in self._alive.values())

    @property
    def dead(self) -> Tensor | None:
        """Number of dead channels, on their device; None if no layer was observed."""
        if not self._alive:
            return None
        return (~torch.cat([alive.flatten() for alive in self._alive.values()])).sum()

    @property
    def share(self) -> float | None:
        """Share of dead channels, 0 to 1; None if no layer was observed. Waits for the device."""
        return None if self.dead is None else int(self.dead) / self.observed


@contextmanager
def watching(network: nn.Module, convolutions: Iterable[str]) -> Iterator[DeadUnits]:
    """Count dead channels behind these convolutions during the forward passes inside the `with`.

    A convolution `...conv8_1` is observed behind its ReLU, `...relu8_1`; those without one (the head) are left out.
    """
    modules = dict(network.named_modules())
    units = DeadUnits()
    behind = (name.replace("conv", "relu") for name in convolutions if "conv" in name)
    handles = [
        modules[name].register_forward_hook(lambda _layer, _inputs, output, name=name: units.see(name, output))
        for name in behind
        if name in modules
    ]
    try:
        yield units
    finally:
        for handle in handles:
            handle.remove()


def plain_guess(num_classes: int, negative_ratio: int) -> float:
    """Confidence loss per positive if all classes have the same score: (1 + negative_ratio) ln(num_classes + 1)."""
    return (1 + negative_ratio) * math.log(num_classes + 1)


def warn_about_start(first_loss: float, dead: float, num_classes: int, negative_ratio: int) -> list[str]:
    """Warn after the first step about signs that little will be learned; returns the warnings."""
    found = []
    guess = plain_guess(num_classes, negative_ratio)
    if first_loss > _FIRST_LOSS * guess:
        found.append(
            f"the first loss is {first_loss:.3g}, and guessing would be {guess:.3g}: the new layers start too large. "
            "Use mode=default, which scales new layers on the first images, or a lower optim.lr"
        )
    if dead > _DEAD_SHARE:
        found.append(
            f"{dead:.0%} of the new layers' units never fire: they cannot learn any more. "
            "Use mode=default, which scales new layers on the first images, a longer optim.warmup or a lower optim.lr"
        )
    for text in found:
        log.warning("%s", text)
    return found
