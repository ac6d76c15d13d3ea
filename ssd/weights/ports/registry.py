"""Recognises and converts checkpoints of other SSD implementations."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ssd.errors import CheckpointError
from ssd.weights.ports import (
    amdegroot,
    caffe,
    chainercv,
    lufficc,
    lufficc_mobilenet,
    mmdetection,
    qfgaohao,
    qfgaohao_mobilenet,
    sgrvinod,
    torchvision,
    torchvision_lite,
)
from ssd.weights.ports.box_tables import BoxTable, refuse_boxes
from ssd.weights.ports.layout import ConvertedCheckpoint, Hints, Port

PORTS: tuple[Port, ...] = (
    torchvision.PORT,
    torchvision_lite.PORT,
    amdegroot.PORT,
    lufficc.PORT,
    lufficc_mobilenet.PORT,
    sgrvinod.PORT,
    qfgaohao.PORT,
    qfgaohao_mobilenet.PORT,
    mmdetection.PORT,
    chainercv.PORT,
    caffe.PORT,
)


def convert_checkpoint(
    state: Mapping[str, Tensor],
    place: object,
    class_names: Sequence[str] | None = None,
    box_table: BoxTable | None = None,
    notes: Mapping[str, Any] | None = None,
) -> ConvertedCheckpoint:
    """Recognise a checkpoint by its keys and translate it.

    Class names are the given ones, else those in the file, else the format's own if their number fits, else `class_0`,
    `class_1` and so on. `box_table` is needed only where a checkpoint's default boxes cannot be known from it. `notes`
    is what lies in the file beside the network.

    Raises:
        CheckpointError: unknown, of a changed architecture, or the class names do not fit.
    """
    for port in PORTS:
        if port.recognises(state):
            if port.own_boxes:
                refuse_boxes(box_table, place)
            return port.read(state, Hints(place, class_names, box_table, notes or {}))
    raise _unknown(state, place)


def is_known(state: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint is a detector's of one of these codes."""
    return any(port.recognises(state) for port in PORTS)


def _unknown(state: Mapping[str, Tensor], place: object) -> CheckpointError:
    if "backbone.conv1_1.weight" in state:
        return CheckpointError(
            "holds this package's weights without their settings",
            place=place,
            remedy="Load the run's .safetensors file; run states are for --resume.",
        )
    seen = ", ".join(list(state)[:5])
    more = f" and {len(state) - 5} more" if len(state) > 5 else ""
    known = "; ".join(f"{port.name} ({port.keys})" for port in PORTS)
    return CheckpointError(
        f"is no checkpoint known here; its keys are {seen}{more}", place=place, remedy=f"Known: {known}."
    )
