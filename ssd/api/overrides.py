"""Changes to a config as the functions take them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ssd.errors import ArgumentError
from ssd.experiment.training_config import Override

Overrides = Sequence[str] | Mapping[str, Any]
"""`{"optim.lr": 1e-3}`, or as on the command line: `("optim.lr=1e-3",)`."""


def as_list(overrides: Overrides) -> list[Override]:
    """One change after another, as `config_file.load` takes them; a text is one change.

    Raises:
        ArgumentError: neither form.
    """
    if isinstance(overrides, str):
        return [overrides]
    if isinstance(overrides, Mapping) and all(isinstance(key, str) for key in overrides):
        return list(overrides.items())
    if isinstance(overrides, list | tuple) and all(isinstance(one, str) for one in overrides):
        return list(overrides)
    remedy = 'Use {"optim.lr": 1e-3}, or a list of texts such as "optim.lr=1e-3".'
    raise ArgumentError(f"{overrides!r:.80} holds no overrides", place="overrides", remedy=remedy)
