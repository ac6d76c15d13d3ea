"""`convert`: another code's checkpoint becomes a weights file of this package, if it detects the same."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ssd.errors import ArgumentError, CheckpointError, printable
from ssd.images.decode import load_image
from ssd.inference.detector import Detector
from ssd.inference.load import load
from ssd.inference.options import named_options
from ssd.inference.pipelines import NetworkPipeline
from ssd.model.factory import from_settings
from ssd.multibox.default_boxes import boxes_per_cell
from ssd.system.files import check_writable, refuse_existing
from ssd.weights.native import load_weights, save_weights
from ssd.weights.ports.class_names import read_names
from ssd.weights.ports.layout import ConvertedCheckpoint
from ssd.weights.resolve import OURS, find_weights, recognise

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of BatchNorm: no parameters


@dataclass(frozen=True)
class Conversion:
    """The recognised format and the written file."""

    source: Path
    path: Path
    checkpoint: ConvertedCheckpoint
    detections: int  # which are the same before and after

    def to_text(self) -> str:
        """The recognised format, in a few lines for the user to check."""
        settings = self.checkpoint.settings
        boxes, preprocessing, names = settings.boxes, settings.preprocessing, settings.class_names
        count = sum(grid * grid * each for grid, each in zip(boxes.grids, boxes_per_cell(boxes), strict=True))
        shown = printable(", ".join(names) if len(names) <= 8 else f"{', '.join(names[:5])} ... {names[-1]}")
        numbers = ", ".join(f"{value:.6g}" for value in preprocessing.mean)
        spread = (
            ""
            if set(preprocessing.std) == {1.0}
            else f", divided by {', '.join(f'{value:.6g}' for value in preprocessing.std)}"
        )
        colours = f"{preprocessing.channels.upper()} minus {numbers}{spread}"
        size = settings.network.input_size
        parameters = sum(
            tensor.numel() for name, tensor in self.checkpoint.state_dict.items() if not name.endswith(_STATISTICS)
        )
        return "\n".join(
            [
                f"{self.source}: {self.checkpoint.format}",
                f"  network        SSD{size} with {settings.network.backbone}, {parameters:,} parameters",
                f"  classes        {len(names)}: {shown}",
                f"  default boxes  {count}, from {boxes.min_sizes[0]:g} to {boxes.max_sizes[-1]:g} pixels of {size}",
                f"  images         {colours}; resize {preprocessing.resize}",
            ]
        )

    def __repr__(self) -> str:
        settings = self.checkpoint.settings
        kind = f"SSD{settings.network.input_size} {settings.network.backbone}, {settings.num_classes} classes"
        return f"<Conversion: {self.source} ({self.checkpoint.format}) -> {self.path}; {kind}>"


@named_options
def convert(
    source: str | Path,
    out: str | Path,
    *,
    class_names: str | Path | Iterable[str] | None = None,
    boxes: Literal["voc", "coco"] | None = None,
    image: str | Path | None = None,
    force: bool = False,
) -> Conversion:
    """Recognise a checkpoint, translate it, read the new file back and compare; only then does it get its name.

    `class_names` are in the order of training without background, a file with one a line, or one text with commas.
    `boxes` are its default boxes, where the checkpoint cannot tell them. Both are compared on `image`, by default
    coloured noise.

    Raises:
        ArgumentError: `out` is there already (without `force`), is the source itself, or no .safetensors file.
        CheckpointError: the source cannot be used, or the file written detects something else.
    """
    out = Path(out)
    _check_out(out, source, force=force)
    path = find_weights(source)
    _refuse_itself(out, path)
    if isinstance(class_names, str | Path):
        class_names = read_names(str(class_names))
    if isinstance(class_names, Set | Mapping):
        raise ArgumentError("has no order", place="class_names", remedy='Write a list: ["cat", "dog"].')
    found = recognise(path, None if class_names is None else tuple(class_names) or None, boxes)
    unfinished = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        _write(unfinished, path, found)
        objects = _compare(found, unfinished, image)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return Conversion(path, out, found, objects)


def _check_out(out: Path, source: str | Path, *, force: bool) -> None:
    if out.suffix.lower() != ".safetensors":
        raise ArgumentError(f"ends in {out.suffix!r}", place=out, remedy="Name a .safetensors file.")
    if not out.parent.is_dir():
        raise ArgumentError("its folder does not exist", place=out, remedy=f"Make {out.parent} first.")
    _refuse_itself(out, Path(source))
    refuse_existing(out, force=force)
    check_writable(out)


def _refuse_itself(out: Path, source: Path) -> None:
    if out.exists() and source.exists() and out.samefile(source):
        raise ArgumentError("is IN itself", place=out, remedy="Name another file; yours is never changed.")


def _write(path: Path, source: Path, found: ConvertedCheckpoint) -> None:
    if found.format == OURS:  # given other class names: config and figures stay
        extra = load_weights(source)[2]
    else:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        extra = {"converted_from": {"format": found.format, "file": source.name, "sha256": digest}}
    save_weights(path, found.state_dict, found.settings, extra=extra)


def _compare(found: ConvertedCheckpoint, path: Path, image: str | Path | None) -> int:
    """Number of detections, which are the same from the tensors in memory and from the file.

    Raises:
        CheckpointError: they are not, or the network's output is not finite.
    """
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    probe = load_image(image) if image else noise
    network = from_settings(found.settings)
    network.load_state_dict(found.state_dict)
    pipeline = NetworkPipeline(network, found.settings, device="cpu", precision="fp32", backend="torch")
    before = Detector(pipeline).detect(probe)
    after = load(path, device="cpu", precision="fp32", backend="torch").detect(probe)
    same = all(np.array_equal(getattr(before, key), getattr(after, key)) for key in ("boxes", "scores", "labels"))
    if not same or before.class_names != after.class_names:
        raise CheckpointError("the file that was written detects something else", place=path, remedy="Report this.")
    return len(after)
