"""`convert IN OUT.safetensors`: anybody's checkpoint becomes a weights file of this package."""

import argparse
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ssd.commands._shared import add_force, guarded
from ssd.errors import ArgumentError, CheckpointError
from ssd.system.files import refuse_existing

if TYPE_CHECKING:
    from ssd.weights.ports.layout import ConvertedCheckpoint

EPILOG = """examples:
  convert ssd300_mAP_77.43_v2.pth voc.safetensors                       amdegroot/ssd.pytorch
  convert VGG_VOC0712_SSD_300x300_iter_120000.caffemodel voc.safetensors
  convert model.pth cells.safetensors --names labels.txt --boxes voc    lufficc/SSD with classes of one's own

Read are: torchvision ssd300_vgg16, amdegroot/ssd.pytorch, lufficc/SSD, sgrvinod's tutorial (its state dict),
qfgaohao/pytorch-ssd (vgg16-ssd), mmdetection SSD300 and SSD512, chainercv (.npz), Caffe (.caffemodel, or its
blobs as .npz), and our own files, to give their classes other names. `ssd.load` reads all of them as they
are, too; converted, a file says by itself what it needs, and a changed byte in it is noticed.

The new file is read back and compared on an image before it gets its name. Exit code 2: nothing was written."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="ssd convert",
        description="Turn a checkpoint of another SSD code into a weights file of this package.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("source", metavar="IN", help="a checkpoint, a run's folder, hf://owner/name, or coco")
    p.add_argument("out", metavar="OUT", type=Path, help="the file to write, ending in .safetensors")
    p.add_argument("--names", metavar="FILE|a,b,c", help="class names in the order of training, background left out")
    p.add_argument("--boxes", choices=("voc", "coco"), help="its default boxes, where the checkpoint cannot tell them")
    p.add_argument("--image", metavar="IMAGE", help="compare on this image; default: coloured noise")
    add_force(p)
    return p


@guarded
def main(argv: list[str] | None = None) -> int:
    """Recognise, translate, write, read back, compare; only then does the file get its name."""
    args = parser().parse_args(argv)
    _check_out(args.out, args.source, force=args.force)

    from ssd.weights.ports.class_names import read_names
    from ssd.weights.resolve import find_weights, recognise  # brings torch, so only now

    path = find_weights(args.source)
    found = recognise(path, read_names(args.names) if args.names else None, args.boxes)
    print(_describe(str(path), found))
    unfinished = args.out.with_name(f".{args.out.name}.tmp-{os.getpid()}")
    try:
        _write(unfinished, path, found)
        objects = _compare(found, unfinished, args.image)
        unfinished.replace(args.out)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"  compared       the same {objects} detections before and after")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


def _check_out(out: Path, source: str, *, force: bool) -> None:
    if out.suffix.lower() != ".safetensors":
        raise ArgumentError(f"ends in {out.suffix!r}", place=out, remedy="Name a .safetensors file.")
    if not out.parent.is_dir():
        raise ArgumentError("its folder does not exist", place=out, remedy=f"Make {out.parent} first.")
    if out.exists() and Path(source).exists() and out.samefile(source):
        raise ArgumentError("is IN itself", place=out, remedy="Name another file; yours is never changed.")
    refuse_existing(out, force=force)


def _describe(source: str, found: "ConvertedCheckpoint") -> str:
    """What was recognised, in the lines a user would check."""
    from ssd.multibox.default_boxes import boxes_per_cell

    settings = found.settings
    boxes, preprocessing, names = settings.boxes, settings.preprocessing, settings.class_names
    count = sum(grid * grid * each for grid, each in zip(boxes.grids, boxes_per_cell(boxes), strict=True))
    shown = ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:5])} ... {names[-1]}"
    numbers = ", ".join(f"{value:.6g}" for value in preprocessing.mean)
    spread = (
        ""
        if set(preprocessing.std) == {1.0}
        else f", divided by {', '.join(f'{value:.6g}' for value in preprocessing.std)}"
    )
    size = settings.network.input_size
    parameters = sum(tensor.numel() for name, tensor in found.state_dict.items() if "running" not in name)
    return "\n".join(
        [
            f"{source}: {found.format}",
            f"  network        SSD{size} with {settings.network.backbone}, {parameters:,} parameters",
            f"  classes        {len(names)}: {shown}",
            f"  default boxes  {count}, from {boxes.min_sizes[0]:g} to {boxes.max_sizes[-1]:g} pixels of {size}",
            f"  images         {preprocessing.channels.upper()} minus {numbers}{spread}; resize {preprocessing.resize}",
        ]
    )


def _write(path: Path, source: Path, found: "ConvertedCheckpoint") -> None:
    from ssd.weights.native import load_weights, save_weights
    from ssd.weights.resolve import OURS

    if found.format == OURS:  # given other class names: config and figures stay
        extra = load_weights(source)[2]
    else:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        extra = {"converted_from": {"format": found.format, "file": source.name, "sha256": digest}}
    save_weights(path, found.state_dict, found.settings, extra=extra)


def _compare(found: "ConvertedCheckpoint", path: Path, image: str | None) -> int:
    """Number of detections, which are the same from the tensors in memory and from the file.

    Raises:
        CheckpointError: they are not, or the network's output is not finite.
    """
    import numpy as np

    from ssd.images.decode import load_image
    from ssd.inference.detector import Detector, load
    from ssd.model.factory import from_settings

    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    probe = load_image(image) if image else noise
    network = from_settings(found.settings)
    network.load_state_dict(found.state_dict)
    before = Detector(network, found.settings, device="cpu", precision="fp32", backend="torch").detect(probe)
    after = load(path, device="cpu", precision="fp32", backend="torch").detect(probe)
    same = all(np.array_equal(getattr(before, key), getattr(after, key)) for key in ("boxes", "scores", "labels"))
    if not same or before.class_names != after.class_names:
        raise CheckpointError("the file that was written detects something else", place=path, remedy="Report this.")
    return len(after)
