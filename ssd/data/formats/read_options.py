"""The options with which the annotations of a split are read."""

from collections.abc import Sequence
from dataclasses import dataclass

from ssd.data.formats.division import VAL_FRACTION
from ssd.data.formats.grouping import AUTO
from ssd.data.formats.voc import Offset


@dataclass(frozen=True)
class ReadOptions:
    """How the annotations of a split are read: keys of `data` in a config, with their meanings."""

    classes: Sequence[str] | None = None
    voc_offset: Offset = "1"
    allow_outside: bool = False
    val_fraction: float = VAL_FRACTION
    group: str = AUTO


DEFAULT_OPTIONS = ReadOptions()
