"""Changes to a config as the functions take them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ssd.experiment.training_config import Override

Overrides = Sequence[str] | Mapping[str, Any]
"""`{"optim.lr": 1e-3}`, or as on the command line: `("optim.lr=1e-3",)`."""


def as_list(overrides: Overrides) -> list[Override]:
    """One change after another, as `config_file.load` takes them; a text is one change."""
    if isinstance(overrides, str):
        return [overrides]
    return list(overrides.items() if isinstance(overrides, Mapping) else overrides)
