"""The sets of default boxes to compare: the tables at 300 and 512 pixels, and those of the config."""

from dataclasses import dataclass

from ssd.model.factory import settings_for
from ssd.multibox.default_boxes import Table
from ssd.settings import BoxSettings

_TABLES: tuple[Table, ...] = ("voc", "coco", "fine")
_INPUTS = (300, 512)


@dataclass(frozen=True)
class BoxPreset:
    """One set of default boxes, and its config values."""

    name: str
    values: str
    boxes: BoxSettings


def box_presets(own: BoxSettings) -> tuple[BoxPreset, ...]:
    """The tables at 300 and 512 pixels, the config's own default boxes first."""
    tables = [
        BoxPreset(
            f"SSD{size} {table}",
            f"model.input_size={size} model.box_table={table}",
            settings_for(("object",), input_size=size, table=table).boxes,
        )
        for size in _INPUTS
        for table in _TABLES
    ]
    ours = next((choice for choice in tables if choice.boxes == own), BoxPreset("config", "", own))
    return ours, *(choice for choice in tables if choice != ours)
