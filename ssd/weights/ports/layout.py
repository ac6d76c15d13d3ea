"""Names and shapes of the layers to which foreign names are mapped: SSD with VGG16, and any other network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ssd.errors import CheckpointError
from ssd.model.factory import from_settings
from ssd.model.vgg import CHANNELS, CONFIGURATIONS
from ssd.settings import BoxSettings, Settings
from ssd.weights.ports.box_tables import BoxTable

# Output channels of the extra layers after conv7, by their number; the first is wider.
_EXTRAS = {8: (256, 512)}
_NARROW = (128, 256)

_CHANGED = "Was the network changed? Only the published architecture can be read."


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """A foreign checkpoint, translated: our names, and the settings its weights were trained with."""

    state_dict: dict[str, Tensor]
    settings: Settings
    format: str


@dataclass(frozen=True)
class Hints:
    """Facts about a checkpoint besides its tensors: its file, the caller's arguments, and other values in the file."""

    place: object
    class_names: Sequence[str] | None = None
    box_table: BoxTable | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """An implementation with readable checkpoints: its name, a description of its keys, and two functions.

    `own_boxes`: its default boxes are the same whatever it was trained on, so that none can be named.
    """

    name: str
    keys: str
    recognises: Callable[[Mapping[str, Tensor]], bool]
    read: Callable[[Mapping[str, Tensor], Hints], ConvertedCheckpoint]
    own_boxes: bool = False


def convolutions(backbone: str = "vgg16", *, batch_norm: bool = False) -> dict[str, int]:
    """Names of a VGG's 3x3 convolutions and their places in torchvision's `features`, which other ports share.

    A convolution is followed by its BatchNorm if there is one, and its ReLU; a stage ends with a pool.
    """
    places: dict[str, int] = {}
    place = 0
    for stage, depth in enumerate(CONFIGURATIONS[backbone], start=1):
        for index in range(1, depth + 1):
            places[f"{stage}_{index}"] = place
            place += 3 if batch_norm else 2
        place += 1
    return places


def extras(levels: int) -> list[str]:
    """Names of the convolutions behind conv7 of a network with that many levels: 8_1, 8_2, 9_1 and so on."""
    return [f"{number}_{half}" for number in range(8, 8 + levels - 2) for half in (1, 2)]


def parameters(layers: Mapping[str, str]) -> dict[str, str]:
    """Their name of each parameter -> ours, from their name of each convolution -> ours."""
    return {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in layers.items() for part in ("weight", "bias")}


def rename(state: Mapping[str, Tensor], names: Mapping[str, str], place: object, kind: str) -> dict[str, Tensor]:
    """Give every tensor our name; the two sets of names must match exactly.

    Raises:
        CheckpointError: names the missing or surplus tensors.
    """
    lacking = [name for name in names if name not in state]
    left = [name for name in state if name not in names]
    for found, verb in ((lacking, "lacks"), (left, "also has")):
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise CheckpointError(f"looks like {kind}, but {verb} {found[0]!r}{more}", place=place, remedy=_CHANGED)
    return {ours: state[theirs] for theirs, ours in names.items()}


def count_outputs(state: Mapping[str, Tensor]) -> int:
    """Classes of a renamed SSD with background, by its first level of four boxes; the shapes are not checked."""
    return state["head.classes.0.bias"].numel() // 4


def count_classes(state: Mapping[str, Tensor], boxes: BoxSettings, place: object) -> int:
    """Foreground classes of a renamed SSD, after checking every shape against `boxes`.

    Raises:
        CheckpointError: names the tensor whose shape does not fit.
    """
    per_cell = [2 + 2 * len(ratios) for ratios in boxes.aspect_ratios]
    columns = state["head.classes.0.bias"].numel() // per_cell[0]
    expected = dict(_shapes(per_cell, columns))
    for name, tensor in state.items():
        shape = expected[name] if name in expected else _norm_shape(name)
        _check_shape(name, tensor, shape, place)
    return foreground(columns, 1, place)


def translate(
    state: Mapping[str, Tensor], settings: Settings, theirs: Callable[[str], str], place: object, kind: str
) -> dict[str, Tensor]:
    """The weights of the network that `settings` describe, as float32; `theirs` gives their name of one of ours.

    A bias in front of a BatchNorm, which has none here, is subtracted from the running mean: the output is the same.
    Counters of batches, which PyTorch below 0.4.1 does not save, may be missing.

    Raises:
        CheckpointError: names the missing or surplus tensors, or the one with another shape.
    """
    with torch.device("meta"):
        target = from_settings(settings).state_dict()
    names = {theirs(ours): ours for ours in target}
    known, state = {ours: name for name, ours in names.items()}, dict(state)
    for ours in target:
        if ours.endswith("num_batches_tracked"):
            state.setdefault(known[ours], torch.zeros((), dtype=torch.long))
            norm = ours.removesuffix(".num_batches_tracked")
            bias = known.get(f"{_before(norm)}.weight", "").removesuffix("weight") + "bias"
            mean = known[f"{norm}.running_mean"]
            if bias in state and bias not in names and mean in state and state[bias].shape == state[mean].shape:
                state[mean] = state[mean] - state.pop(bias)
    renamed = rename(state, names, place, kind)
    for name, tensor in renamed.items():
        _check_shape(name, tensor, tuple(target[name].shape), place)
    return as_float(renamed)


def _before(norm: str) -> str:
    """Name of the convolution in front of a norm layer of SSDLite's heads and extra layers."""
    part, _, last = norm.rpartition(".")
    return f"{part}.{'depthwise' if last == 'norm' else last.replace('norm', 'conv')}"


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...], place: object) -> None:
    if tuple(tensor.shape) != shape:
        raise CheckpointError(f"{name} has shape {tuple(tensor.shape)}, not {shape}", place=place, remedy=_CHANGED)


def foreground(outputs: int, boxes: int, place: object) -> int:
    """Foreground classes of a class predictor with so many outputs for the `boxes` of a cell.

    Raises:
        CheckpointError: there is none.
    """
    if outputs // boxes < 2:
        raise CheckpointError("has no class besides the background", place=place, remedy=_CHANGED)
    return outputs // boxes - 1


def as_float(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor as float32, except BatchNorm's counter of batches; call it when the shapes are known to be right."""
    return {
        name: (tensor.long() if name.endswith("num_batches_tracked") else tensor.float()).contiguous()
        for name, tensor in state.items()
    }


def convolution_shapes(
    backbone: str = "vgg16", *, atrous: bool = True
) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Name and weight shape of each convolution of the changed VGG, conv6 and conv7 last: thinned out if `atrous`."""
    inputs = 3
    for name in convolutions(backbone):
        outputs = CHANNELS[int(name[0]) - 1]
        yield f"conv{name}", (outputs, inputs, 3, 3)
        inputs = outputs
    units, side = (1024, 3) if atrous else (4096, 7)
    yield "conv6", (units, 512, side, side)
    yield "conv7", (units, units, 1, 1)


def _shapes(per_cell: Sequence[int], columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every parameter of SSD with VGG16, but for the first level's normalisation."""
    weights = [(f"backbone.{name}", shape) for name, shape in convolution_shapes()]
    sources = [512, 1024]
    for number in range(8, 8 + len(per_cell) - 2):
        narrow, wide = _EXTRAS.get(number, _NARROW)
        # The twelfth is the only 4x4: it takes SSD512 from two cells to one.
        side = 4 if number == 12 else 3
        weights.append((f"extras.conv{number}_1", (narrow, sources[-1], 1, 1)))
        weights.append((f"extras.conv{number}_2", (wide, narrow, side, side)))
        sources.append(wide)
    for level, boxes, source in zip(count(), per_cell, sources, strict=False):
        weights.append((f"head.boxes.{level}", (boxes * 4, source, 3, 3)))
        weights.append((f"head.classes.{level}", (boxes * columns, source, 3, 3)))
    for name, shape in weights:
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]


def _norm_shape(name: str) -> tuple[int, ...]:
    """Of the first level's normalisation: L2's scale, or BatchNorm's five tensors."""
    assert name.startswith("first_norm."), name
    return () if name.endswith("num_batches_tracked") else (512,)
