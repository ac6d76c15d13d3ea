"""The levels of a library's backbone at an input size, found by running the network on the meta device."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssd.errors import ConfigError
from ssd.model import timm_backbones
from ssd.model.backbones import STRIDES, TimmBackbone, TorchvisionBackbone, backbone, library
from ssd.model.vgg import SMALLEST_INPUT

_LARGE_ENOUGH = 512
# The errors that torch and timm raise for an unsuitable input size.
_REFUSALS = (RuntimeError, AssertionError, ValueError)


@dataclass(frozen=True)
class Levels:
    """The levels of a backbone at one input size, fine level first."""

    grids: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    normalised: bool  # whether a normalisation was the last layer with weights before the first level


@functools.lru_cache(maxsize=64)
def levels(name: str, input_size: int, *, expansion: bool = False) -> Levels:
    """Grids, channels and strides of a torchvision or timm backbone at this input size; `expansion` as in `backbone`.

    Raises:
        ConfigError: no such network, no levels at strides 8 and 16, or an unsuitable input size.
        MissingExtraError: the network is timm's, and timm is not installed.
    """
    network = _on_meta(name, input_size if _depends_on_size(name) else SMALLEST_INPUT, expansion)
    try:
        outputs, normalised = _run(network, input_size)
    except _REFUSALS as error:
        raise _refused(name, input_size, error) from None
    if input_size < SMALLEST_INPUT:
        raise _refused(name, input_size, None)
    return Levels(
        grids=tuple(output.shape[-1] for output in outputs),
        channels=tuple(output.shape[1] for output in outputs),
        strides=_strides(network, len(outputs)),
        normalised=normalised,
    )


def _strides(network: TorchvisionBackbone | TimmBackbone, count: int) -> tuple[int, ...]:
    if isinstance(network, TimmBackbone):
        return network.strides
    return STRIDES[1:] if network.expansion else STRIDES[:count]


@functools.lru_cache(maxsize=64)
def smallest_input(name: str) -> int:
    """Side in pixels, at least 64, of the smallest square this network accepts, found by trial."""
    network = _on_meta(name, SMALLEST_INPUT)
    if _depends_on_size(name) or _takes(network, SMALLEST_INPUT):
        return SMALLEST_INPUT
    low, high = SMALLEST_INPUT, _LARGE_ENOUGH
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _takes(network, middle) else (middle, high)
    return high


def _takes(network: nn.Module, input_size: int) -> bool:
    try:
        _run(network, input_size)
    except _REFUSALS:
        return False
    return True


def _refused(name: str, input_size: int, error: Exception | None) -> ConfigError:
    smallest = smallest_input(name)
    if input_size < smallest:
        problem, remedy = f"{input_size} pixels are too few for {name}", f"Use {smallest} or more."
    else:
        reason = " ".join(str(error).split())[:120].rstrip(".")
        problem = f"{name} cannot take {input_size} pixels ({reason})"
        remedy = "Try a multiple of 32, or the size it was made for; most networks of convolutions take any."
    return ConfigError(problem, place="model.input_size", remedy=remedy)


def _depends_on_size(name: str) -> bool:
    return library(name) == "timm" and timm_backbones.depends_on_size(name)


@functools.lru_cache(maxsize=16)
def _on_meta(name: str, input_size: int, expansion: bool = False) -> TorchvisionBackbone | TimmBackbone:
    with torch.device("meta"):
        return backbone(name, input_size, expansion=expansion).eval().to("meta")


@torch.no_grad()
def _run(network: nn.Module, input_size: int) -> tuple[list[Tensor], bool]:
    """The levels, and whether the last layer with weights before the first of them is a normalisation."""
    ran: list[tuple[nn.Module, object]] = []
    hooks = [layer.register_forward_hook(lambda layer, _, out: ran.append((layer, out))) for layer in network.modules()]
    try:
        outputs: list[Tensor] = network(torch.zeros(1, 3, input_size, input_size, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    if any(output.shape[-1] < 1 for output in outputs):
        raise ValueError("nothing is left of the image")
    # In-place activations return their input: the last layer that returns the tensor made the level.
    last = max((index for index, (_, out) in enumerate(ran) if out is outputs[0]), default=-1)
    weighted = [layer for layer, _ in ran[: last + 1] if next(layer.parameters(recurse=False), None) is not None]
    return outputs, bool(weighted) and "norm" in type(weighted[-1]).__name__.lower()
