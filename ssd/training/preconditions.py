"""Checks before a run for mistakes that would stop it later."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ssd.errors import ConfigError


def check_text(values: Mapping[str, Any]) -> None:
    """Refuse text that cannot be written as UTF-8, such as half a surrogate pair.

    Raises:
        ConfigError: names the key and shows the text.
    """
    for key, text in _texts(values, ""):
        try:
            text.encode()
        except UnicodeEncodeError:
            remedy = "Rename it; for a folder, a link with another name will do (ln -s FOLDER LINK)."
            raise ConfigError(f"{text!a} is not valid Unicode", place=key, remedy=remedy) from None


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, key)


def check_batch_norm(network: nn.Module, input_size: int, images: int) -> None:
    """Refuse to train with one image per process where BatchNorm would get a single value of a channel.

    Raises:
        ConfigError: a BatchNorm would.
    """
    if images > 1 or not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules()):
        return
    shapes_only = copy.deepcopy(network).to("meta").train()  # computes nothing
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            shapes_only(torch.zeros(1, 3, input_size, input_size, device="meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "BatchNorm cannot be trained with one image per process, where a level is one cell",
            place="train.batch_size",
            remedy="Use train.batch_size=2 (of each process), or model.extras_norm=group.",
        ) from None
