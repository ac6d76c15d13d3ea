"""timm networks with feature taps where the stride changes; timm comes with the extra `backbones`."""

import difflib
import functools
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ssd.errors import ConfigError, MissingExtraError
from ssd.system.optional import load_extra

_PLACE = "model.backbone"


def create(name: str, strides: tuple[int, ...], input_size: int) -> tuple[tuple[int, ...], nn.Module]:
    """Build a network that returns its features at `strides`, as far as it has them; also returns the strides it has.

    Raises:
        ConfigError: no such network, no feature taps, or the first two strides are not among them.
        MissingExtraError: timm is not installed.
    """
    having = _taps(name)
    chosen = tuple(stride for stride in strides if stride in having)
    if chosen[:2] != strides[:2]:
        problem = f"{name} gives features at strides {', '.join(map(str, sorted(having)))}"
        wanted = " and ".join(map(str, strides[:2]))
        raise ConfigError(problem, place=_PLACE, remedy=f"SSD needs strides {wanted}: take another network.")
    sized = {"img_size": input_size} if depends_on_size(name) else {}
    return chosen, _create(name, out_indices=tuple(having[stride] for stride in chosen), **sized)


@functools.lru_cache(maxsize=64)
def depends_on_size(name: str) -> bool:
    """Whether the network is built for one input size, as most transformers are."""
    try:
        with torch.device("meta"):
            _create(name, img_size=256)
    except TypeError:  # convolutional networks have no such argument
        return False
    return True


@functools.lru_cache(maxsize=64)
def _taps(name: str) -> dict[int, int]:
    """Stride -> timm's number for the last tap that has it."""
    with torch.device("meta"):
        info = _create(name).feature_info
    return dict(zip(info.reduction(), info.out_indices, strict=True))


def _create(name: str, **options: Any) -> Any:
    timm = module(name)
    try:
        return timm.create_model(name, pretrained=False, features_only=True, **options)
    except RuntimeError as error:
        if "features_only" in str(error):
            raise ConfigError(f"{name} has no feature taps", place=_PLACE, remedy="Take another network.") from None
        raise


def has_lost_tables(network: nn.Module) -> bool:
    """Whether the network is on the meta device and has computed tables (windows, blurring) that weights lack."""
    saved = network.state_dict().keys()
    return any(table.is_meta and name not in saved for name, table in network.named_buffers())


def module(name: str) -> ModuleType:
    """Import timm, which must know a network of this name.

    Raises:
        ConfigError: it does not.
        MissingExtraError: it is not installed.
    """
    try:
        timm: ModuleType = load_extra("timm", "backbones")
    except MissingExtraError as error:
        problem = f"{name!r} is no VGG and not torchvision's; others come from timm, which is not installed"
        raise MissingExtraError(problem, place=_PLACE, remedy=error.remedy) from None
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, dict.fromkeys(timm.list_models()), n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else "Take a VGG, or see timm.list_models()."
        raise ConfigError(f"no backbone {name!r}", place=_PLACE, remedy=hint)
    return timm
